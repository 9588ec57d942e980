// What a checkpoint is about to do, from its cut to the switch of manifests. Its phases are in checkpoint.cpp, what is
// different where rows are erased in erasure.cpp.
//
// Thread-safety: belongs to the one checkpoint at work.

#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "store/store_impl.h"

namespace ehub {

// One table's part of a checkpoint: segments that leave, and what takes their place. Their deletion vectors are those
// of the beginning; a restore meanwhile gives the table others.
struct TableWork {
  std::shared_ptr<Table> table;
  Times times;                         // at which rows are needed
  std::vector<SealedRef> candidates;   // all sealed segments, until `compacted` is chosen
  std::vector<FreshRef> frozen;        // to be sealed
  std::vector<FreshRef> dead;          // frozen, too, but nothing in them is needed
  std::vector<SealedRef> compacted;    // to be rewritten together
  bool compacted_dead = false;         // nothing in them is needed, so there is nothing to read and to write
  std::vector<Rewritten> from_memory;  // per frozen segment that is rewritten
  std::vector<std::pair<std::shared_ptr<FreshSegment>, std::shared_ptr<const SealedSegment>>> sealed;  // file segments
  RewrittenApart merged;                                                                               // of `compacted`
  bool is_prepared = false;  // `merged` was made before

  // The rows to be erased, ascending, by the segment that has them; none by one that is only to lose its needless rows.
  // And the sealed ones among those, made anew.
  std::map<const Segment*, std::vector<Row>> erased;
  std::vector<std::pair<SealedRef, Rewritten>> cleaned;

  // Whether a frozen segment becomes a new one; else it stays in its file.
  bool is_rewritten(const FreshRef& frozen) const {
    return frozen.segment->file() == nullptr || erased.contains(frozen.segment.get());
  }
  // Says of a segment's rows which are not to be erased; null: none are. Good as long as this object is.
  std::function<bool(size_t source, Row row)> kept_rows(const Segment& segment) const {
    const auto found = erased.find(&segment);
    if (found == erased.end()) return nullptr;
    return [&rows = found->second](size_t, Row row) { return !std::binary_search(rows.begin(), rows.end(), row); };
  }
};

// What the log says of a table beside its rows.
struct TableNames {
  bool frozen = false;
  std::map<std::string, Seq> tags;
  std::vector<Seq> pinned;  // tags and leases: the log behind the cut may go back to any of them
};

struct CheckpointPlan {
  CheckpointRequest request;
  CompactionOutcome outcome;  // in the table that the request names
  Status compaction;          // ... and how that ended
  Seq cut = 0;
  SegmentId first_new = 0;  // segments from this one on may be needed by the new log
  LogNumber first_log = 0;
  uint64_t carried_bytes = 0;
  std::vector<std::shared_ptr<Table>> carried;
  std::vector<TableWork> work;
  std::map<TableId, TableNames> names;  // as of the cut
  Notes notes;                          // the same
  Manifest manifest;
  std::vector<SegmentId> kept;
  std::vector<SegmentId> made;  // by an erasure
};

}  // namespace ehub
