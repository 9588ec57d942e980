// What is left of the log of a damaged hub, put into memory.
//
// A record that is whole counts, whatever was before it: a batch sets and deletes keys, and to do so it needs no
// earlier one. What is missing is counted. The vectors of large batches are copied to new files as far as their blocks
// are whole, so that no file of the damaged hub changes; a key whose vector is damaged has no row any more, because an
// older one would be a wrong answer.
//
// What was torn, and never known to be on the disk or acknowledged, ends the log, here as when a hub is opened.
//
// Thread-safety: one thread, while no other changes the hub.

#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "store/log_applier.h"
#include "store/lost_rows.h"
#include "store/store.h"

namespace ehub {

class Salvage : private LogApplier {
 public:
  // The tables of impl.manifest are loaded, and their sealed segments are sound. `acknowledged`: the last batch that
  // the hub is known to have acknowledged and that is owed, 0 if nobody knows: all up to it count as proven, because it
  // is better to keep the half of such a batch, and to say so, than nothing. `lost` and `report` are added to.
  Salvage(Store::Impl& impl, Seq acknowledged, LostRows& lost, RepairReport& report);

  // Reads all logs. kIo, kFormat.
  Status run();
  // The last batch of the hub, there or missing.
  Seq seq() const { return read_seq_; }

 private:
  // A segment file that records refer to.
  struct Source {
    std::string path;
    std::string space;
    Mapping mapping;  // as far as there is a file
    uint64_t rows_lost = 0;
    Seq first_seq = 0;  // of the batches whose rows were lost
    Seq last_seq = 0;
  };

  Result<std::vector<LogNumber>> choose_logs();
  // False: what follows is a torn tail.
  Result<bool> read_log(LogNumber number);
  Result<bool> take(LogNumber number, const std::string& path, const LogRecord& record);
  Result<bool> apply_whole(const LoggedBatch& batch);
  void note_gap(LogNumber number, uint64_t begin, uint64_t end);
  void note_missing(const std::string& path, Seq first, Seq last);
  void note_log_gone(const std::string& path);
  void drop_batches(const std::string& path, uint64_t batches, const std::string& what);
  void report_sources();

  Result<bool> apply_op(const LogOp& op, const LoggedBatch& batch) override;
  Result<bool> set_from_files(Rows& rows, const LogOp& op, const LoggedBatch& batch) override;
  void lose_rows_without_space(const LogOp& op, const LoggedBatch& batch);
  Result<Source*> source_of(const Table& table, SegmentId segment);
  Status copy_sound_rows(Rows& rows, Source& source, const Extent& extent, const std::vector<bool>& sound, Seq seq);
  Status copy_rows(Rows& rows, const uint8_t* vectors, size_t n);

  const Seq acknowledged_;
  LostRows& lost_;
  RepairReport& report_;
  Seq read_seq_;  // of the last batch that was read or found missing
  Seq synced_;    // the highest seq known to have been on the disk or acknowledged
  std::map<SegmentId, Source> sources_;
  std::set<TableId> unknown_tables_;
};

}  // namespace ehub
