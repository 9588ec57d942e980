// Which dimensions codes have.
//
// Rows hardly differ in some dimensions of some data: the corners of pictures, features that nobody has. Where codes
// without these take fewer lines of the cache, they are left out, and each distance that is read is so much cheaper.
//
// Thread-safety: pure, but for the team.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hnsw/code.h"

namespace ehub::hnsw {

// Ascending, a multiple of 64 of them; empty: all. What is left out is 0.01 % of the squared distances of the rows from
// their mean, and of none more than a sixteenth. All under inner product, where a query decides what matters.
// `whole`: an encoder of all dimensions, without a rotation. `rows`: float32[n][dims].
std::vector<uint32_t> coded_dims(const Encoder& whole, const float* rows, size_t n, Team& team);

}  // namespace ehub::hnsw
