// The first centroids of k-means, and the random numbers for them: the same on every machine.
//
// Thread-safety: a Random belongs to one thread; draw_seeds is pure otherwise. It fails for want of memory alone.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"

namespace ehub {

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits();
  // In [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  // `count` of the numbers below `n`, ascending, each set of them as likely as any other. Requires: count <= n.
  std::vector<size_t> sample(size_t n, size_t count);

 private:
  uint64_t state_;
};

// Out of how many rows k seeds are drawn, where there are so many.
size_t seeding_rows(size_t k);

// The places of k different rows of float32[n][dims]: the first at random, each other with probability proportional to
// its squared distance from the nearest drawn before; an eighth of the number so far at a time, at least one. Requires:
// 0 < k <= n.
Result<std::vector<size_t>> draw_seeds(const float* rows, size_t n, size_t dims, size_t k, Random& random,
                                       unsigned threads);

}  // namespace ehub
