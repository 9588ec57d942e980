#include "store/kmeans_seeding.h"

#include <algorithm>
#include <cfloat>

#include "kernels/dispatch.h"
#include "store/threads.h"

namespace ehub {
namespace {

constexpr size_t kSeedingRowsMin = 16'384;
constexpr size_t kSeedingRowsPerCluster = 8;

// Rows compared at a time with the seeds of a round.
constexpr size_t kBlockRows = 256;
constexpr size_t kRoundSeedsMax = 256;
constexpr uint64_t kWorkPerThread = 4'000'000;

// One call of draw_seeds.
class Drawing {
 public:
  Drawing(const float* rows, size_t n, size_t dims, Random& random, unsigned threads)
      : rows_(rows), n_(n), dims_(dims), random_(random), threads_(threads), squared_(n, FLT_MAX), drawn_(n, false) {}

  Result<std::vector<size_t>> draw(size_t k) {
    take(std::min(n_ - 1, static_cast<size_t>(random_.uniform() * static_cast<double>(n_))));
    for (size_t compared = 0; seeds_.size() < k;) {
      EHUB_RETURN_IF_ERROR(compare(compared));
      compared = seeds_.size();
      const size_t round = std::clamp<size_t>(seeds_.size() / 8, 1, kRoundSeedsMax);
      draw_round(std::min(round, k - seeds_.size()));
    }
    return std::move(seeds_);
  }

 private:
  void take(size_t row) {
    seeds_.push_back(row);
    drawn_[row] = true;
  }

  // Brings the squared distances up to the seeds from `first` on.
  Status compare(size_t first) {
    const size_t count = seeds_.size() - first;
    std::vector<float> seeds;
    for (size_t s = first; s < seeds_.size(); ++s) {
      seeds.insert(seeds.end(), rows_ + seeds_[s] * dims_, rows_ + (seeds_[s] + 1) * dims_);
    }
    const unsigned threads = threads_worth(n_ * dims_ * count, kWorkPerThread, threads_);
    return run_ranges(n_, kBlockRows, threads, [&](size_t begin, size_t end, unsigned) {
      std::vector<float> values(count * kBlockRows);
      kernels().l2_many(seeds.data(), count, rows_ + begin * dims_, end - begin, dims_, values.data(), kBlockRows);
      for (size_t s = 0; s < count; ++s) {
        for (size_t i = begin; i < end; ++i) {
          squared_[i] = std::min(squared_[i], values[s * kBlockRows + i - begin]);
        }
      }
      return Status();
    });
  }

  void draw_round(size_t count) {
    std::vector<double> sums(n_);
    double total = 0;
    for (size_t i = 0; i < n_; ++i) sums[i] = total += drawn_[i] ? 0.0 : squared_[i];
    for (size_t s = 0; s < count; ++s) take(draw_one(sums));
  }

  // Where chance names a drawn row again and again, or all that is left lies on a seed: the farthest that is left.
  size_t draw_one(const std::vector<double>& sums) {
    constexpr int kTries = 32;
    for (int i = 0; i < kTries && sums.back() > 0; ++i) {
      const double at = random_.uniform() * sums.back();
      const auto row = static_cast<size_t>(std::upper_bound(sums.begin(), sums.end(), at) - sums.begin());
      if (row < n_ && !drawn_[row]) return row;
    }
    size_t farthest = n_;
    for (size_t i = 0; i < n_; ++i) {
      if (!drawn_[i] && (farthest == n_ || squared_[i] > squared_[farthest])) farthest = i;
    }
    return farthest;
  }

  const float* rows_;
  const size_t n_;
  const size_t dims_;
  Random& random_;
  const unsigned threads_;
  std::vector<float> squared_;  // distance from the nearest seed
  std::vector<bool> drawn_;
  std::vector<size_t> seeds_;
};

}  // namespace

uint64_t Random::bits() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

std::vector<size_t> Random::sample(size_t n, size_t count) {
  std::vector<size_t> chosen;
  chosen.reserve(count);
  for (size_t i = 0; chosen.size() < count; ++i) {
    const auto left = static_cast<double>(n - i);
    if (uniform() * left < static_cast<double>(count - chosen.size())) chosen.push_back(i);
  }
  return chosen;
}

size_t seeding_rows(size_t k) { return std::max(kSeedingRowsMin, kSeedingRowsPerCluster * k); }

Result<std::vector<size_t>> draw_seeds(const float* rows, size_t n, size_t dims, size_t k, Random& random,
                                       unsigned threads) {
  return Drawing(rows, n, dims, random, threads).draw(k);
}

}  // namespace ehub
