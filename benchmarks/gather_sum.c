/* The most that reading rows in a given order can give: a sum over each, the rows behind it asked for ahead. */

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3,fast-math")))
#endif
float gather_sum(const float *values, size_t dims, const int64_t *rows, size_t n) {
  enum { kAhead = 8 };
  float sums[64] = {0};
  float sum = 0;
  for (size_t i = 0; i < n; ++i) {
    const float *row = values + (size_t)rows[i] * dims;
    if (i + kAhead < n) {
      const float *ahead = values + (size_t)rows[i + kAhead] * dims;
      for (size_t d = 0; d < dims; d += 16) __builtin_prefetch(ahead + d, 0, 2);
    }
    size_t d = 0;
    for (; d + 64 <= dims; d += 64)
      for (size_t j = 0; j < 64; ++j) sums[j] += row[d + j];
    for (; d < dims; ++d) sum += row[d];
  }
  for (size_t j = 0; j < 64; ++j) sum += sums[j];
  return sum;
}
