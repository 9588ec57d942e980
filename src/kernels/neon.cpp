// NEON (AArch64, where it is part of the baseline): 4 floats a register.

#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

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

  static void accumulate(const float* row, double weight, size_t dims, double* sum) {
    const float64x2_t weights = vdupq_n_f64(weight);
    size_t d = 0;
    for (; d + 2 <= dims; d += 2) {
      vst1q_f64(sum + d, vfmaq_f64(vld1q_f64(sum + d), weights, vcvt_f64_f32(vld1_f32(row + d))));
    }
    if (d < dims) sum[d] = __builtin_fma(weight, static_cast<double>(row[d]), sum[d]);
  }

  static Integers magnitude_max(Integers bits, Vector v) {
    return vmaxq_s32(bits, vandq_s32(vreinterpretq_s32_f32(v), vdupq_n_s32(0x7fffffff)));
  }
  static bool any_above(Integers bits, int32_t limit) { return vmaxvq_s32(bits) > limit; }
};

}  // namespace

constinit const KernelTable kNeonKernels = make_table<Neon>("neon");

}  // namespace ehub

#endif
