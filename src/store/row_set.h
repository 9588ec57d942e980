// Some rows of one segment: few as a list, many as a bitmap, so that a set takes at most some 4 bytes for each of its
// rows, and at most a bit for each row of the segment.
//
// Thread-safety: a value; its owner sees to turns.

#pragma once

#include <cstdint>
#include <vector>

#include "store/types.h"

namespace ehub {

class RowSet {
 public:
  // The rows whose bits are set.
  static RowSet of(const std::vector<uint64_t>& bitmap);

  // Requires: above all rows that it has, or the last one again.
  void add(Row row);
  // Becomes a bitmap if that takes less room; `covered`: as many rows were looked at.
  void condense(Row covered);

  // Sets the bits of those of its rows that are below `limit`. Requires: a bitmap of `limit` bits.
  void mark(Row limit, std::vector<uint64_t>& bitmap) const;
  bool has(Row row) const;
  uint64_t count() const { return count_; }

 private:
  std::vector<Row> rows_;  // ascending; empty once there is a bitmap
  uint64_t count_ = 0;
  std::vector<uint64_t> bits_;  // or fewer words than the segment's rows have
};

}  // namespace ehub
