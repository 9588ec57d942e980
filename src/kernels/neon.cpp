// NEON (AArch64, where it is part of the baseline): 4 floats a register.

#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/code_tile.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"
#include "kernels/tile.h"

namespace ehub {
namespace {

struct Neon {
  using Vector = float32x4_t;
  using Integers = int32x4_t;
  static constexpr size_t kLanes = 4;
  static constexpr size_t kTileQueries = 4;

  static Vector zero() { return vdupq_n_f32(0.0F); }
  static Vector load(const float* p) { return vld1q_f32(p); }
  static Vector load_tail(const float* p, size_t count) {
    Vector v = vld1q_lane_f32(p, zero(), 0);
    if (count > 1) v = vld1q_lane_f32(p + 1, v, 1);
    if (count > 2) v = vld1q_lane_f32(p + 2, v, 2);
    return v;
  }
  static Vector subtract(Vector a, Vector b) { return vsubq_f32(a, b); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }

  static float sum(Vector v) {
    const float32x4_t pairs = vpaddq_f32(v, v);
    return vgetq_lane_f32(vpaddq_f32(pairs, pairs), 0);
  }
  static void store_sums(const Vector (&v)[kTileRows], float* out) {
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])));
  }

  using Doubles = float64x2_t;
  static constexpr size_t kDoubles = 2;
  static Doubles same(double value) { return vdupq_n_f64(value); }
  static Doubles widen(const float* p) { return vcvt_f64_f32(vld1_f32(p)); }
  static Doubles load(const double* p) { return vld1q_f64(p); }
  static void store(Doubles v, double* p) { vst1q_f64(p, v); }
  static void store_narrow(Doubles v, float* p) { vst1_f32(p, vcvt_f32_f64(v)); }
  static Doubles multiply(Doubles a, Doubles b) { return vmulq_f64(a, b); }
  static Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return vfmaq_f64(c, a, b); }
  static double multiply_add(double a, double b, double c) { return __builtin_fma(a, b, c); }

  static Integers magnitude_max(Integers bits, Vector v) {
    return vmaxq_s32(bits, vandq_s32(vreinterpretq_s32_f32(v), vdupq_n_s32(0x7fffffff)));
  }
  static bool any_above(Integers bits, int32_t limit) { return vmaxvq_s32(bits) > limit; }
};

struct NeonCodes {
  using Bytes = int32x4_t;
  static constexpr size_t kBytes = 16;
  static constexpr bool kCentred = true;

  static Bytes zero() { return vdupq_n_s32(0); }
  static Bytes load(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
  static Bytes load_end(const void* p) { return load(p); }
  static Bytes multiply_s8(Bytes sums, int8x16_t row, int8x16_t query) {
    const int16x8_t low = vmull_s8(vget_low_s8(row), vget_low_s8(query));
    return vpadalq_s16(sums, vmlal_high_s8(low, row, query));
  }
  static Bytes multiply_u8(Bytes sums, Bytes row, Bytes query) {
    const uint8x16_t centred = veorq_u8(vreinterpretq_u8_s32(row), vdupq_n_u8(0x80));
    return multiply_s8(sums, vreinterpretq_s8_u8(centred), vreinterpretq_s8_s32(query));
  }
  static Bytes multiply_u4(Bytes sums, Bytes row, Bytes query) {
    return multiply_s8(sums, vreinterpretq_s8_s32(row), vreinterpretq_s8_s32(query));
  }
  static Bytes multiply_s16(Bytes sums, Bytes row, Bytes query) {
    const int16x8_t a = vreinterpretq_s16_s32(row);
    const int16x8_t b = vreinterpretq_s16_s32(query);
    return vmlal_high_s16(vmlal_s16(sums, vget_low_s16(a), vget_low_s16(b)), a, b);
  }
  static Bytes low_halves(Bytes row) {
    return vreinterpretq_s32_u8(vandq_u8(vreinterpretq_u8_s32(row), vdupq_n_u8(15)));
  }
  static Bytes high_halves(Bytes row) { return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(row), 4)); }
  static int64_t total(Bytes sums) { return vaddlvq_s32(sums); }
  static void store_totals(const Bytes (&v)[kCodeTileRows], int32_t* out) {
    vst1q_s32(out, vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3])));
  }
};

}  // namespace

constinit const KernelTable kNeonKernels = make_table<Neon>("neon", make_code_kernels<NeonCodes>());

}  // namespace ehub

#endif
