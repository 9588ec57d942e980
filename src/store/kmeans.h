// k-means over the visible rows of a view, or a sample of them.
//
// Lloyd's iterations: each row goes to the nearest centroid, each centroid to the mean of its rows. Under l2 and inner
// product distances are squared Euclidean; under cosine it is spherical k-means (Dhillon, Modha 2001): rows count by
// their direction, centroids have unit length, distances are 1 - cos. It begins with rows drawn with probability
// proportional to their squared distance from those drawn before, as in k-means++ (Arthur, Vassilvitskii 2007), out of
// a sample, and many at a time once there are many, as in k-means|| (Bahmani et al. 2012). A cluster that loses all its
// rows is moved to the row that is farthest from its centroid.
//
// The same view, seed and instruction set give the same bytes, whatever the number of threads.
//
// Thread-safety: one thread at a time.
// Failure: kInvalidArgument for fewer rows than clusters; kCorruption where a damaged block is touched.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "store/view.h"

namespace ehub {

struct KMeansOptions {
  size_t k = 8;
  uint64_t seed = 0;
  uint64_t sample = 0;   // so many rows are drawn; 0: all
  unsigned threads = 0;  // 0: the cores
};

class KMeans {
 public:
  // The rows, the first centroids, and each row at the nearest of them.
  static Result<std::unique_ptr<KMeans>> start(std::shared_ptr<const View> view, const KMeansOptions& options);

  // Moves the centroids and assigns the rows anew; how many changed their cluster.
  Result<uint64_t> step();

  size_t k() const { return options_.k; }
  size_t dims() const { return view_->schema().dims; }
  uint64_t row_count() const { return rows_.size(); }
  const float* centroids() const { return centroids_.data(); }  // float32[k][dims]
  // How many rows are at each centroid.
  std::vector<int64_t> counts() const;
  // The sum of the rows' distances from their centroids.
  double inertia() const { return inertia_; }

 private:
  KMeans(std::shared_ptr<const View> view, const KMeansOptions& options)
      : view_(std::move(view)), options_(options), cosine_(view_->schema().metric == Metric::kCosine) {}

  Status draw_centroids();
  Result<uint64_t> assign();
  uint64_t assign_block(const float* block, size_t begin, size_t n, std::vector<float>& values);
  // Moves centroids without rows to the rows that are farthest from theirs.
  Status reseed(const std::vector<size_t>& empty);
  Status copy_to_centroid(size_t row, size_t cluster);

  std::shared_ptr<const View> view_;
  const KMeansOptions options_;
  const bool cosine_;
  std::vector<Ordinal> rows_;
  std::vector<uint32_t> clusters_;  // of each row
  std::vector<float> distances_;    // of each row from its centroid
  std::vector<double> weights_;     // under cosine: 1 / norm of each row
  std::vector<float> centroids_;
  double inertia_ = 0;
};

}  // namespace ehub
