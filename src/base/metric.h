// The three distances of a version. Smaller is nearer in all of them; the numbers are on disk and never change.

#pragma once

#include <cstdint>

namespace ehub {

enum class Metric : uint32_t {
  kL2 = 0,            // squared Euclidean distance
  kInnerProduct = 1,  // 1 - dot(a, b)
  kCosine = 2,        // 1 - dot(a, b) / (|a| |b|)
};

}  // namespace ehub
