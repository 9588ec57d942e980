// Distances between rows while a graph is built, from their codes.
//
// They are those of the metric: squared Euclidean ones, or for inner product -2 times the product. Links by product
// lead to the rows that are the answers of products, the long ones (ip-NSW, Morozov and Babenko, NeurIPS 2018). With
// one more dimension that makes all rows equally long, which also turns products into distances, a query is far from
// every row, and recall at ef = 100 on rows of different lengths was 0.42 where this has 0.99.
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
  // `codes`: of all rows, in 8 or 16 bits. Their norms are those of Encoder::build_norm().
  BuildDistances(const KernelTable& kernels, Metric metric, const CodeSet& codes, size_t rows, Team& team);

  Metric metric() const { return metric_; }
  const KernelTable& kernels() const { return kernels_; }
  const CodeSet& codes() const { return codes_; }
  // `row` as a query.
  void set_query(uint32_t row, CodedQuery& query) const { query_of_row(codes_, row, sums_[row], query); }
  // out[i]: the distance between the row that `query` is of and rows[i].
  void score(const CodedQuery& query, const uint32_t* rows, size_t n, float* out) const {
    code_distances(kernels_, codes_, query, rows, n, out);
  }

 private:
  const KernelTable& kernels_;
  const Metric metric_;
  const CodeSet codes_;
  std::vector<int32_t> sums_;
};

// The distances from one row, for a walk.
class RowDistances final : public Distances {
 public:
  explicit RowDistances(const BuildDistances& distances) : RowDistances(distances, distances.codes()) {}
  // To rows as `codes` has them, which may be of 4 bits if the build's are of 8.
  RowDistances(const BuildDistances& distances, const CodeSet& codes) : distances_(distances), codes_(codes) {
    memory = codes_.codes;
    stride = codes_.code_bytes;
    lines = stride / 64;
    beside = codes_.beside();
    beside_bytes = codes_.beside_bytes();
  }
  void set_row(uint32_t row) { distances_.set_query(row, query_); }
  // Asks for all of a row, into the second cache: the first has no room for as many requests.
  void prefetch_all(uint32_t row) const {
    const uint8_t* code = codes_.codes + row * codes_.code_bytes;
    for (size_t at = 0; at < codes_.code_bytes; at += 64) __builtin_prefetch(code + at, 0, 2);
    __builtin_prefetch(codes_.metas + row, 0, 2);
  }
  Status score(const uint32_t* rows, size_t n, float* out) override {
    code_distances(distances_.kernels(), codes_, query_, rows, n, out);
    return {};
  }

 private:
  const BuildDistances& distances_;
  const CodeSet codes_;
  CodedQuery query_;
};

}  // namespace ehub::hnsw
