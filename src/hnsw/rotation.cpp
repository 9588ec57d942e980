#include "hnsw/rotation.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/hash.h"

namespace ehub::hnsw {
namespace {

// Four floats, of which every processor here adds all at once.
using Four = float __attribute__((vector_size(16)));

Four load(const float* values) {
  Four four;
  std::memcpy(&four, values, sizeof(four));
  return four;
}
void store(float* values, Four four) { std::memcpy(values, &four, sizeof(four)); }

// Two steps of the transform: values that are one, then two places of the array apart.
void two_steps(Four (&at)[4]) {
  const Four sums[2] = {at[0] + at[1], at[2] + at[3]};
  const Four differences[2] = {at[0] - at[1], at[2] - at[3]};
  at[0] = sums[0] + sums[1];
  at[1] = differences[0] + differences[1];
  at[2] = sums[0] - sums[1];
  at[3] = differences[0] - differences[1];
}

void transpose(Four (&at)[4]) {
  const Four low01 = __builtin_shufflevector(at[0], at[1], 0, 4, 1, 5);
  const Four high01 = __builtin_shufflevector(at[0], at[1], 2, 6, 3, 7);
  const Four low23 = __builtin_shufflevector(at[2], at[3], 0, 4, 1, 5);
  const Four high23 = __builtin_shufflevector(at[2], at[3], 2, 6, 3, 7);
  at[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
  at[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
  at[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
  at[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
}

// The first four steps, among 16 values that follow each other.
void four_steps(float* values) {
  Four at[4] = {load(values), load(values + 4), load(values + 8), load(values + 12)};
  transpose(at);
  two_steps(at);
  transpose(at);
  two_steps(at);
  for (size_t i = 0; i < 4; ++i) store(values + 4 * i, at[i]);
}

void step(float* values, size_t size, size_t half) {
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

// The steps for values `apart` and 2 `apart` places from each other. Requires: apart >= 4.
void two_steps(float* values, size_t size, size_t apart) {
  for (size_t block = 0; block < size; block += 4 * apart) {
    for (size_t i = block; i < block + apart; i += 4) {
      float* places = values + i;
      Four at[4] = {load(places), load(places + apart), load(places + 2 * apart), load(places + 3 * apart)};
      two_steps(at);
      for (size_t j = 0; j < 4; ++j) store(places + j * apart, at[j]);
    }
  }
}

// The unscaled Hadamard transform. `size` is a power of two. Sums are made in the order of the steps, so that they are
// the same however many steps are taken at a time.
void hadamard(float* values, size_t size) {
  size_t half = 1;
  if (size >= 16) {
    for (size_t i = 0; i < size; i += 16) four_steps(values + i);
    for (half = 16; 4 * half <= size; half *= 4) two_steps(values, size, half);
  }
  for (; half < size; half *= 2) step(values, size, half);
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
