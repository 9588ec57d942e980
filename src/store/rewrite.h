// Writing the rows of some segments that are needed into new sealed segments: what compaction does, and the sealing of
// rows that were only in memory.
//
// Rows that are dead, and needed by times of the past alone, would be in the way of those that live: graphs would have
// them, and searches go through them. So compaction writes them apart, into a segment of history, unless they are few.
//
// Thread-safety: reads segments that others read and in which others mark deaths; a row that dies after `cut` meanwhile
// is still taken, and carry_deaths() brings its death over.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/stop.h"
#include "io/file.h"
#include "store/segment_file.h"
#include "store/view.h"

namespace ehub {

// Rows of `sources` that live on in a new segment, and where each came from.
struct Rewritten {
  std::shared_ptr<const SealedSegment> segment;   // null: no row lives
  std::vector<std::pair<uint32_t, Row>> origins;  // per new row: index of the source, its row there
};

// The same, written apart.
struct RewrittenApart {
  Rewritten living = {};   // rows that are visible now, and dead ones among them as far as they are few
  Rewritten history = {};  // rows that are dead now
};

// A segment is rewritten if more than so many of its rows are in the way of the others: dead ones of those that live;
// of history, which only the past needs, those that no pinned time sees.
inline constexpr uint32_t kNeedlessPercentMax = 25;
inline bool are_many(uint64_t needless, uint64_t rows) { return needless * 100 > rows * kNeedlessPercentMax; }

// When somebody looks at the rows: now, and at times in the past that are still wanted.
struct Times {
  Seq now = kSeqMax;
  std::vector<Seq> pinned = {};  // ascending, before now
  bool all = false;              // at any time whatever: a repair knows not yet which

  // Whether the row is visible at one of them.
  bool need(const DeletionVector& deaths, Row row, Seq born) const;
};

// How many rows of a segment, all born by now, are visible at one of the times, those that died since now included.
// Rows of which the birth cannot be read count as needed. Of history this is remembered: looked at again, it costs what
// comparing the times costs.
uint64_t needed_rows(const SegmentRef& ref, const Times& times);
// Whether there are none.
bool is_needless(const SegmentRef& ref, const Times& times);

struct RewriteTarget {
  FileSystem& fs;
  std::string directory;
  Schema schema;
  uint64_t hash_seed;
  SegmentId id;
  StopFlag stop = nullptr;                          // once it is wanted, kDeadline
  std::atomic<uint64_t>* rows_rewritten = nullptr;  // where rows are counted as they are written; null: nowhere
};

// Writes the rows of `sources` that are visible at one of `times`, in order of birth, and syncs both files. `usable`:
// rows for which it is false are left out (null: none); for salvage. At most kSegmentRowsMax rows.
Result<Rewritten> rewrite_segments(const RewriteTarget& target, const std::vector<SegmentRef>& sources,
                                   const Times& times, const std::function<bool(size_t source, Row row)>& usable);

// The same of all that are visible, apart: see RewrittenApart. `history`: the id of that segment, if there is one. It
// is as much asked of as the source that was asked most.
Result<RewrittenApart> rewrite_apart(const RewriteTarget& target, SegmentId history,
                                     const std::vector<SegmentRef>& sources, const Times& times);

// What `sources` say of the rows by now, deaths since they were rewritten included.
std::shared_ptr<DeletionVector> carry_deaths(const Rewritten& rewritten, const std::vector<SegmentRef>& sources);

}  // namespace ehub
