// Rows that are not sealed yet: keys and index in memory, vectors in memory or in a growing `.f32`.
//
// Small batches go to a memory segment (their vectors are in the log as well), large ones to a file segment (theirs are
// only there). Rows never move, so readers follow one writer without a lock: the index is a table of (fingerprint, row)
// words that are replaced atomically, and a table that became too small is kept until the segment dies, because a
// reader may still be probing it.
//
// Thread-safety: append() from one thread at a time; everything of Segment from any.

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/chunked.h"
#include "store/segment.h"
#include "store/vector_file.h"

namespace ehub {

class FreshSegment final : public Segment {
 public:
  // A memory segment.
  explicit FreshSegment(const Schema& schema);
  // A file segment over `file`, which holds or will hold the vectors.
  FreshSegment(const Schema& schema, SegmentId id, std::unique_ptr<VectorFile> file);

  // Takes the memory for so many more rows, whose keys have so many bytes together: append() of them throws nothing.
  // Throws bad_alloc, and then nothing that counts has changed.
  void reserve(size_t rows, uint64_t key_bytes);
  // Adds a row and leads from it to the youngest older one with its key. `vector`: copied by a memory segment; ignored
  // by a file segment, whose file must have the row by now.
  Row append(const Key& key, Seq born, uint32_t partition, const void* vector);

  // Null for a memory segment.
  VectorFile* file() const { return file_.get(); }
  SegmentId id() const { return id_; }
  // Of keys and vectors in memory or file, not counting overhead.
  uint64_t data_bytes() const { return data_bytes_; }
  // The hash that append() was given for this row.
  uint64_t hash(Row row) const { return rows_.at(row)->hash; }

  Row row_count() const override { return row_count_.load(std::memory_order_acquire); }
  Seq seq_max() const override;
  Result<const float*> vectors(Row row, Row rows_max, Row* n) const override;
  Result<std::string_view> key(Row row) const override;
  Result<Seq> born(Row row) const override { return rows_.at(row)->born; }
  Result<Row> rows_at(Seq seq) const override;
  Result<uint32_t> partition(Row row) const override { return rows_.at(row)->partition; }
  Result<Row> find(const Key& key) const override { return find_row(key); }
  Status find_many(const Key* keys, size_t n, Row* out) const override;
  Result<Row> older(Row row) const override { return older_row(row); }

  // As find() and older(), which cannot fail here.
  Row find_row(const Key& key) const;
  Row older_row(Row row) const { return rows_.at(row)->older; }

 private:
  struct RowEntry {
    const char* key;
    uint32_t key_bytes;
    Row older;
    uint64_t hash;
    Seq born;
    uint32_t partition;
  };
  // Open addressing over a power of two of slots; a slot is fingerprint << 32 | row + 1, or 0.
  struct Index {
    explicit Index(uint64_t slot_count);
    uint64_t mask;
    std::unique_ptr<std::atomic<uint64_t>[]> slots;
  };

  const char* store_key(std::string_view key);
  std::atomic<uint64_t>* slot_of(const Index& index, const Key& key) const;
  void reserve_index(uint64_t rows);
  void reserve_keys(uint64_t bytes);

  const Schema schema_;
  const SegmentId id_ = 0;
  std::unique_ptr<VectorFile> file_;
  ChunkedArray<float> vectors_;
  ChunkedArray<RowEntry> rows_;
  std::atomic<Row> row_count_ = 0;
  uint64_t data_bytes_ = 0;
  std::vector<std::unique_ptr<Index>> indexes_;  // the last one is in use
  std::atomic<const Index*> index_ = nullptr;
  std::vector<std::unique_ptr<char[]>> key_blocks_;
  char* key_block_end_ = nullptr;
  size_t key_block_left_ = 0;
};

}  // namespace ehub
