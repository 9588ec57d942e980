/* The most that reading memory can give: a sum over an array, vectorised as wide as the processor allows. */

#include <stddef.h>

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3,fast-math")))
#endif
float read_sum(const float *values, size_t n) {
  float sums[64] = {0};
  size_t i = 0;
  for (; i + 64 <= n; i += 64)
    for (size_t j = 0; j < 64; ++j) sums[j] += values[i + j];
  float sum = 0;
  for (; i < n; ++i) sum += values[i];
  for (size_t j = 0; j < 64; ++j) sum += sums[j];
  return sum;
}
