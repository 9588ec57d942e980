// AVX-512 (F, BW, VL, DQ): 16 floats a register, masked loads for the tail.

#if defined(__x86_64__)

#if defined(__GNUC__) && !defined(__clang__)
// Until gcc 13 its own header initialised "undefined" registers with themselves, and warned of it.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/code_tile.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"
#include "kernels/tile.h"

namespace ehub {
namespace {

struct Avx512 {
  using Vector = __m512;
  using Integers = __m512i;
  static constexpr size_t kLanes = 16;
  static constexpr size_t kTileQueries = 6;

  static Vector zero() { return _mm512_setzero_ps(); }
  static Vector load(const float* p) { return _mm512_loadu_ps(p); }
  static __mmask16 first(size_t count) { return static_cast<__mmask16>((1U << count) - 1U); }
  static Vector load_tail(const float* p, size_t count) { return _mm512_maskz_loadu_ps(first(count), p); }
  static Vector subtract(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

  // Lane i of the result is the sum of the lanes i, i + 4, i + 8 and i + 12.
  static __m128 fold(Vector v) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  }
  static float sum(Vector v) {
    const __m128 quarter = fold(v);
    const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
  static void store_sums(const Vector (&v)[kTileRows], float* out) {
    const __m128 a = fold(v[0]);
    const __m128 b = fold(v[1]);
    const __m128 c = fold(v[2]);
    const __m128 d = fold(v[3]);
    const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
  }

  using Doubles = __m512d;
  static constexpr size_t kDoubles = 8;
  static Doubles same(double value) { return _mm512_set1_pd(value); }
  static Doubles widen(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
  static Doubles load(const double* p) { return _mm512_loadu_pd(p); }
  static void store(Doubles v, double* p) { _mm512_storeu_pd(p, v); }
  static void store_narrow(Doubles v, float* p) { _mm256_storeu_ps(p, _mm512_cvtpd_ps(v)); }
  static Doubles multiply(Doubles a, Doubles b) { return _mm512_mul_pd(a, b); }
  static Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return _mm512_fmadd_pd(a, b, c); }
  static double multiply_add(double a, double b, double c) {
    return _mm_cvtsd_f64(_mm_fmadd_sd(_mm_set_sd(a), _mm_set_sd(b), _mm_set_sd(c)));
  }

  static Integers magnitude_max(Integers bits, Vector v) {
    const __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
    return _mm512_max_epi32(bits, magnitude);
  }
  static bool any_above(Integers bits, int32_t limit) {
    return _mm512_cmpgt_epi32_mask(bits, _mm512_set1_epi32(limit)) != 0;
  }
};

struct Avx512Codes {
  using Bytes = __m512i;
  static constexpr size_t kBytes = 64;
  static constexpr bool kCentred = true;

  static Bytes zero() { return _mm512_setzero_si512(); }
  static Bytes load(const void* p) { return _mm512_loadu_si512(p); }
  static Bytes load_end(const void* p) {
    return _mm512_zextsi128_si512(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static Bytes add_pairs(Bytes sums, Bytes pairs) {
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  // |row| times the query with the row's sign: two products of at most 128 * 127 fit an int16.
  static Bytes multiply_u8(Bytes sums, Bytes row, Bytes query) {
    const Bytes centred = _mm512_xor_si512(row, _mm512_set1_epi8(-128));
    const Bytes signed_query = _mm512_mask_sub_epi8(query, _mm512_movepi8_mask(centred), zero(), query);
    return add_pairs(sums, _mm512_maddubs_epi16(_mm512_abs_epi8(centred), signed_query));
  }
  static Bytes multiply_u4(Bytes sums, Bytes row, Bytes query) {
    return add_pairs(sums, _mm512_maddubs_epi16(row, query));
  }
  static Bytes multiply_s16(Bytes sums, Bytes row, Bytes query) {
    return _mm512_add_epi32(sums, _mm512_madd_epi16(row, query));
  }
  static Bytes low_halves(Bytes row) { return _mm512_and_si512(row, _mm512_set1_epi8(15)); }
  static Bytes high_halves(Bytes row) { return _mm512_and_si512(_mm512_srli_epi16(row, 4), _mm512_set1_epi8(15)); }
  static int64_t total(Bytes sums) {
    return _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sums)),
                                                    _mm512_cvtepi32_epi64(_mm512_extracti32x8_epi32(sums, 1))));
  }
  static __m128i fold(Bytes v) {
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti32x8_epi32(v, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  }
  static void store_totals(const Bytes (&v)[kCodeTileRows], int32_t* out) {
    const __m128i ab = _mm_hadd_epi32(fold(v[0]), fold(v[1]));
    const __m128i cd = _mm_hadd_epi32(fold(v[2]), fold(v[3]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_hadd_epi32(ab, cd));
  }
};

}  // namespace

constinit const KernelTable kAvx512Kernels = make_table<Avx512>("avx512", make_code_kernels<Avx512Codes>());

}  // namespace ehub

#endif
