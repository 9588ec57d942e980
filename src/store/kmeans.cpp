#include "store/kmeans.h"

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <numeric>
#include <string>

#include "kernels/dispatch.h"
#include "store/group_average.h"
#include "store/kmeans_seeding.h"
#include "store/threads.h"

namespace ehub {
namespace {

// Rows that are copied together and compared with so many centroids at a time: both fit the second-level cache.
constexpr size_t kBlockRows = 128;
constexpr size_t kBlockCentroids = 256;

// Multiplications that are worth a thread.
constexpr uint64_t kWorkPerThread = 4'000'000;

unsigned threads_of(const KMeansOptions& options, uint64_t rows, uint64_t dims) {
  return threads_worth(rows * dims * options.k, kWorkPerThread, options.threads);
}

double norm_of(const float* row, size_t dims) {
  float squared = 0;
  kernels().dot_one(row, row, 1, dims, &squared);
  return std::sqrt(static_cast<double>(squared));
}

// Scales rows to unit length; under cosine none is stored that has no direction.
void normalize(float* rows, size_t n, size_t dims) {
  for (size_t i = 0; i < n; ++i) {
    const auto scale = static_cast<float>(1.0 / norm_of(rows + i * dims, dims));
    for (size_t d = 0; d < dims; ++d) rows[i * dims + d] *= scale;
  }
}

template <typename T>
std::vector<T> chosen_of(const std::vector<T>& all, const std::vector<size_t>& places) {
  std::vector<T> chosen;
  chosen.reserve(places.size());
  for (const size_t place : places) chosen.push_back(all[place]);
  return chosen;
}

}  // namespace

Result<std::unique_ptr<KMeans>> KMeans::start(std::shared_ptr<const View> view, const KMeansOptions& options) {
  std::unique_ptr<KMeans> kmeans(new KMeans(std::move(view), options));
  Result<std::vector<Ordinal>> rows = kmeans->view_->visible_rows();
  if (!rows.ok()) return rows.status();
  kmeans->rows_ = std::move(rows.value());
  if (options.sample != 0 && options.sample < kmeans->rows_.size()) {
    Random random(options.seed);
    kmeans->rows_ = chosen_of(kmeans->rows_, random.sample(kmeans->rows_.size(), options.sample));
  }
  const size_t n = kmeans->rows_.size();
  if (options.k == 0 || options.k > n) {
    return invalid_argument("k is " + std::to_string(options.k) + ", and there are " + std::to_string(n) +
                            " rows; expected 1 to as many clusters as rows");
  }
  kmeans->clusters_.assign(n, 0);
  kmeans->distances_.assign(n, 0);
  if (kmeans->cosine_) kmeans->weights_.assign(n, 0);
  EHUB_RETURN_IF_ERROR(kmeans->draw_centroids());
  const Result<uint64_t> assigned = kmeans->assign();
  if (!assigned.ok()) return assigned.status();
  return kmeans;
}

Status KMeans::draw_centroids() {
  Random random(options_.seed + 1);
  const size_t sample = std::min(rows_.size(), seeding_rows(options_.k));
  const std::vector<Ordinal> rows = chosen_of(rows_, random.sample(rows_.size(), sample));
  std::vector<float> vectors(sample * dims());
  EHUB_RETURN_IF_ERROR(view_->gather(rows.data(), sample, vectors.data(), options_.threads));
  if (cosine_) normalize(vectors.data(), sample, dims());
  const auto drawn = draw_seeds(vectors.data(), sample, dims(), options_.k, random, options_.threads);
  if (!drawn.ok()) return drawn.status();
  centroids_.resize(options_.k * dims());
  for (size_t c = 0; c < options_.k; ++c) {
    std::copy_n(vectors.data() + drawn.value()[c] * dims(), dims(), centroids_.data() + c * dims());
  }
  return {};
}

// Gives rows [begin, begin + n), whose vectors are in `block`, to their centroids; how many were elsewhere.
uint64_t KMeans::assign_block(const float* block, size_t begin, size_t n, std::vector<float>& values) {
  std::vector<float> best(n, std::numeric_limits<float>::infinity());
  std::vector<uint32_t> nearest(n, 0);
  const auto compare = cosine_ ? kernels().dot_many : kernels().l2_many;
  for (size_t c = 0; c < options_.k; c += kBlockCentroids) {
    const size_t count = std::min(kBlockCentroids, options_.k - c);
    compare(block, n, centroids_.data() + c * dims(), count, dims(), values.data(), kBlockCentroids);
    for (size_t i = 0; i < n; ++i) {
      const float* row = values.data() + i * kBlockCentroids;
      for (size_t j = 0; j < count; ++j) {
        const float value = cosine_ ? -row[j] : row[j];
        if (value >= best[i]) continue;
        best[i] = value;
        nearest[i] = static_cast<uint32_t>(c + j);
      }
    }
  }
  uint64_t changed = 0;
  for (size_t i = 0; i < n; ++i) {
    if (cosine_) {
      weights_[begin + i] = 1.0 / norm_of(block + i * dims(), dims());
      best[i] = std::max(0.0F, 1.0F + static_cast<float>(best[i] * weights_[begin + i]));
    }
    changed += clusters_[begin + i] != nearest[i];
    clusters_[begin + i] = nearest[i];
    distances_[begin + i] = std::min(best[i], FLT_MAX);
  }
  return changed;
}

Result<uint64_t> KMeans::assign() {
  std::atomic<uint64_t> changed = 0;
  const size_t blocks = (rows_.size() + kBlockRows - 1) / kBlockRows;
  constexpr size_t kBlocksAtATime = 8;
  EHUB_RETURN_IF_ERROR(run_ranges(
      blocks, kBlocksAtATime, threads_of(options_, rows_.size(), dims()), [&](size_t first, size_t end, unsigned) {
        std::vector<float> block(kBlockRows * dims());
        std::vector<float> values(kBlockRows * kBlockCentroids);
        for (size_t begin = first * kBlockRows; begin < std::min(rows_.size(), end * kBlockRows); begin += kBlockRows) {
          const size_t n = std::min(kBlockRows, rows_.size() - begin);
          EHUB_RETURN_IF_ERROR(view_->gather(rows_.data() + begin, n, block.data(), 1));
          changed += assign_block(block.data(), begin, n, values);
        }
        return Status();
      }));
  inertia_ = std::accumulate(distances_.begin(), distances_.end(), 0.0);
  return changed.load();
}

std::vector<int64_t> KMeans::counts() const {
  std::vector<int64_t> counts(options_.k, 0);
  for (const uint32_t cluster : clusters_) ++counts[cluster];
  return counts;
}

Status KMeans::copy_to_centroid(size_t row, size_t cluster) {
  float* centroid = centroids_.data() + cluster * dims();
  EHUB_RETURN_IF_ERROR(view_->gather(&rows_[row], 1, centroid, 1));
  if (cosine_) normalize(centroid, 1, dims());
  return {};
}

Status KMeans::reseed(const std::vector<size_t>& empty) {
  std::vector<size_t> order(rows_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::partial_sort(
      order.begin(), order.begin() + static_cast<ptrdiff_t>(empty.size()), order.end(),
      [&](size_t a, size_t b) { return distances_[a] != distances_[b] ? distances_[a] > distances_[b] : a < b; });
  for (size_t i = 0; i < empty.size(); ++i) EHUB_RETURN_IF_ERROR(copy_to_centroid(order[i], empty[i]));
  return {};
}

Result<uint64_t> KMeans::step() {
  std::vector<uint64_t> begins(options_.k + 1, 0);
  for (const uint32_t cluster : clusters_) ++begins[cluster + 1];
  std::partial_sum(begins.begin(), begins.end(), begins.begin());
  std::vector<uint64_t> next = begins;
  std::vector<Ordinal> members(rows_.size());
  std::vector<double> weights(weights_.size());
  for (size_t i = 0; i < rows_.size(); ++i) {
    const uint64_t at = next[clusters_[i]]++;
    members[at] = rows_[i];
    if (cosine_) weights[at] = weights_[i];
  }
  std::vector<float> means(centroids_.size());
  std::vector<int64_t> found(options_.k);
  std::vector<MeanState> states(options_.k);
  const Groups groups = {members.data(), cosine_ ? weights.data() : nullptr, begins.data(), options_.k};
  EHUB_RETURN_IF_ERROR(
      average_groups(*view_, groups, cosine_, options_.threads, means.data(), found.data(), states.data()));
  std::vector<size_t> empty;
  for (size_t c = 0; c < options_.k; ++c) {
    // A cluster whose rows cancel each other out keeps its centroid.
    if (states[c] == MeanState::kOk) std::copy_n(means.data() + c * dims(), dims(), centroids_.data() + c * dims());
    if (states[c] == MeanState::kEmpty) empty.push_back(c);
  }
  if (!empty.empty()) EHUB_RETURN_IF_ERROR(reseed(empty));
  return assign();
}

}  // namespace ehub
