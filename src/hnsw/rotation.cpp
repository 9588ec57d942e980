#include "hnsw/rotation.h"

#include <bit>
#include <cmath>

#include "base/check.h"
#include "base/hash.h"

namespace ehub::hnsw {
namespace {

// The unscaled Hadamard transform. `size` is a power of two.
void hadamard(float* values, size_t size) {
  for (size_t half = 1; half < size; half *= 2) {
    for (size_t block = 0; block < size; block += 2 * half) {
      float* low = values + block;
      float* high = low + half;
      for (size_t i = 0; i < half; ++i) {
        const float a = low[i];
        const float b = high[i];
        low[i] = a + b;
        high[i] = a - b;
      }
    }
  }
}

}  // namespace

Rotation::Rotation(size_t dims, uint64_t seed) : dims_(dims), window_(std::bit_floor(dims)), signs_(kRounds * dims) {
  EHUB_ASSERT(dims >= 2);
  const float scale = 1.0F / std::sqrt(static_cast<float>(window_));
  for (size_t round = 0; round < kRounds; ++round) {
    const size_t begin = round % 2 == 0 ? 0 : dims_ - window_;
    for (size_t d = 0; d < dims_; ++d) {
      const bool flip = (fold_product(seed + round * dims_ + d, 0x9E3779B97F4A7C15) & 1) != 0;
      const bool transformed = d >= begin && d < begin + window_;
      signs_[round * dims_ + d] = (flip ? -1.0F : 1.0F) * (transformed ? scale : 1.0F);
    }
  }
}

void Rotation::apply(float* values) const {
  for (size_t round = 0; round < kRounds; ++round) {
    const float* signs = signs_.data() + round * dims_;
    for (size_t d = 0; d < dims_; ++d) values[d] *= signs[d];
    hadamard(values + (round % 2 == 0 ? 0 : dims_ - window_), window_);
  }
}

}  // namespace ehub::hnsw
