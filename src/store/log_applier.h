// What the log says, put into memory, one record at a time.
//
// All that this has to be told by those who derive from it is how rows come by their vectors that are not in the record
// but in a segment's file: a replay takes the file over, a repair copies what is whole of it.
//
// Thread-safety: one thread at a time, while no other changes the hub.

#pragma once

#include <string>
#include <vector>

#include "store/store_impl.h"

namespace ehub {

// A record of the log, and how far it is to be believed.
struct LoggedBatch {
  std::string path;  // of its log
  const LogRecord& record;
  // It was on the disk once: if vectors of it are not whole, they are damaged. Else they may have been torn.
  bool proven = false;
};

class LogApplier {
 public:
  explicit LogApplier(Store::Impl& impl) : impl_(impl) {}
  virtual ~LogApplier() = default;
  LogApplier(const LogApplier&) = delete;
  LogApplier& operator=(const LogApplier&) = delete;

 protected:
  // The rows of one set, on their way into segments in the order in which they were given.
  class Rows {
   public:
    Rows(Table& table, const LogOp& op, Seq seq, std::vector<Key> keys, SealedRows located);

    Table& table() const { return table_; }
    // Of the row that is `ahead` rows behind the next one.
    const Key& key(size_t ahead = 0) const { return keys_[next_ + ahead]; }
    size_t left() const { return keys_.size() - next_; }
    // Puts the next `n` rows into `target`, which has their vectors by now if it is a file segment.
    void put(FreshSegment& target, size_t n);
    // Kills what the next row replaces, and goes on without it.
    void leave_out();
    uint64_t rows_put() const { return rows_put_; }
    int64_t rows_killed() const { return rows_killed_; }

   private:
    Table& table_;
    const LogOp& op_;
    const Seq seq_;
    const std::vector<Key> keys_;
    const SealedRows located_;
    std::vector<uint32_t> partitions_;  // of the table, by the numbers of the record
    size_t next_ = 0;
    uint64_t rows_put_ = 0;
    int64_t rows_killed_ = 0;
  };

  // False: the batch is torn. kCorruption if it was on the disk once, or makes no sense.
  Result<bool> apply(const LoggedBatch& batch);
  virtual Result<bool> apply_op(const LogOp& op, const LoggedBatch& batch);
  // Takes all `rows` of a set with extents; results as of apply().
  virtual Result<bool> set_from_files(Rows& rows, const LogOp& op, const LoggedBatch& batch) = 0;
  std::vector<Key> hashed(const std::vector<std::string_view>& keys) const;
  void apply_drop(Table& table);

  Store::Impl& impl_;

 private:
  Result<bool> apply_set(Table& table, const LogOp& op, const LoggedBatch& batch);
  Status apply_delete(Table& table, const LogOp& op, Seq seq);
  Status apply_delete_within(Table& table, const LogOp& op, Seq seq);
  void apply_create(const LogOp& op, Seq seq);
  void apply_notes(const LogOp& op);
  Result<bool> apply_restore(Table& table, const LogOp& op, const LoggedBatch& batch);
};

}  // namespace ehub
