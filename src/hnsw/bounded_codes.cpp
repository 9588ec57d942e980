#include "hnsw/bounded_codes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "hnsw/reductions.h"

namespace ehub::hnsw {
namespace {

constexpr size_t kGroupRows = BoundedCodes::kGroupRows;
constexpr double kUnit = 0x1p-24;  // by which one float32 operation is off, relative to its result
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Squared norms up to here: nothing overflows, in a scan neither.
constexpr float kSquaredNormMax = 1e36F;

constexpr float kCodeMax = 127;

// What is shorter in all dimensions counts as zero, with an error of all its length.
constexpr float kMagnitudeMin = 1e-30F;

// More than underflow takes from any of the sums: 2^17 terms, each of which may lose 2^-149, times codes of 2^14.
constexpr double kUnderflow = 0x1p-100;

// Of a sum of products of two vectors, and of what is made of it, the share of the product of their norms by which it
// is off at most. Needed are 1.2 dims + 200: dims for a scan's sum in any order, 3 / 16 dims for norms and errors of
// the residuals (reductions.h adds in 16 lanes), 140 for a rotation of 4 rounds of 17 steps, in query and row, and some
// 30 single operations.
double rounding(size_t dims) { return (2 * static_cast<double>(dims) + 512) * kUnit; }

// The same of a cosine, doubled, whose vectors have norms that are near underflow at worst, and of directions: needed
// are 14.3 dims + 110.
double cosine_rounding(size_t dims) { return (16 * static_cast<double>(dims) + 4096) * kUnit; }

// Upwards, so that what is computed of it is no bound that is too high.
float raised(double value, double share) { return static_cast<float>(value * (1 + share)); }

float lowered(double value, double share) { return static_cast<float>(value * (1 - share)); }

double product(const std::vector<float>& a, const float* b) {
  double sum = 0;
  for (size_t d = 0; d < a.size(); ++d) sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
  return sum;
}

// Of what is summed in float to the end, and measured in one pass: by reduce() and magnitude_max() a row takes a third
// longer.
float total(float (&lanes)[kLanes]) {
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

struct Measures {
  float square;     // the sum of the squares
  float magnitude;  // the largest
};

// Requires: n is a multiple of kLanes.
Measures measures_of(const float* values, size_t n) {
  float squares[kLanes] = {};
  float magnitudes[kLanes] = {};
  for (size_t d = 0; d < n; d += kLanes) {
    for (size_t i = 0; i < kLanes; ++i) {
      squares[i] += values[d + i] * values[d + i];
      magnitudes[i] = larger(magnitudes[i], std::fabs(values[d + i]));
    }
  }
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t i = 0; i < width; ++i) magnitudes[i] = larger(magnitudes[i], magnitudes[i + width]);
  }
  return {total(squares), magnitudes[0]};
}

// values / scale, rounded, to `codes` (+ 128), and by how much they are off, in units of the scale. Requires: n is a
// multiple of kLanes.
double quantize(const float* values, size_t n, float scale, uint8_t* codes) {
  const float factor = 1 / scale;
  float errors[kLanes] = {};
  for (size_t d = 0; d < n; d += kLanes) {
    for (size_t i = 0; i < kLanes; ++i) {
      const float value = values[d + i] * factor;
      const float error = value - rounded(value);
      errors[i] += error * error;
    }
  }
  // Apart: with sums beside it, a compiler makes no vectors of it.
  for (size_t d = 0; d < n; ++d) {
    codes[d] = static_cast<uint8_t>(static_cast<int>(rounded(values[d] * factor)) + 128);
  }
  return std::sqrt(static_cast<double>(total(errors)));
}

constexpr std::array<uint32_t, kGroupRows> first_numbers() {
  std::array<uint32_t, kGroupRows> numbers{};
  for (uint32_t i = 0; i < kGroupRows; ++i) numbers[i] = i;
  return numbers;
}
constexpr std::array<uint32_t, kGroupRows> kNumbers = first_numbers();

}  // namespace

// What there is of a group beside its codes.
struct BoundedCodes::Bounds {
  float norm[kGroupRows];  // squared, lowered; -infinity: never ruled out
  float scale[kGroupRows];
  float error[kGroupRows];
  float length[kGroupRows];
};

BoundedQuery::BoundedQuery(const Encoder& encoder, const float* query, float norm_squared) : metric_(encoder.metric()) {
  const size_t n = encoder.residual_dims();
  const double share = rounding(encoder.dims());
  std::vector<float> residual(n);
  encoder.residual_of_query(query, residual.data());
  const Measures measures = measures_of(residual.data(), n);
  is_usable_ = measures.magnitude >= kMagnitudeMin && measures.square <= kSquaredNormMax;
  if (!is_usable_) return;
  scale_ = measures.magnitude / kCodeMax;
  std::vector<uint8_t> codes(n);
  const double error = quantize(residual.data(), n, scale_, codes.data()) * static_cast<double>(scale_);
  const double length = std::sqrt(static_cast<double>(measures.square));
  for (const uint8_t code : codes) codes_.push_back(static_cast<int8_t>(code - 128));
  sum_ = std::accumulate(codes_.begin(), codes_.end(), int32_t{0});
  if (metric_ != Metric::kInnerProduct) norm_ = lowered(static_cast<double>(measures.square), share);
  per_error_ = raised(2 * (length + error), share);
  per_length_ = raised(2 * (error + share * length), share);
  margin_ = kUnderflow;
  if (metric_ == Metric::kCosine) {
    margin_ = cosine_rounding(encoder.dims());
    is_usable_ = is_usable_ && std::isnormal(norm_squared) && norm_squared <= kSquaredNormMax;
  }
  if (metric_ != Metric::kInnerProduct) return;
  // The mean's share of the product is known, and not in the codes.
  const std::vector<float>& mean = encoder.mean();
  const double mean_square = product(mean, mean.data());
  shift_ = 1 - product(mean, query);
  margin_ += 2 * share * (1 + length * std::sqrt(mean_square)) + 0x1p-40 * std::abs(shift_);
  is_usable_ = is_usable_ && mean_square <= static_cast<double>(kSquaredNormMax);
}

float BoundedQuery::limit(float distance) const {
  const auto wide = static_cast<double>(distance);
  const double units = metric_ == Metric::kL2 ? 1 : 2;  // the distance of codes is so many times that of a scan
  const double bound = units * (wide - shift_) + margin_ + 0x1p-40 * std::abs(wide);
  return std::nextafter(static_cast<float>(bound), kInfinity);
}

size_t BoundedCodes::group_bytes(size_t code_bytes) { return kGroupRows * code_bytes + sizeof(Bounds); }

BoundedCodes::Bounds* BoundedCodes::bounds_of(size_t group) {
  return reinterpret_cast<Bounds*>(memory_.data() + group * group_bytes(code_bytes_) + kGroupRows * code_bytes_);
}

size_t BoundedCodes::bytes(size_t dims, size_t n) {
  const size_t groups = (n + kGroupRows - 1) / kGroupRows;
  return groups * group_bytes(Encoder::code_bytes(CodeWidth::k8, dims));
}

std::unique_ptr<const BoundedCodes> BoundedCodes::make(const Encoder& encoder, const float* rows, size_t n) {
  std::optional<Buffer> memory = Buffer::make(bytes(encoder.dims(), n));
  if (!memory) return nullptr;
  std::unique_ptr<BoundedCodes> made(new BoundedCodes(encoder.code_bytes(CodeWidth::k8), n, std::move(*memory)));
  std::vector<float> residual(encoder.residual_dims());
  for (size_t row = 0; row < n; ++row) {
    const float* values = rows + row * encoder.dims();
    encoder.residual_of_row(values, residual.data());
    made->put(row, encoder, residual.data());
    // A direction cannot be told of what is too long to have its norm computed.
    if (encoder.metric() == Metric::kCosine && !(squared_norm(values, encoder.dims()) <= kSquaredNormMax)) {
      made->bounds_of(row / kGroupRows)->norm[row % kGroupRows] = -kInfinity;
    }
  }
  return made;
}

void BoundedCodes::put(size_t row, const Encoder& encoder, const float* residual) {
  const size_t i = row % kGroupRows;
  uint8_t* codes = memory_.data() + row / kGroupRows * group_bytes(code_bytes_) + i * code_bytes_;
  Bounds* bounds = bounds_of(row / kGroupRows);
  const size_t n = encoder.residual_dims();
  const double share = rounding(encoder.dims());
  const Measures measures = measures_of(residual, n);
  const double length = std::sqrt(static_cast<double>(measures.square));
  double error = length;
  if (!(measures.square <= kSquaredNormMax) || !(measures.magnitude >= kMagnitudeMin)) {
    std::fill_n(codes, n, uint8_t{128});
    bounds->scale[i] = 0;
  } else {
    bounds->scale[i] = measures.magnitude / kCodeMax;
    error = quantize(residual, n, bounds->scale[i], codes) * static_cast<double>(bounds->scale[i]);
  }
  const float norm =
      encoder.metric() == Metric::kInnerProduct ? 0 : lowered(static_cast<double>(measures.square), share);
  bounds->norm[i] = measures.square <= kSquaredNormMax ? norm : -kInfinity;
  bounds->error[i] = raised(error + share * length, share);
  bounds->length[i] = raised(length, share);
}

uint64_t BoundedCodes::not_beyond(const KernelTable& kernels, const BoundedQuery& query, float limit,
                                  size_t group) const {
  const uint8_t* codes = memory_.data() + group * group_bytes(code_bytes_);
  const auto* bounds = reinterpret_cast<const Bounds*>(codes + kGroupRows * code_bytes_);
  const size_t count = std::min(kGroupRows, rows_ - group * kGroupRows);
  int32_t products[kGroupRows] = {};
  kernels.codes.dot_u8(query.codes_.data(), query.sum_, codes, code_bytes_, {}, kNumbers.data(), count, products);
  const float twice_scale = 2 * query.scale_;
  float bound[kGroupRows];
  uint32_t any = 0;
  for (size_t i = 0; i < kGroupRows; ++i) {
    const float distance =
        (query.norm_ + bounds->norm[i]) - twice_scale * bounds->scale[i] * static_cast<float>(products[i]);
    bound[i] = distance - (query.per_error_ * bounds->error[i] + query.per_length_ * bounds->length[i]);
    any |= static_cast<uint32_t>(!(bound[i] > limit));
  }
  if (any == 0) return 0;
  uint64_t rows = 0;
  for (size_t i = 0; i < count; ++i) rows |= uint64_t{!(bound[i] > limit)} << i;
  return rows;
}

}  // namespace ehub::hnsw
