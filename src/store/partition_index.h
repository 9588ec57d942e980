// Which rows of a segment are in which partition: what a view of a partition asks of each segment.
//
// Made from the rows' labels when it is first asked, and carried on as a fresh segment grows, so labels are read once.
// At most about 4 bytes a row of the segment in all (row_set.h), and nothing for rows without a partition.
//
// Thread-safety: all calls from any thread.
// Failure: that of reading labels; what is there stays, and the next call goes on from it.

#pragma once

#include <cstdint>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "store/row_set.h"
#include "store/types.h"

namespace ehub {

class Segment;

class PartitionIndex {
 public:
  // Sets the bits of those among the first `rows` rows of `segment` that are in partition `number`. Always the same
  // segment. Requires: number > 0; a bitmap of `rows` bits.
  Status mark(const Segment& segment, uint32_t number, Row rows, std::vector<uint64_t>& bitmap);

  // How many rows of a sealed segment are in partition `number`, dead ones too.
  Result<uint64_t> count(const Segment& segment, uint32_t number);
  // The partitions with at least `rows_min` and at most `rows_max` rows of a sealed segment, ascending.
  Result<std::vector<uint32_t>> with_rows(const Segment& segment, uint64_t rows_min, uint64_t rows_max);

 private:
  Status count_all(const Segment& segment);
  Status cover(const Segment& segment, Row rows);
  void add(const uint32_t* labels, Row begin, Row end);

  std::shared_mutex mutex_;
  Row covered_ = 0;
  std::unordered_map<uint32_t, RowSet> members_;
  std::unordered_map<uint32_t, uint64_t> counts_;  // of the rows of each, once somebody asked
};

}  // namespace ehub
