// The two mapped files of a sealed segment, and the answers that are read from them in place.
//
// Nothing read from a file is believed: blocks are checked against their checksums when they are first touched, and
// every number is bounded before it is used, so that even a file made up by an enemy gives kCorruption or a wrong
// answer, never a read outside the files or a loop without end.
//
// Thread-safety: all calls from any thread. Calls and failures as in segment.h. Requires of each: row < rows.

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "io/checked_mapping.h"
#include "io/file.h"
#include "store/key_table.h"
#include "store/segment_file.h"
#include "store/segment_format.h"
#include "store/types.h"

namespace ehub {

class SegmentReader {
 public:
  // Maps both files. Checks sizes, header and footer; the rest is checked when it is read.
  static Result<std::shared_ptr<const SegmentReader>> open(FileSystem& fs, const std::string& directory,
                                                           const Schema& schema, uint64_t hash_seed,
                                                           const SegmentInfo& info);
  SegmentReader(CheckedMapping vectors, CheckedMapping sections, const SegmentFooter& footer);

  Result<const float*> vectors(Row row, Row n) const;
  // That of one row if it is in a block that was found good before, else null.
  const float* known_vector(Row row) const {
    const uint64_t row_bytes = uint64_t{footer_.dims} * sizeof(float);
    return reinterpret_cast<const float*>(vectors_.known(row * row_bytes, row_bytes));
  }
  // The same of row 0, unchecked, for a prefetch.
  const float* vector_memory() const { return reinterpret_cast<const float*>(vectors_.unchecked(0)); }
  Result<std::string_view> key(Row row) const;
  Result<Seq> born(Row row) const;
  Result<Row> rows_at(Seq seq) const;
  Result<uint32_t> partition(Row row) const;
  Status labels(Row row, Row n, uint32_t* out) const;
  Result<Row> find(const Key& key) const;
  Status find_many(const Key* keys, size_t n, Row* out) const;
  Result<Row> older(Row row) const;

  // Whether the vector of a row is there and whole; for salvage, where the `.f32` may be shorter than its rows.
  bool has_vectors(Row row) const;

  Status verify() const;
  // All damaged blocks of both files; if there are none, what else verify() says. `checked`:
  // CheckedMapping::findings().
  std::vector<Finding> findings(std::atomic<uint64_t>* checked) const;

 private:
  uint64_t count(Section s, uint64_t item_bytes) const { return footer_.section(s).length / item_bytes; }
  // Item `index` of a section that is an array of T.
  template <typename T>
  Result<T> item(Section s, uint64_t index) const {
    const auto bytes = sections_.bytes(footer_.section(s).offset + index * sizeof(T), sizeof(T));
    if (!bytes.ok()) return bytes.status();
    return load_le<T>(bytes.value());
  }
  // How many leading items of a sorted section satisfy `before`.
  template <typename T, typename Before>
  Result<uint64_t> partition_point(Section s, Before before) const;
  Status damaged(Section s, uint64_t offset, const std::string& what) const;

  bool has_string_keys() const { return footer_.key_type == static_cast<uint32_t>(KeyType::kString); }
  // Where in the file the ends of a row's key and of the one before it are, which is where it begins.
  SectionRange key_ends(Row row) const;
  // Where in the key bytes a row's key is, by those ends. False if it cannot be there.
  bool key_range(const uint8_t* ends, Row row, SectionRange& range) const;
  Result<std::string_view> string_key(Row row) const;

  // segment_lookup.cpp
  Result<const uint8_t*> bucket(uint64_t at) const;
  // The row in one of these slots of bucket `at` that has this key, or kNoRow.
  Result<Row> find_in(uint64_t at, const KeyBucket& bucket, SlotMask slots, const Key& key) const;
  Result<bool> holds(Row row, const Key& key) const;
  // Of many keys, what can be said from blocks that are known to be good.
  struct Guess;
  Guess guess(const Key& key) const;
  void prefetch_key(Row row) const;
  std::string_view known_key(Row row) const;

  Status verify_births() const;
  Status verify_table_count() const;
  Status verify_keys() const;
  Result<std::vector<bool>> verify_older_rows() const;

  CheckedMapping vectors_;
  CheckedMapping sections_;
  const SegmentFooter footer_;
  const uint64_t buckets_;
};

}  // namespace ehub
