// Rows of one version: what is common to rows still in memory and rows in a sealed file.
//
// Row r of a segment has a vector, a key, the seq at which it was born, and a partition number. Rows are in order of
// birth. Of several rows with the same key in one segment, find() gives the youngest, and older() leads back in time;
// which of them is visible is the affair of the view (deletion vector and seq). A row's content never changes.
//
// Thread-safety: all calls from any thread; a fresh segment may grow meanwhile, and readers ask only for rows below the
// count that they have read.
// Failure: calls that touch a file may find it missing or damaged (kCorruption).

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "store/coarse_rows.h"
#include "store/partition_index.h"
#include "store/types.h"

namespace ehub {

// Keys looked up together, so that their cache misses overlap: those of the first ones in each segment are waited for.
inline constexpr size_t kProbeKeys = 512;

// Items between the stages of a lookup: their requests for memory are as many as a processor has open at once. What is
// asked for beyond that is not on its way when it is needed.
inline constexpr size_t kStageItems = 8;

// Calls each stage for the items 0 to n - 1, one stage for an item kStageItems after the stage before.
template <typename... Stages>
void in_stages(size_t n, const Stages&... stages) {
  for (size_t i = 0; i < n + (sizeof...(stages) - 1) * kStageItems; ++i) {
    size_t item = i;  // that of a later stage is beyond n, by wrapping around, until there is one
    ((item < n ? stages(item) : void(), item -= kStageItems), ...);
  }
}

class Segment {
 public:
  virtual ~Segment() = default;
  Segment() = default;
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  // Rows so far; those of batches that are not visible yet are the last ones.
  virtual Row row_count() const = 0;
  // The youngest birth among the rows; 0 for an empty segment.
  virtual Seq seq_max() const = 0;

  // A pointer to the vectors of rows [row, row + n), contiguous, where n is set to as many rows as are contiguous in
  // memory, at most `rows_max`. The pointer is good while the segment lives. Requires: row < row_count(), rows_max > 0.
  virtual Result<const float*> vectors(Row row, Row rows_max, Row* n) const = 0;
  // The vector of a row if nothing need be checked before it is handed out, else null: for loops that then ask
  // vectors().
  virtual const float* known_vector(Row /*row*/) const { return nullptr; }
  // The bytes of a row's key, good while the segment lives.
  virtual Result<std::string_view> key(Row row) const = 0;
  virtual Result<Seq> born(Row row) const = 0;
  // The first row born after `seq`: all rows below are born at or before it.
  virtual Result<Row> rows_at(Seq seq) const = 0;
  // 0 is "no partition"; other numbers are names of the table.
  virtual Result<uint32_t> partition(Row row) const = 0;
  // The partition numbers of rows [row, row + n). Requires: row + n <= row_count().
  virtual Status labels(Row row, Row n, uint32_t* out) const;
  // The rows of each partition. Part of the segment in use, not of its value.
  PartitionIndex& partition_index() const { return partition_index_; }
  // Codes of the rows. Part of the segment in use, not of its value.
  CoarseRowsPlace& coarse_rows() const { return coarse_rows_; }

  // The youngest row with this key, or kNoRow.
  virtual Result<Row> find(const Key& key) const = 0;
  // The same of each of `n` keys, whose cache misses overlap.
  virtual Status find_many(const Key* keys, size_t n, Row* out) const = 0;
  // The next older row with the same key as `row`, or kNoRow.
  virtual Result<Row> older(Row row) const = 0;

 private:
  mutable PartitionIndex partition_index_;
  mutable CoarseRowsPlace coarse_rows_;
};

inline Status Segment::labels(Row row, Row n, uint32_t* out) const {
  for (Row i = 0; i < n; ++i) {
    const Result<uint32_t> label = partition(row + i);
    if (!label.ok()) return label.status();
    out[i] = label.value();
  }
  return {};
}

}  // namespace ehub
