// SSE4.1: 4 floats a register.

#if defined(__x86_64__)

#include <smmintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/code_tile.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"
#include "kernels/tile.h"

namespace ehub {
namespace {

struct Sse41 {
  using Vector = __m128;
  using Integers = __m128i;
  static constexpr size_t kLanes = 4;
  static constexpr size_t kTileQueries = 2;

  static Vector zero() { return _mm_setzero_ps(); }
  static Vector load(const float* p) { return _mm_loadu_ps(p); }
  static Vector load_tail(const float* p, size_t count) {
    if (count == 1) return _mm_load_ss(p);
    const Vector pair = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return count == 2 ? pair : _mm_movelh_ps(pair, _mm_load_ss(p + 2));
  }
  static Vector subtract(Vector a, Vector b) { return _mm_sub_ps(a, b); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }

  static float sum(Vector v) {
    const __m128 pair = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
  static void store_sums(const Vector (&v)[kTileRows], float* out) {
    const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(v[0], v[1]), _mm_unpackhi_ps(v[0], v[1]));
    const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(v[2], v[3]), _mm_unpackhi_ps(v[2], v[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
  }

  using Doubles = __m128d;
  static constexpr size_t kDoubles = 2;
  static Doubles same(double value) { return _mm_set1_pd(value); }
  static Doubles widen(const float* p) {
    return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static Doubles load(const double* p) { return _mm_loadu_pd(p); }
  static void store(Doubles v, double* p) { _mm_storeu_pd(p, v); }
  static void store_narrow(Doubles v, float* p) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_castps_si128(_mm_cvtpd_ps(v)));
  }
  static Doubles multiply(Doubles a, Doubles b) { return _mm_mul_pd(a, b); }
  static Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return _mm_add_pd(_mm_mul_pd(a, b), c); }
  static double multiply_add(double a, double b, double c) { return a * b + c; }

  static Integers magnitude_max(Integers bits, Vector v) {
    return _mm_max_epi32(bits, _mm_and_si128(_mm_castps_si128(v), _mm_set1_epi32(0x7fffffff)));
  }
  static bool any_above(Integers bits, int32_t limit) {
    return _mm_movemask_epi8(_mm_cmpgt_epi32(bits, _mm_set1_epi32(limit))) != 0;
  }
};

struct Sse41Codes {
  using Bytes = __m128i;
  static constexpr size_t kBytes = 16;
  static constexpr bool kCentred = true;

  static Bytes zero() { return _mm_setzero_si128(); }
  static Bytes load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  static Bytes load_end(const void* p) { return load(p); }
  static Bytes add_pairs(Bytes sums, Bytes pairs) {
    return _mm_add_epi32(sums, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
  }
  // |row| times the query with the row's sign: two products of at most 128 * 127 fit an int16.
  static Bytes multiply_u8(Bytes sums, Bytes row, Bytes query) {
    const Bytes centred = _mm_xor_si128(row, _mm_set1_epi8(-128));
    return add_pairs(sums, _mm_maddubs_epi16(_mm_abs_epi8(centred), _mm_sign_epi8(query, centred)));
  }
  static Bytes multiply_u4(Bytes sums, Bytes row, Bytes query) {
    return add_pairs(sums, _mm_maddubs_epi16(row, query));
  }
  static Bytes multiply_s16(Bytes sums, Bytes row, Bytes query) {
    return _mm_add_epi32(sums, _mm_madd_epi16(row, query));
  }
  static Bytes low_halves(Bytes row) { return _mm_and_si128(row, _mm_set1_epi8(15)); }
  static Bytes high_halves(Bytes row) { return _mm_and_si128(_mm_srli_epi16(row, 4), _mm_set1_epi8(15)); }
  static int64_t total(Bytes sums) {
    const Bytes wide = _mm_add_epi64(_mm_cvtepi32_epi64(sums), _mm_cvtepi32_epi64(_mm_srli_si128(sums, 8)));
    return _mm_cvtsi128_si64(wide) + _mm_extract_epi64(wide, 1);
  }
  static void store_totals(const Bytes (&v)[kCodeTileRows], int32_t* out) {
    const Bytes ab = _mm_hadd_epi32(v[0], v[1]);
    const Bytes cd = _mm_hadd_epi32(v[2], v[3]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_hadd_epi32(ab, cd));
  }
};

}  // namespace

constinit const KernelTable kSse41Kernels = make_table<Sse41>("sse41", make_code_kernels<Sse41Codes>());

}  // namespace ehub

#endif
