// Rows that are equal to the bit. One of them, the first, is a node of the graph for all; the others, its twins, come
// with it into an answer.
//
// Otherwise a crowd of equal rows would link to itself and fill a walk's candidates with itself: a place that a walk
// does not come out of.
//
// Thread-safety: constant.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/metric.h"
#include "hnsw/bitmap.h"

namespace ehub::hnsw {

// Where twins are, in memory or in a mapped file.
struct TwinsView {
  std::span<const uint32_t> nodes;      // that have twins, ascending
  std::span<const uint32_t> begins;     // nodes.size() + 1: where in `rows` their twins are
  std::span<const uint32_t> rows;       // ascending for each node
  const uint64_t* has_twins = nullptr;  // a bit a row: of `nodes`; null if there are none

  bool empty() const { return nodes.empty(); }
  // The twins of a row; none if it is no node.
  std::span<const uint32_t> of(uint32_t row) const;
  // out[words_of(rows)]: the nodes that are in `wanted`, or that have a twin which is.
  void spread(const uint64_t* wanted, size_t rows_count, uint64_t* out) const;
};

// Per row of [0, rows) the node that it is a twin of, or the row itself.
std::vector<uint32_t> nodes_of_rows(size_t rows, const TwinsView& twins);

class Twins {
 public:
  Twins() = default;
  // Finds the equal ones among rows[n][dims].
  Twins(const float* rows, size_t n, size_t dims);

  TwinsView view() const;
  const std::vector<uint64_t>& has_twins() const { return has_twins_; }

 private:
  void add_group(std::span<const uint32_t> group);

  std::vector<uint32_t> nodes_;
  std::vector<uint32_t> begins_;
  std::vector<uint32_t> rows_;
  std::vector<uint64_t> has_twins_;
};

}  // namespace ehub::hnsw
