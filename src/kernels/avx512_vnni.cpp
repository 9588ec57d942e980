// AVX-512 VNNI: the products of u8 and s8, summed in fours, in one instruction.

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

namespace ehub {
namespace {

struct Avx512VnniCodes {
  using Bytes = __m512i;
  static constexpr size_t kBytes = 64;
  static constexpr bool kCentred = false;

  static Bytes zero() { return _mm512_setzero_si512(); }
  static Bytes load(const void* p) { return _mm512_loadu_si512(p); }
  static Bytes load_end(const void* p) {
    return _mm512_zextsi128_si512(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static Bytes multiply_u8(Bytes sums, Bytes row, Bytes query) { return _mm512_dpbusd_epi32(sums, row, query); }
  static Bytes multiply_u4(Bytes sums, Bytes row, Bytes query) { return _mm512_dpbusd_epi32(sums, row, query); }
  static Bytes multiply_s16(Bytes sums, Bytes row, Bytes query) { return _mm512_dpwssd_epi32(sums, row, query); }
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

constinit const CodeKernels kAvx512VnniCodes = make_code_kernels<Avx512VnniCodes>();

}  // namespace ehub

#endif
