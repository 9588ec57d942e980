// Plain C++, for any machine: the reference that the other tiers are tested against.

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/tables.h"

namespace ehub {
namespace {

// Independent partial sums: they hide the latency of an addition, and let a compiler use the vectors it may assume.
constexpr size_t kLanes = 8;

struct PartialSums {
  float lane[kLanes] = {};

  float total() const {
    const float low = (lane[0] + lane[4]) + (lane[2] + lane[6]);
    const float high = (lane[1] + lane[5]) + (lane[3] + lane[7]);
    return low + high;
  }
};

float squared_difference(float a, float b) { return (a - b) * (a - b); }
float product(float a, float b) { return a * b; }

template <float (*kTerm)(float, float)>
float distance(const float* a, const float* b, size_t dims) {
  PartialSums sums;
  size_t d = 0;
  for (; d + kLanes <= dims; d += kLanes) {
    for (size_t i = 0; i < kLanes; ++i) sums.lane[i] += kTerm(a[d + i], b[d + i]);
  }
  for (size_t i = 0; d + i < dims; ++i) sums.lane[i] += kTerm(a[d + i], b[d + i]);
  return sums.total();
}

template <float (*kTerm)(float, float)>
void distances_one(const float* query, const float* rows, size_t n, size_t dims, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = distance<kTerm>(query, rows + i * dims, dims);
}

template <float (*kTerm)(float, float)>
void distances_many(const float* queries, size_t m, const float* rows, size_t n, size_t dims, float* out,
                    size_t out_stride) {
  // Queries innermost: a row is read from memory once.
  for (size_t i = 0; i < n; ++i) {
    for (size_t q = 0; q < m; ++q) {
      out[q * out_stride + i] = distance<kTerm>(queries + q * dims, rows + i * dims, dims);
    }
  }
}

void dot_norm_one(const float* query, const float* rows, size_t n, size_t dims, float* out, float* norms_squared) {
  for (size_t i = 0; i < n; ++i) {
    const float* row = rows + i * dims;
    out[i] = distance<product>(query, row, dims);
    norms_squared[i] = distance<product>(row, row, dims);
  }
}

template <float (*kTerm)(float, float)>
void distances_apart(const float* query, const float* const* rows, size_t n, size_t dims, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = distance<kTerm>(query, rows[i], dims);
}

void dot_norm_apart(const float* query, const float* const* rows, size_t n, size_t dims, float* out,
                    float* norms_squared) {
  for (size_t i = 0; i < n; ++i) dot_norm_one(query, rows[i], 1, dims, out + i, norms_squared + i);
}

void accumulate(const float* const* rows, const double* weights, size_t n, size_t dims, const float* const* /*ahead*/,
                double* sum) {
  for (size_t i = 0; i < n; ++i) {
    for (size_t d = 0; d < dims; ++d) sum[d] += weights[i] * static_cast<double>(rows[i][d]);
  }
}

void scale(const double* sum, size_t dims, double factor, float* out) {
  for (size_t d = 0; d < dims; ++d) out[d] = static_cast<float>(sum[d] * factor);
}

bool all_finite(const float* values, size_t n) {
  // A value minus itself is zero, or NaN if it is not finite; the loop has no branch, so that it can be vectorised.
  uint32_t bad = 0;
  for (size_t i = 0; i < n; ++i) bad |= static_cast<uint32_t>(values[i] - values[i] != 0.0F);
  return bad == 0;
}

void dot_u8(const int8_t* query, int32_t /*query_sum*/, const uint8_t* codes, size_t row_bytes, const CodeEnds& ends,
            const uint32_t* rows, size_t n, int32_t* out) {
  for (size_t i = 0; i < n; ++i) {
    const uint8_t* row = codes + rows[i] * row_bytes;
    int32_t sum = 0;
    for (size_t d = 0; d < row_bytes; ++d) sum += query[d] * (row[d] - 128);
    if (ends.codes != nullptr) {
      const uint8_t* end = ends.codes + size_t{rows[i]} * kCodeEndBytes;
      for (size_t d = 0; d < kCodeEndBytes; ++d) sum += ends.query[d] * (end[d] - 128);
    }
    out[i] = sum;
  }
}

// Of `n` bytes: of their lower halves with lower[], of their upper ones with upper[].
int32_t dot_halves(const int8_t* lower, const int8_t* upper, const uint8_t* bytes, size_t n) {
  int32_t sum = 0;
  for (size_t b = 0; b < n; ++b) sum += lower[b] * (bytes[b] & 15) + upper[b] * (bytes[b] >> 4);
  return sum;
}

void dot_u4(const int8_t* query, int32_t query_sum, const uint8_t* codes, size_t row_bytes, const CodeEnds& ends,
            const uint32_t* rows, size_t n, int32_t* out) {
  for (size_t i = 0; i < n; ++i) {
    const uint8_t* row = codes + rows[i] * row_bytes;
    int32_t sum = 0;
    for (size_t block = 0; block < row_bytes; block += 64) {
      sum += dot_halves(query + 2 * block, query + 2 * block + 64, row + block, 64);
    }
    if (ends.codes != nullptr) {
      const uint8_t* end = ends.codes + size_t{rows[i]} * kCodeEndBytes;
      sum += dot_halves(ends.query, ends.query + kCodeEndBytes, end, kCodeEndBytes);
    }
    out[i] = 2 * sum - 15 * query_sum;
  }
}

void dot_s16(const int16_t* query, const uint8_t* codes, size_t row_bytes, const uint32_t* rows, size_t n,
             int64_t* out) {
  for (size_t i = 0; i < n; ++i) {
    const auto* row = reinterpret_cast<const int16_t*>(codes + rows[i] * row_bytes);
    int64_t sum = 0;
    for (size_t d = 0; d < row_bytes / sizeof(int16_t); ++d) sum += int64_t{query[d]} * row[d];
    out[i] = sum;
  }
}

}  // namespace

constinit const KernelTable kScalarKernels = {"scalar",
                                              distances_one<squared_difference>,
                                              distances_one<product>,
                                              dot_norm_one,
                                              distances_many<squared_difference>,
                                              distances_many<product>,
                                              distances_apart<squared_difference>,
                                              distances_apart<product>,
                                              dot_norm_apart,
                                              accumulate,
                                              scale,
                                              all_finite,
                                              {dot_u8, dot_u4, dot_s16}};

}  // namespace ehub
