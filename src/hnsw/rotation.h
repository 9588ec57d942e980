// A random rotation that costs O(d log d): it spreads what a few dimensions hold over all of them, so that one scale a
// row suits them all.
//
// Four rounds, each flipping signs at random and applying a fast Hadamard transform to a power of two of the
// dimensions: the first ones, then the last ones, in turns (the construction of the Kac walk in RaBitQ). Distances and
// products are kept, to rounding. The signs follow from `seed` alone, and every operation is elementwise, so the result
// is the same on every machine.
//
// Thread-safety: const calls from any thread.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ehub::hnsw {

class Rotation {
 public:
  // Requires: dims >= 2.
  Rotation(size_t dims, uint64_t seed);

  // Rotates values[dims] in place.
  void apply(float* values) const;

 private:
  static constexpr size_t kRounds = 4;

  size_t dims_;
  size_t window_;             // the largest power of two that is not above dims
  std::vector<float> signs_;  // [kRounds][dims], the scaling of the transform included where it applies
};

}  // namespace ehub::hnsw
