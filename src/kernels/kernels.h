// Arithmetic over float32 rows and over their codes: the contract that every instruction-set tier fills in.
//
// A tier is one translation unit (scalar.cpp, sse41.cpp, avx2.cpp, avx512.cpp, avx512_vnni.cpp, neon.cpp) built with
// its own flags. Such a unit keeps everything in an anonymous namespace, includes nothing but intrinsics, <cstddef>,
// <cstdint>, this header, tables.h, tile.h and code_tile.h (the kernels themselves, which the vector tiers share), and
// exports one constant table: a template or inline function emitted there could be linked into code that runs on a
// machine without the instructions.
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

// The last few bytes of each row of codes may lie apart, with something else beside them: kCodeEndBytes a row, from
// ends.codes + r * kCodeEndBytes on. Where a byte is no code, the query is zero.
inline constexpr size_t kCodeEndBytes = 16;
struct CodeEnds {
  const uint8_t* codes = nullptr;  // null: nothing lies apart
  const int8_t* query = nullptr;  // s8[kCodeEndBytes]; of 4-bit values that of the lower halves, then of the upper ones
};

// Integer dot products of one coded query with rows of codes that lie apart, chosen by number: row r starts at
// codes + r * row_bytes. They are exact, so all tiers give the same numbers. Requires: row_bytes > 0, a multiple of 64.
struct CodeKernels {
  // Rows of u8, each value v standing for v - 128; the query as s8[row_bytes], in [-127, 127].
  // out[i] = sum of query[d] * (row[d] - 128). `query_sum`: that of the query's values, those at the ends too.
  void (*dot_u8)(const int8_t* query, int32_t query_sum, const uint8_t* codes, size_t row_bytes, const CodeEnds& ends,
                 const uint32_t* rows, size_t n, int32_t* out);
  // Rows of two 4-bit values a byte, each v standing for 2 v - 15: byte b of block B (64 bytes) has dimension
  // 128 B + b in its lower half, and 128 B + 64 + b in its upper one. The query as s8[2 * row_bytes], in [-127, 127].
  // out[i] = sum of query[d] * (2 v[d] - 15).
  void (*dot_u4)(const int8_t* query, int32_t query_sum, const uint8_t* codes, size_t row_bytes, const CodeEnds& ends,
                 const uint32_t* rows, size_t n, int32_t* out);
  // Rows of s16, and the query. Requires: no sum of every fourth pair of products beyond an int32.
  void (*dot_s16)(const int16_t* query, const uint8_t* codes, size_t row_bytes, const uint32_t* rows, size_t n,
                  int64_t* out);
};

struct KernelTable {
  const char* name;  // "scalar", "sse41", "avx2", "avx512", "avx512_vnni", "neon"

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

  // One query against `n` rows that lie apart: as l2_one, dot_one and dot_norm_one, to the bit.
  void (*l2_apart)(const float* query, const float* const* rows, size_t n, size_t dims, float* out);
  void (*dot_apart)(const float* query, const float* const* rows, size_t n, size_t dims, float* out);
  void (*dot_norm_apart)(const float* query, const float* const* rows, size_t n, size_t dims, float* out,
                         float* norms_squared);

  // sum[d] += weights[i] * rows[i][d] for i from 0 to n - 1 in this order, in float64, of rows that lie apart. The
  // memory of the `n` rows ahead[i], those that are not null, is asked for meanwhile; `ahead` itself may be null.
  void (*accumulate)(const float* const* rows, const double* weights, size_t n, size_t dims, const float* const* ahead,
                     double* sum);

  // out[d] = sum[d] * factor for d from 0 to dims - 1, the product in float64; the same in all tiers, to the bit.
  void (*scale)(const double* sum, size_t dims, double factor, float* out);

  // True if all `n` values are finite.
  bool (*all_finite)(const float* values, size_t n);

  CodeKernels codes;
};

}  // namespace ehub
