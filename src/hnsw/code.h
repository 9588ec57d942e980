// Codes: rows in few bits, from which a walk over the graph reads its distances.
//
// A row is normalised (cosine), centred on the mean of the rows, rotated if that helps, and then rounded to integers
// under a scale of its own. The distance of a coded query and a row is
//
//     norm(query) + norm(row) - 2 scale(query) scale(row) * (an exact integer product),
//
// an estimate of the squared Euclidean distance of the two (of their directions, for cosine); for inner product the
// norms are 0, and it is -2 times the product but for a constant of the query. Encoding uses plain arithmetic in a
// fixed order, so that the same rows give the same codes on every machine and instruction set.
//
// Thread-safety: an Encoder is constant once learned.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/metric.h"
#include "hnsw/buffer.h"
#include "hnsw/rotation.h"
#include "kernels/kernels.h"

namespace ehub::hnsw {

class Team;

// Bits of a dimension. The numbers are on disk.
enum class CodeWidth : uint32_t {
  k4 = 4,
  k8 = 8,
  k16 = 16,
  kNone = 32,  // the float32 rows themselves
};

// What goes with the codes of a row.
struct RowMeta {
  float norm;   // squared, of the centred row; 0 for inner product
  float scale;  // of its codes
};
static_assert(sizeof(RowMeta) == 8);

// What a walk reads of a row besides the lines of its codes. Where a row would end in a line for the sake of a few
// values, these are here, and the line is spared.
struct CodeTail {
  uint8_t last[8];  // of u8 the values; of 4 bits the first 8 in the lower halves, the next 8 in the upper ones
  RowMeta meta;
};
static_assert(sizeof(CodeTail) == kCodeEndBytes);

// A query against codes of one width. Memory is kept from one query to the next.
struct CodedQuery {
  std::vector<int16_t> values;  // s16[d], or s8[d] in the same memory
  std::vector<float> scratch;
  int32_t sum = 0;  // of the values (4 and 8 bits)
  float norm = 0;
  float twice_scale = 0;

  const int8_t* bytes() const { return reinterpret_cast<const int8_t*>(values.data()); }
  int8_t* bytes() { return reinterpret_cast<int8_t*>(values.data()); }
};

class Encoder {
 public:
  // Of no rows yet: restored from a file.
  Encoder(Metric metric, size_t dims, std::vector<float> mean, std::optional<uint64_t> rotation_seed);
  // The mean of rows[n][dims], and a rotation if it lowers the error of 8-bit codes by more than a tenth.
  static Encoder learn(Metric metric, const float* rows, size_t n, size_t dims, Team& team);
  // The mean alone: a small part of the work, and none for a rotation of each row later.
  static Encoder learn_mean(Metric metric, const float* rows, size_t n, size_t dims, Team& team);

  Metric metric() const { return metric_; }
  size_t dims() const { return dims_; }
  const std::vector<float>& mean() const { return mean_; }
  std::optional<uint64_t> rotation_seed() const { return rotation_seed_; }

  // Values of a centred row: dims, padded with zeros.
  size_t residual_dims() const { return residual_dims_; }
  // Of one row's codes, a multiple of 64; 0 for CodeWidth::kNone.
  size_t code_bytes(CodeWidth width) const { return code_bytes(width, dims_); }
  static size_t code_bytes(CodeWidth width, size_t dims);
  // Whether the last 64 bytes of a row's codes are not its only ones, and hold no more values than a CodeTail can.
  bool has_short_tail(CodeWidth width) const;

  // out[residual_dims]: what is encoded of a row.
  void residual_of_row(const float* row, float* out) const;
  // ... and of a query, which is not centred for inner product.
  void residual_of_query(const float* query, float* out) const;
  // Codes of one residual to out[code_bytes(width)]. `scratch`: 2 * residual_dims floats.
  RowMeta encode(CodeWidth width, const float* residual, float* scratch, uint8_t* out) const;
  void encode_query(CodeWidth width, const float* residual, CodedQuery& out) const;
  // Under inner product, what as the norms of two rows makes the distance of their codes -2 times their product.
  float build_norm(const float* row) const;

 private:
  float norm_of(const float* residual) const;
  void rotate_and_pad(float* values) const;
  int limit16() const;

  Metric metric_;
  size_t dims_;
  size_t residual_dims_;
  std::vector<float> mean_;
  std::optional<uint64_t> rotation_seed_;
  std::optional<Rotation> rotation_;
};

// The codes of all rows of a segment.
struct CodeSet {
  CodeWidth width = CodeWidth::k8;
  size_t code_bytes = 0;            // without the tail
  const uint8_t* codes = nullptr;   // [rows][code_bytes]
  const RowMeta* metas = nullptr;   // [rows]; null with tails
  const CodeTail* tails = nullptr;  // [rows]; null: all of a row is in `codes`

  // The same wherever the tail is.
  size_t row_bytes() const { return code_bytes + (tails == nullptr ? 0 : 64); }
  RowMeta meta(uint32_t row) const { return tails == nullptr ? metas[row] : tails[row].meta; }
  // What lies beside the codes of row r is at beside() + r * beside_bytes().
  const uint8_t* beside() const {
    return tails == nullptr ? reinterpret_cast<const uint8_t*>(metas) : reinterpret_cast<const uint8_t*>(tails);
  }
  size_t beside_bytes() const { return tails == nullptr ? sizeof(RowMeta) : sizeof(CodeTail); }
};

// The tail of a row of codes that has a short one. `last_line`: its last 64 bytes.
CodeTail tail_of(CodeWidth width, const uint8_t* last_line, RowMeta meta);

// Codes that own their memory.
class CodeTable {
 public:
  CodeTable() = default;
  // Encodes rows[n][dims].
  CodeTable(const Encoder& encoder, CodeWidth width, const float* rows, size_t n, Team& team);

  // Copies of some rows of another table, in this order.
  CodeTable(const CodeTable& other, const std::vector<uint32_t>& rows);

  CodeSet set() const { return {width_, code_bytes_, codes_.data(), metas_.data()}; }
  size_t rows() const { return metas_.size(); }
  void set_norm(size_t row, float norm) { metas_[row].norm = norm; }

 private:
  CodeWidth width_ = CodeWidth::k8;
  size_t code_bytes_ = 0;
  Buffer codes_;
  std::vector<RowMeta> metas_;
};

// The sum of the squares, in an order that does not depend on the machine.
float squared_norm(const float* values, size_t n);

// out[i]: the distance of the query and row rows[i]. Requires: codes.width is not kNone.
void code_distances(const KernelTable& kernels, const CodeSet& codes, const CodedQuery& query, const uint32_t* rows,
                    size_t n, float* out);

// Row `row` of 8- or 16-bit codes as a query, as exact as the row is. `sum`: of its centred 8-bit codes.
void query_of_row(const CodeSet& codes, uint32_t row, int32_t sum, CodedQuery& out);
// The sum of the centred codes of a row; 0 for 16 bits, which need none.
int32_t sum_of_row(const CodeSet& codes, uint32_t row);

}  // namespace ehub::hnsw
