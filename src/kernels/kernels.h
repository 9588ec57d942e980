// Arithmetic over float32 rows: the contract that every instruction-set tier fills in.
//
// A tier is one translation unit (scalar.cpp, sse41.cpp, avx2.cpp, avx512.cpp, neon.cpp) built with its own flags. Such
// a unit keeps everything in an anonymous namespace, includes nothing but intrinsics, <cstddef>, <cstdint>, this
// header, tables.h and tile.h (the kernels themselves, which the vector tiers share), and exports one constant table: a
// template or inline function emitted there could be linked into code that runs on a machine without the instructions.
// dispatch.h chooses a table once, by CPUID, XGETBV and the environment.
//
// Rows are contiguous: row i starts at rows + i * dims. No alignment is required. dims >= 1. Sums are float32 unless
// said; the order of summation differs between tiers, so results agree to rounding, not to the bit. Within one tier the
// distance of a pair does not depend on how many queries or rows the call has, nor on which kernel computes it.
// Thread-safety: pure functions.

#pragma once

#include <cstddef>
#include <cstdint>

namespace ehub {

struct KernelTable {
  const char* name;  // "scalar", "sse41", "avx2", "avx512", "neon"

  // One query against `n` rows: out[i] = squared Euclidean distance.
  void (*l2_one)(const float* query, const float* rows, size_t n, size_t dims, float* out);
  // One query against `n` rows: out[i] = dot product.
  void (*dot_one)(const float* query, const float* rows, size_t n, size_t dims, float* out);
  // As dot_one, and norms_squared[i] = dot(row i, row i), in the same pass over memory.
  void (*dot_norm_one)(const float* query, const float* rows, size_t n, size_t dims, float* out, float* norms_squared);

  // `m` queries against `n` rows, register-blocked: out[q * out_stride + i]. Requires: out_stride >= n.
  void (*l2_many)(const float* queries, size_t m, const float* rows, size_t n, size_t dims, float* out,
                  size_t out_stride);
  void (*dot_many)(const float* queries, size_t m, const float* rows, size_t n, size_t dims, float* out,
                   size_t out_stride);

  // sum[d] += weight * row[d], in float64.
  void (*accumulate)(const float* row, double weight, size_t dims, double* sum);

  // True if all `n` values are finite.
  bool (*all_finite)(const float* values, size_t n);
};

}  // namespace ehub
