// The graph of one sealed segment: which rows are near which, in the words of HNSW, of which it is the lowest layer.
//
// Nodes are the rows of the segment, by number (of equal rows the first: twins.h). A row of links has room for 2 M of
// them, nearest first; the rest is filled with the row's own number. In place of HNSW's upper layers there is a router:
// some of the rows (router.h), scored one after the other, the nearest of which a walk begins at (as good for 64 to 256
// of them, and nothing to build or keep).
//
// A graph may also be over some of the segment's rows: then node n is row segment_rows[n], and everything in the graph
// (links, twins, router) is in nodes. So where a row of the segment is meant, segment_row() leads to it.
//
// A GraphView is what a search reads, wherever it lies: in memory just built, or in a mapped file.
//
// Thread-safety: constant; any number of threads search at once.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "hnsw/buffer.h"
#include "hnsw/code.h"
#include "hnsw/graph_guard.h"
#include "hnsw/parameters.h"
#include "hnsw/twins.h"

namespace ehub::hnsw {

// What calibration found out about a graph.
struct Calibration {
  uint32_t ef = 0;          // reaches the target recall at k = 10
  uint32_t rerank_min = 0;  // candidates whose exact distance is looked at in any case
};

// Of the router's rows, the nearest so many begin a walk.
inline constexpr size_t kEntries = 4;

struct GraphView {
  uint32_t rows = 0;                       // nodes and their twins
  std::span<const uint32_t> segment_rows;  // [rows], ascending; empty if they are all rows of the segment
  uint32_t link_stride = 0;                // u32 per row of links: 2 M rounded up to 64 bytes
  const uint32_t* links = nullptr;         // [rows][link_stride]
  CodeSet codes;
  std::vector<uint32_t> router;  // router.h
  CodeSet router_codes;          // of these, in this order; empty if `codes` is
  TwinsView twins;
  Calibration calibration;
  const GraphGuard* guard = nullptr;  // of a mapped file; null: all of it is good

  // What a walk must ask before it touches anything; null: nothing.
  const GraphGuard* asked() const { return guard == nullptr || guard->all_good() ? nullptr : guard; }
  uint32_t segment_row(uint32_t node) const { return segment_rows.empty() ? node : segment_rows[node]; }
  const uint32_t* links_of(uint32_t row) const { return links + size_t{row} * link_stride; }
};

}  // namespace ehub::hnsw
