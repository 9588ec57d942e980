#include "hnsw/code.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/bytes.h"
#include "base/check.h"
#include "hnsw/reductions.h"
#include "hnsw/team.h"

namespace ehub::hnsw {
namespace {

// Rows of one task of the team; also the unit in which means are summed, so that the sum does not depend on the team.
constexpr size_t kTaskRows = 1024;

// Rows that decide whether to rotate.
constexpr size_t kSampleRows = 1024;

// An error that is lower by less is not worth rotating every query for.
constexpr double kRotationGain = 0.9;

// Of the squared norm in the middle of all. Rows beyond it do not count for the mean.
constexpr float kMeanSquaredNormMax = 100;
constexpr float kUnlimited = std::numeric_limits<float>::infinity();

constexpr uint64_t kRotationSeed = 0x6568756268756268;

// The factor that brings code * factor closest to the residual.
float best_scale(const float* residual, const float* code, size_t n) {
  const double square = wide_squared_norm(code, n);
  if (square == 0) return 0;
  const double product = reduce(n, [&](size_t d) { return residual[d] * code[d]; });
  return static_cast<float>(product / square);
}

// In [low, high]; what is no number becomes `low`.
float bounded(float value, float low, float high) {
  const float raised = larger(low, value);
  return high < raised ? high : raised;
}

// Rounds to whole numbers of magnitude at most `limit`, in units of limit / `range`.
void quantize(const float* residual, size_t n, float range, float limit, float* code) {
  const float factor = range > 0 ? limit / range : 0;
  for (size_t d = 0; d < n; ++d) code[d] = bounded(rounded(residual[d] * factor), -limit, limit);
}

// Rounds to the odd numbers from -15 to 15, in units of range / 15.
void quantize4(const float* residual, size_t n, float range, float* code) {
  const float factor = range > 0 ? 15.0F / range : 0;
  // In two loops: of bounds in the middle of one the compiler makes branches, and no vectors.
  for (size_t d = 0; d < n; ++d) code[d] = bounded(residual[d] * factor, -15.0F, 15.0F);
  for (size_t d = 0; d < n; ++d) code[d] = 2.0F * rounded((code[d] + 15.0F) * 0.5F) - 15.0F;
}

double squared_error(const float* residual, const float* code, float scale, size_t n) {
  return reduce(n, [&](size_t d) {
    const float error = residual[d] - scale * code[d];
    return error * error;
  });
}

// Few levels are better spent when the largest values are cut: the best of some ranges.
float fit4(const float* residual, size_t n, float* code, float* scratch) {
  const float range = magnitude_max(residual, n);
  float best = 0;
  double best_error = std::numeric_limits<double>::infinity();
  for (const float share : {1.0F, 0.85F, 0.7F, 0.55F, 0.4F}) {
    quantize4(residual, n, range * share, scratch);
    const float scale = best_scale(residual, scratch, n);
    const double error = squared_error(residual, scratch, scale, n);
    if (error >= best_error) continue;
    best_error = error;
    best = scale;
    std::copy_n(scratch, n, code);
  }
  return best;
}

void pack4(const float* code, size_t n, uint8_t* out, size_t out_bytes) {
  for (size_t b = 0; b < out_bytes; b += 64) {
    const size_t begin = 2 * b;
    const size_t count = begin < n ? std::min<size_t>(n - begin, 128) : 0;
    uint8_t levels[128];
    std::fill_n(levels, 128, uint8_t{7});
    for (size_t i = 0; i < count; ++i) {
      levels[i] = static_cast<uint8_t>(static_cast<int>((code[begin + i] + 15.0F) * 0.5F));
    }
    for (size_t i = 0; i < 64; ++i) out[b + i] = static_cast<uint8_t>(levels[i] | levels[i + 64] << 4);
  }
}

float inverse_norm(const float* row, size_t n) {
  const double square = wide_squared_norm(row, n);
  return square > 0 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.0F;
}

// The squared norm up to which rows count for the mean: a few of another order of magnitude would move it so far that
// all others have nearly the same codes.
float mean_norm_max(const float* rows, size_t n, size_t dims, Team& team) {
  std::vector<float> norms(n);
  team.run(n, kTaskRows, [&](size_t begin, size_t end, unsigned) {
    for (size_t i = begin; i < end; ++i) norms[i] = squared_norm(rows + i * dims, dims);
  });
  const auto median = norms.begin() + static_cast<ptrdiff_t>(n / 2);
  std::nth_element(norms.begin(), median, norms.end());
  return *median * kMeanSquaredNormMax;
}

std::vector<float> mean_of(Metric metric, const float* rows, size_t n, size_t dims, Team& team) {
  const float norm_max = metric == Metric::kCosine ? kUnlimited : mean_norm_max(rows, n, dims, team);
  const size_t tasks = (n + kTaskRows - 1) / kTaskRows;
  std::vector<double> sums(tasks * dims, 0.0);
  std::vector<size_t> counts(tasks, 0);
  team.run(n, kTaskRows, [&](size_t begin, size_t end, unsigned) {
    double* sum = sums.data() + begin / kTaskRows * dims;
    for (size_t i = begin; i < end; ++i) {
      const float* row = rows + i * dims;
      if (!(squared_norm(row, dims) <= norm_max)) continue;
      ++counts[begin / kTaskRows];
      const float factor = metric == Metric::kCosine ? inverse_norm(row, dims) : 1.0F;
      for (size_t d = 0; d < dims; ++d) sum[d] += static_cast<double>(row[d] * factor);
    }
  });
  const auto count = static_cast<double>(std::accumulate(counts.begin(), counts.end(), size_t{0}));
  std::vector<float> mean(dims);
  for (size_t d = 0; d < dims; ++d) {
    double sum = 0;
    for (size_t task = 0; task < tasks; ++task) sum += sums[task * dims + d];
    mean[d] = static_cast<float>(sum / std::max(1.0, count));
  }
  return mean;
}

// The share of the residuals' squared norm that 8-bit codes lose.
double code_error(const Encoder& encoder, const float* rows, size_t n) {
  const size_t width = encoder.residual_dims();
  std::vector<float> residual(width);
  std::vector<float> code(width);
  double lost = 0;
  double all = 0;
  const size_t count = std::min(n, kSampleRows);
  for (size_t i = 0; i < count; ++i) {
    encoder.residual_of_row(rows + i * n / count * encoder.dims(), residual.data());
    quantize(residual.data(), width, magnitude_max(residual.data(), width), 127, code.data());
    lost += squared_error(residual.data(), code.data(), best_scale(residual.data(), code.data(), width), width);
    all += wide_squared_norm(residual.data(), width);
  }
  return all > 0 ? lost / all : 0;
}

}  // namespace

float squared_norm(const float* values, size_t n) { return static_cast<float>(wide_squared_norm(values, n)); }

Encoder::Encoder(Metric metric, size_t dims, std::vector<float> mean, std::optional<uint64_t> rotation_seed)
    : metric_(metric),
      dims_(dims),
      residual_dims_(align_up(dims, 64)),
      mean_(std::move(mean)),
      rotation_seed_(rotation_seed) {
  EHUB_ASSERT(mean_.size() == dims_);
  if (rotation_seed_) rotation_.emplace(residual_dims_, *rotation_seed_);
}

Encoder Encoder::learn(Metric metric, const float* rows, size_t n, size_t dims, Team& team) {
  Encoder plain = learn_mean(metric, rows, n, dims, team);
  Encoder rotated(metric, dims, plain.mean_, kRotationSeed);
  const double gain = kRotationGain * kRotationGain;  // of squared errors
  return code_error(rotated, rows, n) < gain * code_error(plain, rows, n) ? rotated : plain;
}

Encoder Encoder::learn_mean(Metric metric, const float* rows, size_t n, size_t dims, Team& team) {
  return {metric, dims, mean_of(metric, rows, n, dims, team), std::nullopt};
}

size_t Encoder::code_bytes(CodeWidth width, size_t dims) {
  const size_t values = align_up(dims, 64);
  switch (width) {
    case CodeWidth::k4:
      return align_up(values / 2, 64);
    case CodeWidth::k8:
      return values;
    case CodeWidth::k16:
      return 2 * values;
    case CodeWidth::kNone:
      return 0;
  }
  return 0;
}

bool Encoder::has_short_tail(CodeWidth width) const {
  if (width != CodeWidth::k4 && width != CodeWidth::k8) return false;
  const size_t in_line = width == CodeWidth::k4 ? 128 : 64;
  const size_t values = rotation_ ? residual_dims_ : dims_;
  const size_t last = values % in_line;
  return values > in_line && last != 0 && last <= in_line / 64 * sizeof(CodeTail::last);
}

CodeTail tail_of(CodeWidth width, const uint8_t* last_line, RowMeta meta) {
  CodeTail tail = {{}, meta};
  constexpr size_t kBytes = sizeof(tail.last);
  std::memcpy(tail.last, last_line, kBytes);
  if (width == CodeWidth::k8) return tail;
  // So few values are all in the lower halves of the line.
  for (size_t b = 0; b < kBytes; ++b) {
    tail.last[b] = static_cast<uint8_t>((last_line[b] & 15) | (last_line[kBytes + b] & 15) << 4);
  }
  return tail;
}

// So that the products of a quarter of the dimensions fit an int32.
int Encoder::limit16() const {
  return static_cast<int>(std::sqrt(static_cast<double>(1U << 31U) * 4 / static_cast<double>(residual_dims_))) - 1;
}

void Encoder::rotate_and_pad(float* values) const {
  std::fill(values + dims_, values + residual_dims_, 0.0F);
  if (rotation_) rotation_->apply(values);
}

void Encoder::residual_of_row(const float* row, float* out) const {
  const float factor = metric_ == Metric::kCosine ? inverse_norm(row, dims_) : 1.0F;
  for (size_t d = 0; d < dims_; ++d) out[d] = row[d] * factor - mean_[d];
  rotate_and_pad(out);
}

void Encoder::residual_of_query(const float* query, float* out) const {
  if (metric_ != Metric::kInnerProduct) {
    residual_of_row(query, out);
    return;
  }
  std::copy_n(query, dims_, out);
  rotate_and_pad(out);
}

float Encoder::norm_of(const float* residual) const { return squared_norm(residual, residual_dims_); }

float Encoder::build_norm(const float* row) const {
  return static_cast<float>(reduce(dims_, [&](size_t d) { return mean_[d] * (mean_[d] - 2 * row[d]); }));
}

RowMeta Encoder::encode(CodeWidth width, const float* residual, float* scratch, uint8_t* out) const {
  const size_t n = residual_dims_;
  RowMeta meta = {metric_ == Metric::kInnerProduct ? 0.0F : norm_of(residual), 0};
  float* code = scratch;
  switch (width) {
    case CodeWidth::k4: {
      // No level is 0, so zeros that pad a row would spoil the fit of its values.
      const size_t values = rotation_ ? n : dims_;
      meta.scale = fit4(residual, values, code, code + n);
      pack4(code, values, out, code_bytes(width));
      return meta;
    }
    case CodeWidth::k8:
      quantize(residual, n, magnitude_max(residual, n), 127, code);
      for (size_t d = 0; d < n; ++d) out[d] = static_cast<uint8_t>(static_cast<int>(code[d]) + 128);
      break;
    case CodeWidth::k16:
      quantize(residual, n, magnitude_max(residual, n), static_cast<float>(std::min(limit16(), 32767)), code);
      for (size_t d = 0; d < n; ++d) store_le(out + 2 * d, static_cast<int16_t>(code[d]));
      break;
    case CodeWidth::kNone:
      return meta;
  }
  meta.scale = best_scale(residual, code, n);
  return meta;
}

void Encoder::encode_query(CodeWidth width, const float* residual, CodedQuery& out) const {
  const size_t n = residual_dims_;
  out.norm = metric_ == Metric::kInnerProduct ? 0.0F : norm_of(residual);
  out.values.assign(std::max(n, 2 * code_bytes(CodeWidth::k4)), 0);
  out.sum = 0;
  if (out.scratch.size() < n) out.scratch.resize(n);
  float* code = out.scratch.data();
  if (width == CodeWidth::k16) {
    quantize(residual, n, magnitude_max(residual, n), static_cast<float>(std::min(limit16(), 32767)), code);
    for (size_t d = 0; d < n; ++d) out.values[d] = static_cast<int16_t>(code[d]);
  } else {
    quantize(residual, n, magnitude_max(residual, n), 127, code);
    // Of its own, because a byte that is stored might be any of `out`: with it, this is done one by one.
    int8_t* bytes = out.bytes();
    int32_t sum = 0;
    for (size_t d = 0; d < n; ++d) {
      const auto value = static_cast<int32_t>(code[d]);
      bytes[d] = static_cast<int8_t>(value);
      sum += value;
    }
    out.sum = sum;
  }
  out.twice_scale = 2 * best_scale(residual, code, n);
}

CodeTable::CodeTable(const Encoder& encoder, CodeWidth width, const float* rows, size_t n, Team& team)
    : width_(width), code_bytes_(encoder.code_bytes(width)), codes_(n * code_bytes_), metas_(n) {
  team.run(n, kTaskRows, [&](size_t begin, size_t end, unsigned) {
    std::vector<float> residual(encoder.residual_dims());
    std::vector<float> scratch(2 * encoder.residual_dims());
    for (size_t i = begin; i < end; ++i) {
      encoder.residual_of_row(rows + i * encoder.dims(), residual.data());
      metas_[i] = encoder.encode(width, residual.data(), scratch.data(), codes_.data() + i * code_bytes_);
    }
  });
}

CodeTable::CodeTable(const CodeTable& other, const std::vector<uint32_t>& rows)
    : width_(other.width_), code_bytes_(other.code_bytes_), codes_(rows.size() * other.code_bytes_) {
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(codes_.data() + i * code_bytes_, other.codes_.data() + rows[i] * code_bytes_, code_bytes_);
    metas_.push_back(other.metas_[rows[i]]);
  }
}

namespace {

// What a query is at the tails of rows: zero but for their values.
CodeEnds ends_of(const CodeSet& codes, const CodedQuery& query, int8_t* query_end) {
  constexpr size_t kBytes = sizeof(CodeTail::last);
  const int8_t* last = query.bytes() + codes.code_bytes * (codes.width == CodeWidth::k4 ? 2 : 1);
  std::memcpy(query_end, last, kBytes);
  if (codes.width == CodeWidth::k4) std::memcpy(query_end + kCodeEndBytes, last + kBytes, kBytes);
  return {codes.beside(), query_end};
}

}  // namespace

void code_distances(const KernelTable& kernels, const CodeSet& codes, const CodedQuery& query, const uint32_t* rows,
                    size_t n, float* out) {
  constexpr size_t kPart = 64;
  int8_t query_end[2 * kCodeEndBytes] = {};
  CodeEnds ends;
  if (codes.tails != nullptr) ends = ends_of(codes, query, query_end);
  for (; n > 0; rows += std::min(n, kPart), out += std::min(n, kPart), n -= std::min(n, kPart)) {
    const size_t count = std::min(n, kPart);
    int32_t products[kPart];
    int64_t wide_products[kPart];
    if (codes.width == CodeWidth::k16) {
      kernels.codes.dot_s16(query.values.data(), codes.codes, codes.code_bytes, rows, count, wide_products);
      for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(wide_products[i]);
    } else {
      const auto dot = codes.width == CodeWidth::k8 ? kernels.codes.dot_u8 : kernels.codes.dot_u4;
      dot(query.bytes(), query.sum, codes.codes, codes.code_bytes, ends, rows, count, products);
      for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(products[i]);
    }
    for (size_t i = 0; i < count; ++i) {
      const RowMeta meta = codes.meta(rows[i]);
      out[i] = (query.norm + meta.norm) - query.twice_scale * meta.scale * out[i];
    }
  }
}

void query_of_row(const CodeSet& codes, uint32_t row, int32_t sum, CodedQuery& out) {
  // Of its own, because a byte that is stored might be any of `codes`: with it, this is done one by one.
  const size_t n = codes.code_bytes;
  const uint8_t* code = codes.codes + row * n;
  const RowMeta meta = codes.metas[row];
  if (out.values.size() < n) out.values.resize(n);
  if (codes.width == CodeWidth::k16) {
    std::memcpy(out.values.data(), code, n);
  } else {
    int8_t* bytes = out.bytes();
    for (size_t d = 0; d < n; ++d) bytes[d] = static_cast<int8_t>(code[d] ^ 0x80);
  }
  out.sum = sum;
  out.norm = meta.norm;
  out.twice_scale = 2 * meta.scale;
}

int32_t sum_of_row(const CodeSet& codes, uint32_t row) {
  if (codes.width == CodeWidth::k16) return 0;
  const uint8_t* code = codes.codes + row * codes.code_bytes;
  int32_t sum = 0;
  for (size_t d = 0; d < codes.code_bytes; ++d) sum += code[d];
  return sum - 128 * static_cast<int32_t>(codes.code_bytes);
}

}  // namespace ehub::hnsw
