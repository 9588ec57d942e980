// Sums and maxima over the values of a row, in an order that does not depend on the machine, and rounding; of what
// codes are made (code.h, bounded_codes.h).
//
// A compiler may not reorder additions of floats; with partial sums side by side it need not, to use vectors, and the
// result is the same whatever it uses.
//
// Thread-safety: pure functions.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace ehub::hnsw {

// Partial results of a reduction.
inline constexpr size_t kLanes = 16;

// The sum of term(d) for d from 0 to n - 1.
template <typename Term>
double reduce(size_t n, Term term) {
  float lanes[kLanes] = {};
  size_t d = 0;
  for (; d + kLanes <= n; d += kLanes) {
    for (size_t i = 0; i < kLanes; ++i) lanes[i] += term(d + i);
  }
  for (size_t i = 0; d + i < n; ++i) lanes[i] += term(d + i);
  double sum = 0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

inline double wide_squared_norm(const float* values, size_t n) {
  return reduce(n, [&](size_t d) { return values[d] * values[d]; });
}

// Not std::max, which takes addresses: of these the compiler makes branches, and no vectors. `a` if `b` is no number.
inline float larger(float a, float b) { return a < b ? b : a; }

// The largest of the absolute values; what is no number does not count.
inline float magnitude_max(const float* values, size_t n) {
  float lanes[kLanes] = {};
  size_t d = 0;
  for (; d + kLanes <= n; d += kLanes) {
    for (size_t i = 0; i < kLanes; ++i) lanes[i] = larger(lanes[i], std::fabs(values[d + i]));
  }
  for (size_t i = 0; d + i < n; ++i) lanes[i] = larger(lanes[i], std::fabs(values[d + i]));
  return *std::max_element(lanes, lanes + kLanes);
}

// The nearest integer, ties to even: added to a float of a magnitude below 2^22 and subtracted again, this rounds it.
inline float rounded(float value) {
  constexpr float kRounder = 12582912.0F;  // 1.5 * 2^23
  return (value + kRounder) - kRounder;
}

}  // namespace ehub::hnsw
