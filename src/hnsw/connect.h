// No row without a way to it: rows that a walk cannot come to, or does not, are linked from near ones that it comes to.
//
// Thread-safety: pure, but for the links that are given.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "hnsw/build_distances.h"
#include "hnsw/graph.h"

namespace ehub::hnsw {

// `links`: of `view`, to be changed. `nodes`: the rows that are in the graph. All of them are reached from the first
// row of the router afterwards; the number of rows for which no place was found is returned (0 but for made-up graphs).
uint64_t connect_rows(const GraphView& view, std::span<const uint32_t> nodes, const BuildDistances& distances,
                      size_t ef, uint32_t* links, size_t links_max);

// A row that a walk for it misses, though it begins and goes as a narrow search does, gets a link from the nearest row
// on the way that has a place for one: so every row finds itself with any ef. `walk_codes`: those that searches will
// walk by. The same links for any number of threads. Not for inner product, where a row need not be among its own
// nearest.
void make_findable(const GraphView& view, std::span<const uint32_t> nodes, const BuildDistances& distances,
                   const CodeSet& walk_codes, Team& team, uint32_t* links, size_t links_max);

}  // namespace ehub::hnsw
