// Averages of many groups of rows in one pass over memory.
//
// Sums are float64, in the order of a group's members; a group with very many is summed in parts of fixed size, and the
// parts in their order. So a mean does not depend on how many threads there are. Rows are asked for ahead of the sum.
//
// Thread-safety: pure functions over a view.
// Failure: kCorruption where a damaged block is touched; kNotFound where a file is missing, or a member that must be
// there. Of several failures the first in the order of the members, as far as they were met.

#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "store/probe.h"
#include "store/view.h"

namespace ehub {

// Members of group g: those from begins[g] to before begins[g + 1].
struct Groups {
  const Ordinal* rows;     // kNoOrdinal: left out, with its weight; null: the rows of `keys`
  const double* weights;   // one per member, or null: all 1
  const uint64_t* begins;  // count + 1 of them, ascending from 0
  size_t count;
  KeyList keys = {};
  bool needs_all = false;  // instead of leaving out what is not there
};

inline constexpr uint64_t kNoMember = ~uint64_t{0};

// Why a group has a mean, or none.
enum class MeanState : uint8_t {
  kOk = 0,
  kEmpty = 1,     // no member is there
  kNoWeight = 2,  // the weights' sum is zero or not finite
  kZero = 3,      // to be normalised, and has no direction
  kTooLarge = 4,  // for float32
};

// The weighted mean of each group to out[count][dims], of unit length if `normalize`; zeros where there is none.
// `found`: how many members of each group there are. `missing`, if it is not null: the member that the failure is of,
// if it is one that must be there and is not, else kNoMember. On at most `threads` threads (0: the cores).
Status average_groups(const View& view, const Groups& groups, bool normalize, unsigned threads, float* out,
                      int64_t* found, MeanState* states, uint64_t* missing = nullptr);

// The mean of the visible rows of each partition 1 to `partitions`, to out[partitions][dims], as above.
Status average_partitions(const View& view, uint32_t partitions, bool normalize, float* out, int64_t* found,
                          MeanState* states);

}  // namespace ehub
