// AVX2 with FMA: 8 floats a register, masked loads for the tail.

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/code_tile.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"
#include "kernels/tile.h"

namespace ehub {
namespace {

// A window of 8 words that starts `count` before the middle has its first `count` words set.
constexpr int32_t kTailWindow[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct Avx2 {
  using Vector = __m256;
  using Integers = __m256i;
  static constexpr size_t kLanes = 8;
  static constexpr size_t kTileQueries = 3;

  static Vector zero() { return _mm256_setzero_ps(); }
  static Vector load(const float* p) { return _mm256_loadu_ps(p); }
  static Vector load_tail(const float* p, size_t count) {
    const auto* window = reinterpret_cast<const __m256i*>(kTailWindow + kLanes - count);
    return _mm256_maskload_ps(p, _mm256_loadu_si256(window));
  }
  static Vector subtract(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

  // Lane i of the result is the sum of the lanes i and i + 4.
  static __m128 fold(Vector v) { return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); }
  static float sum(Vector v) {
    const __m128 half = fold(v);
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
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

  using Doubles = __m256d;
  static constexpr size_t kDoubles = 4;
  static Doubles same(double value) { return _mm256_set1_pd(value); }
  static Doubles widen(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
  static Doubles load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(Doubles v, double* p) { _mm256_storeu_pd(p, v); }
  static void store_narrow(Doubles v, float* p) { _mm_storeu_ps(p, _mm256_cvtpd_ps(v)); }
  static Doubles multiply(Doubles a, Doubles b) { return _mm256_mul_pd(a, b); }
  static Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a, b, c); }
  static double multiply_add(double a, double b, double c) {
    return _mm_cvtsd_f64(_mm_fmadd_sd(_mm_set_sd(a), _mm_set_sd(b), _mm_set_sd(c)));
  }

  static Integers magnitude_max(Integers bits, Vector v) {
    const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
    return _mm256_max_epi32(bits, magnitude);
  }
  static bool any_above(Integers bits, int32_t limit) {
    return _mm256_movemask_epi8(_mm256_cmpgt_epi32(bits, _mm256_set1_epi32(limit))) != 0;
  }
};

struct Avx2Codes {
  using Bytes = __m256i;
  static constexpr size_t kBytes = 32;
  static constexpr bool kCentred = true;

  static Bytes zero() { return _mm256_setzero_si256(); }
  static Bytes load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static Bytes load_end(const void* p) {
    return _mm256_zextsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static Bytes add_pairs(Bytes sums, Bytes pairs) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  // |row| times the query with the row's sign: two products of at most 128 * 127 fit an int16.
  static Bytes multiply_u8(Bytes sums, Bytes row, Bytes query) {
    const Bytes centred = _mm256_xor_si256(row, _mm256_set1_epi8(-128));
    return add_pairs(sums, _mm256_maddubs_epi16(_mm256_abs_epi8(centred), _mm256_sign_epi8(query, centred)));
  }
  static Bytes multiply_u4(Bytes sums, Bytes row, Bytes query) {
    return add_pairs(sums, _mm256_maddubs_epi16(row, query));
  }
  static Bytes multiply_s16(Bytes sums, Bytes row, Bytes query) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(row, query));
  }
  static Bytes low_halves(Bytes row) { return _mm256_and_si256(row, _mm256_set1_epi8(15)); }
  static Bytes high_halves(Bytes row) { return _mm256_and_si256(_mm256_srli_epi16(row, 4), _mm256_set1_epi8(15)); }
  static int64_t total(Bytes sums) {
    const Bytes wide = _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(sums)),
                                        _mm256_cvtepi32_epi64(_mm256_extracti128_si256(sums, 1)));
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    return _mm_cvtsi128_si64(half) + _mm_extract_epi64(half, 1);
  }
  static __m128i fold(Bytes v) { return _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)); }
  static void store_totals(const Bytes (&v)[kCodeTileRows], int32_t* out) {
    const __m128i ab = _mm_hadd_epi32(fold(v[0]), fold(v[1]));
    const __m128i cd = _mm_hadd_epi32(fold(v[2]), fold(v[3]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_hadd_epi32(ab, cd));
  }
};

}  // namespace

constinit const KernelTable kAvx2Kernels = make_table<Avx2>("avx2", make_code_kernels<Avx2Codes>());

}  // namespace ehub

#endif
