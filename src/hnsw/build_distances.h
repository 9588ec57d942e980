// Distances between rows while a graph is built, from their codes.
//
// They are squared Euclidean distances whatever the metric: for inner product, each row is thought to have one more
// dimension that brings all rows to the length of the longest, which makes the nearest of a query the one with the
// largest product (the reduction of Bachrach et al., RecSys 2014).
//
// Thread-safety: constant once made.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hnsw/code.h"
#include "hnsw/team.h"
#include "hnsw/walk.h"

namespace ehub::hnsw {

class BuildDistances {
 public:
  // `codes`: of all rows, in 8 or 16 bits, with the squared norms of their residuals. `lifts`: per row the value of the
  // additional dimension, or empty.
  BuildDistances(const KernelTable& kernels, const CodeSet& codes, size_t rows, std::vector<float> lifts, Team& team);

  const CodeSet& codes() const { return codes_; }
  // `row` as a query.
  void set_query(uint32_t row, CodedQuery& query) const { query_of_row(codes_, row, sums_[row], query); }
  // out[i]: the squared distance between `row`, of which `query` is, and rows[i].
  void score(uint32_t row, const CodedQuery& query, const uint32_t* rows, size_t n, float* out) const;

 private:
  const KernelTable& kernels_;
  CodeSet codes_;
  std::vector<int32_t> sums_;
  std::vector<float> lifts_;
};

// The distances from one row, for a walk.
class RowDistances final : public Distances {
 public:
  explicit RowDistances(const BuildDistances& distances) : distances_(distances) {
    memory = distances.codes().codes;
    stride = distances.codes().code_bytes;
    lines = stride / 64;
    metas = distances.codes().metas;
  }
  void set_row(uint32_t row) {
    row_ = row;
    distances_.set_query(row, query_);
  }
  Status score(const uint32_t* rows, size_t n, float* out) override {
    distances_.score(row_, query_, rows, n, out);
    return {};
  }

 private:
  const BuildDistances& distances_;
  uint32_t row_ = 0;
  CodedQuery query_;
};

}  // namespace ehub::hnsw
