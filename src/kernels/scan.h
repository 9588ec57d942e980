// The exact top-k scan: queries against the selected rows of one contiguous block.
//
// A caller makes one TopK per query, scans each block of rows it has (one per segment) into them, and takes the sorted
// answer. Rows are named by a 64-bit ordinal that the caller chooses; ties in distance go to the smaller ordinal, so an
// answer does not depend on the order of blocks or on the number of threads.
//
// Thread-safety: a TopK belongs to one thread; scan_block is pure otherwise. No allocation after a TopK is made.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/metric.h"
#include "kernels/kernels.h"

namespace ehub {

struct Neighbor {
  float distance;
  uint64_t row;
};

// Nearer first; of equal distances the smaller row first.
inline bool nearer(const Neighbor& a, const Neighbor& b) {
  return a.distance != b.distance ? a.distance < b.distance : a.row < b.row;
}

// The k nearest rows seen so far, none farther than `distance_max`. A NaN distance (inf - inf of huge vectors) counts
// as +infinity.
class TopK {
 public:
  explicit TopK(size_t k, float distance_max = kUnlimited);

  // Empties it, for the k nearest; keeps its memory.
  void reset(size_t k, float distance_max = kUnlimited);
  size_t size() const { return heap_.size(); }
  // A row farther than this cannot enter.
  float threshold() const { return threshold_; }
  // True if the row is now among them.
  bool push(float distance, uint64_t row);
  // An empty one of as many rows, for another scan of the same query: what cannot enter this one does not enter it.
  TopK beside() const { return TopK(k_, threshold_); }
  // Adds what another scan of the same query found. Requires: none of its rows is in this one.
  void merge(const TopK& other);
  // The answer, nearest first; leaves this empty.
  std::vector<Neighbor> take_sorted();

  static const float kUnlimited;  // +infinity: everything may enter

 private:
  size_t k_;
  float distance_max_;
  float threshold_;
  std::vector<Neighbor> heap_;  // farthest first
};

// Scans `n` contiguous rows for `m` queries into heaps[0..m). Row i has the ordinal `row_base + i`.
// `selected`: one bit per row (bit i & 63 of word i >> 6), or null for all rows; bits at and beyond n are ignored.
// `query_norms_squared`: per query, needed for Metric::kCosine only (else null).
void scan_block(const KernelTable& kernels, Metric metric, const float* queries, const float* query_norms_squared,
                size_t m, const float* rows, size_t n, size_t dims, const uint64_t* selected, uint64_t row_base,
                TopK* heaps);

// How long scan_block takes for many queries over these selected rows, in rows of an unbroken run.
uint64_t scan_cost(const uint64_t* selected, size_t n);

// The distances of one query to `n` rows that lie apart, the same to the bit as a scan finds.
// `query_norm_squared`: for Metric::kCosine only.
void distances_apart(const KernelTable& kernels, Metric metric, const float* query, float query_norm_squared,
                     const float* const* rows, size_t n, size_t dims, float* out);

// The first of `n` rows that may not be stored under `metric`, or `n` if all may: a row with a NaN or an infinity, and
// under Metric::kCosine one whose squared norm is not a normal float32 (zero vectors, and norms below about 1e-19 or
// above about 1e19: their angle would be rounding noise).
size_t first_invalid_row(const KernelTable& kernels, Metric metric, const float* rows, size_t n, size_t dims);

}  // namespace ehub
