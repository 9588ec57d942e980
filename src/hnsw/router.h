// The router: rows that every walk scores first, to begin at the nearest of them.
//
// Thread-safety: pure functions.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ehub::hnsw {

// How many rows of so many bytes are worth it.
size_t router_rows_max(size_t code_bytes);

// At most `count` of the rows, evenly spread over them.
std::vector<uint32_t> spread_rows(std::span<const uint32_t> rows, size_t count);

// At most `count` of the rows: half the longest ones, which are the answers to most queries under inner product, and
// half spread over the others. A walk need not come to a long row from shorter ones that all look like better ways.
// `vectors`: float32[][dims], of which `rows` are numbers.
std::vector<uint32_t> long_and_spread_rows(std::span<const uint32_t> rows, size_t count, const float* vectors,
                                           size_t dims);

}  // namespace ehub::hnsw
