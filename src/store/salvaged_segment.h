// What can be proven of a damaged sealed segment, row by row. For repair.
//
// A block is proven by its checksum, as ever. Much of a `.seg` follows from the rest: header, key table, older rows and
// the checksums themselves. If a `.seg` written anew from the keys, births and partitions that are there is the one
// that the manifest knows, they are proven, whatever else is damaged around them. And if the checksums of blocks are
// what is damaged, those of the blocks that are there may be proven by the checksum that the footer has of them all.
//
// Thread-safety, calls and failures: as in segment.h.

#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "store/segment_file.h"
#include "store/segment_reader.h"

namespace ehub {

class SalvagedSegment final : public Segment {
 public:
  // `scratch`: the id of a `.seg` that is written for comparison and removed. kCorruption if nothing can be proven: the
  // `.seg` is missing, or more than a byte of its footer is damaged.
  static Result<std::shared_ptr<const SalvagedSegment>> open(FileSystem& fs, const std::string& directory,
                                                             const Schema& schema, uint64_t hash_seed,
                                                             const SegmentInfo& info, SegmentId scratch);
  SalvagedSegment(std::shared_ptr<const SegmentReader> reader, const SegmentInfo& info)
      : reader_(std::move(reader)), info_(info) {}

  bool has_vector(Row row) const { return reader_->has_vectors(row); }
  bool has_key(Row row) const { return reader_->key(row).ok(); }
  bool has_birth(Row row) const { return reader_->born(row).ok(); }
  bool has_partition(Row row) const { return reader_->partition(row).ok(); }

  Row row_count() const override { return info_.rows; }
  Seq seq_max() const override { return info_.seq_max; }
  // Requires: has_vector(row).
  Result<const float*> vectors(Row row, Row rows_max, Row* n) const override;
  Result<std::string_view> key(Row row) const override { return reader_->key(row); }
  // Without a birth a row counts as one of the segment's last batch: it was there then at the latest.
  Result<Seq> born(Row row) const override;
  Result<Row> rows_at(Seq seq) const override { return seq >= info_.seq_max ? info_.rows : reader_->rows_at(seq); }
  // 0 if it is not known.
  Result<uint32_t> partition(Row row) const override;
  Result<Row> find(const Key& key) const override { return reader_->find(key); }
  Status find_many(const Key* keys, size_t n, Row* out) const override { return reader_->find_many(keys, n, out); }
  Result<Row> older(Row row) const override { return reader_->older(row); }

 private:
  std::shared_ptr<const SegmentReader> reader_;
  const SegmentInfo info_;
};

}  // namespace ehub
