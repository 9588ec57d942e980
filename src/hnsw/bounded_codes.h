// Codes that say how near a row can be at most: what is farther than that need not be read.
//
// Of each row there are codes of 8 bits a dimension and how far they are off. Let q and x be the residuals of query and
// row, and q' and x' what their codes stand for. By Cauchy and Schwarz
//
//     |<q, x> - <q', x'>| <= |q'| |x - x'| + |q - q'| |x|,
//
// so twice this much below the distance of the codes the row cannot be. All that float32 rounds is added to it: here,
// in the distance of the codes, and in the distance that a scan (kernels/scan.h) would find. So a row that is ruled out
// is farther than the limit by that scan's own arithmetic, to the bit; one that is not may be anywhere.
//
// A vector of another magnitude than 1e18 is not judged: such a row is never ruled out, and such a query rules out
// none.
//
// Thread-safety: constant once made.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "hnsw/buffer.h"
#include "hnsw/code.h"
#include "kernels/kernels.h"

namespace ehub::hnsw {

// A query against the codes that one encoder makes.
class BoundedQuery {
 public:
  // `norm_squared`: of the query as a scan takes it, for cosine; else it does not count.
  BoundedQuery(const Encoder& encoder, const float* query, float norm_squared);

  // Whether it rules out any row.
  bool is_usable() const { return is_usable_; }
  // The bound beyond which a row's distance is beyond `distance`.
  float limit(float distance) const;

 private:
  friend class BoundedCodes;

  Metric metric_;
  double shift_ = 0;   // from a distance to that of codes, for inner product
  double margin_ = 0;  // of rounding, whatever the row
  bool is_usable_ = false;
  std::vector<int8_t> codes_;
  int32_t sum_ = 0;       // of the codes
  float scale_ = 0;       // ... which stand for so much each
  float norm_ = 0;        // squared, lowered
  float per_error_ = 0;   // what the bound falls by, for each unit of a row's error ...
  float per_length_ = 0;  // ... and of its length
};

// Codes of neighbouring rows.
class BoundedCodes {
 public:
  // Rows that are asked about together.
  static constexpr size_t kGroupRows = 64;

  // Of rows[n][dims]. Null if there is no memory for it.
  static std::unique_ptr<const BoundedCodes> make(const Encoder& encoder, const float* rows, size_t n);
  // The memory of so many.
  static size_t bytes(size_t dims, size_t n);

  size_t rows() const { return rows_; }
  // Of rows 64 * group and up: bit i is set unless row i is ruled out by query.limit(). Bits beyond rows() are not set.
  uint64_t not_beyond(const KernelTable& kernels, const BoundedQuery& query, float limit, size_t group) const;

 private:
  BoundedCodes(size_t code_bytes, size_t n, Buffer memory)
      : code_bytes_(code_bytes), rows_(n), memory_(std::move(memory)) {}

  struct Bounds;
  static size_t group_bytes(size_t code_bytes);
  Bounds* bounds_of(size_t group);
  void put(size_t row, const Encoder& encoder, const float* residual);

  size_t code_bytes_;
  size_t rows_;
  // Group by group, so that memory is read in one stream: codes, then norms, scales, errors, lengths.
  Buffer memory_;
};

}  // namespace ehub::hnsw
