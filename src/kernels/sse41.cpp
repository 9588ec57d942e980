// SSE4.1: 4 floats a register.

#if defined(__x86_64__)

#include <smmintrin.h>

#include <cstddef>
#include <cstdint>

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

  static void accumulate(const float* row, double weight, size_t dims, double* sum) {
    const __m128d weights = _mm_set1_pd(weight);
    size_t d = 0;
    for (; d + 2 <= dims; d += 2) {
      const __m128d values = _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + d))));
      _mm_storeu_pd(sum + d, _mm_add_pd(_mm_mul_pd(weights, values), _mm_loadu_pd(sum + d)));
    }
    if (d < dims) sum[d] += weight * row[d];
  }

  static Integers magnitude_max(Integers bits, Vector v) {
    return _mm_max_epi32(bits, _mm_and_si128(_mm_castps_si128(v), _mm_set1_epi32(0x7fffffff)));
  }
  static bool any_above(Integers bits, int32_t limit) {
    return _mm_movemask_epi8(_mm_cmpgt_epi32(bits, _mm_set1_epi32(limit))) != 0;
  }
};

}  // namespace

constinit const KernelTable kSse41Kernels = make_table<Sse41>("sse41");

}  // namespace ehub

#endif
