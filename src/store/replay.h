// The log, read back into memory: at open, and by reader processes as the writer goes on.
//
// Records are applied in order of seq. A record of which a later one says that it was on the disk is taken as it is;
// the last ones, of which nobody says so, are taken while they are whole, vectors in segment files included, and what
// comes after the first that is not is a torn tail. A record that is missing although it was on the disk once is
// kCorruption.
//
// Thread-safety: one thread at a time, while no other changes the hub.

#pragma once

#include <deque>
#include <map>
#include <memory>

#include "store/log_applier.h"

namespace ehub {

class Replay : private LogApplier {
 public:
  // `rewrite`: write the vectors of the last records again, so that the next sync makes them durable even if an earlier
  // one failed. The tables of impl.manifest are loaded.
  Replay(Store::Impl& impl, bool rewrite);

  // Goes on from where the last call stopped. `acknowledged_max`: stop there, and take all up to it as proven; kSeqMax:
  // nobody writes, go on to the end and judge the tail.
  Status run(Seq acknowledged_max);

  // The last batch that was applied.
  Seq seq() const { return seq_; }
  LogNumber log_number() const { return log_number_; }
  // Where the log's last good record ends. Requires: the first log could be opened.
  uint64_t log_end() const { return reader_->offset(); }
  // Whether there is anything behind what the manifest says: batches, a torn tail, a further log.
  bool found_more() const { return found_more_; }
  // The logs that were read, and where each one's last good record ends. Requires: as above.
  std::map<LogNumber, uint64_t> log_ends() const;
  // How much of files of vectors the records that were applied refer to, those of tables that are gone included.
  struct VectorEnd {
    uint64_t bytes = 0;
    uint64_t row_bytes = 0;
  };
  const std::map<SegmentId, VectorEnd>& vector_ends() const { return vector_ends_; }

 private:
  Status open_first_log();
  Status read_logs(Seq seq_max);
  Status read_log(Seq seq_max);
  Status take(LogRecord record);
  // Moves on to the log that continues this one; false if there is none.
  Result<bool> next_log();
  Status judge_end();
  Status apply_proven(Seq proven);
  Status apply_unproven();

  LoggedBatch as_batch(const LogRecord& record, bool proven) const;
  Result<bool> set_from_files(Rows& rows, const LogOp& op, const LoggedBatch& batch) override;
  // All extents or none: a batch is one.
  Result<std::vector<Placed>> extend_files(Table& table, const LogOp& op, bool proven);
  Result<Placed> extend_file(Table& table, const Extent& extent, bool proven);
  Result<std::shared_ptr<FreshSegment>> file_segment(Table& table, const Extent& extent);

  const bool rewrite_;
  std::unique_ptr<LogReader> reader_;
  LogNumber log_number_;
  Seq seq_;
  Seq read_seq_;  // of the last record read, applied or held
  Seq synced_;    // the highest seq known to have been on the disk
  bool found_more_ = false;
  std::map<LogNumber, uint64_t> ends_before_;  // of the logs before the one at hand
  std::map<SegmentId, VectorEnd> vector_ends_;
  std::deque<LogRecord> held_;  // read, and not yet applied
};

}  // namespace ehub
