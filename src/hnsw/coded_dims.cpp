#include "hnsw/coded_dims.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

#include "base/bytes.h"
#include "hnsw/team.h"

namespace ehub::hnsw {
namespace {

// Of 8-bit codes, a line of the cache.
constexpr size_t kLineDims = 64;

// Rows that say which dimensions may be left out; all have to agree.
constexpr size_t kSampleRows = 4096;

constexpr double kShareMax = 1e-4;
constexpr float kRowShareMax = 1.0F / 16;

constexpr size_t kTaskRows = 1024;

// Per dimension, the sum of the squared differences from the mean.
std::vector<double> energies(const Encoder& whole, const float* rows, size_t n) {
  const size_t dims = whole.dims();
  std::vector<float> residual(whole.residual_dims());
  std::vector<double> sums(dims, 0.0);
  const size_t count = std::min(n, kSampleRows);
  for (size_t i = 0; i < count; ++i) {
    whole.residual_of_row(rows + i * n / count * dims, residual.data());
    for (size_t d = 0; d < dims; ++d) sums[d] += static_cast<double>(residual[d] * residual[d]);
  }
  return sums;
}

// How many of the first of these have together no more than their share.
size_t negligible(const std::vector<double>& energy, const std::vector<uint32_t>& by_energy) {
  const double all = std::accumulate(energy.begin(), energy.end(), 0.0);
  double sum = 0;
  size_t count = 0;
  for (; count < by_energy.size(); ++count) {
    sum += energy[by_energy[count]];
    if (sum > kShareMax * all) break;
  }
  return count;
}

// Whether no row loses too much without some dimensions.
bool all_agree(const Encoder& whole, const float* rows, size_t n, const std::vector<uint32_t>& left_out, Team& team) {
  std::atomic<bool> agree = true;
  team.run(n, kTaskRows, [&](size_t begin, size_t end, unsigned) {
    std::vector<float> residual(whole.residual_dims());
    for (size_t i = begin; i < end && agree; ++i) {
      whole.residual_of_row(rows + i * whole.dims(), residual.data());
      float lost = 0;
      for (const uint32_t d : left_out) lost += residual[d] * residual[d];
      if (lost > kRowShareMax * squared_norm(residual.data(), residual.size())) agree = false;
    }
  });
  return agree;
}

}  // namespace

std::vector<uint32_t> coded_dims(const Encoder& whole, const float* rows, size_t n, Team& team) {
  if (whole.metric() == Metric::kInnerProduct) return {};
  const size_t dims = whole.dims();
  const std::vector<double> energy = energies(whole, rows, n);
  if (!std::all_of(energy.begin(), energy.end(), [](double sum) { return std::isfinite(sum); })) return {};
  std::vector<uint32_t> order(dims);
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return energy[a] < energy[b]; });
  const size_t count = align_up(dims - negligible(energy, order), kLineDims);
  if (count == 0 || count >= dims) return {};
  const auto first_coded = order.begin() + static_cast<ptrdiff_t>(dims - count);
  if (!all_agree(whole, rows, n, {order.begin(), first_coded}, team)) return {};
  std::vector<uint32_t> coded(first_coded, order.end());
  std::sort(coded.begin(), coded.end());
  return coded;
}

}  // namespace ehub::hnsw
