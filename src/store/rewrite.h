// Writing the live rows of some segments into one new sealed segment: what compaction does, and the sealing of rows
// that were only in memory.
//
// Thread-safety: reads segments that others read and in which others mark deaths; a row that dies after `cut` meanwhile
// is still taken, and carry_deaths() brings its death over.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/file.h"
#include "store/segment_file.h"
#include "store/view.h"

namespace ehub {

// Rows of `sources` that live on in a new segment, and where each came from.
struct Rewritten {
  std::shared_ptr<const SealedSegment> segment;   // null: no row lives
  std::vector<std::pair<uint32_t, Row>> origins;  // per new row: index of the source, its row there
};

struct RewriteTarget {
  FileSystem& fs;
  std::string directory;
  Schema schema;
  uint64_t hash_seed;
  SegmentId id;
};

// Writes the rows of `sources` that are born at or before `cut` and not dead at it, in order of birth, and syncs both
// files. `usable`: rows for which it is false are left out (null: none); for salvage. At most kSegmentRowsMax rows.
Result<Rewritten> rewrite_segments(const RewriteTarget& target, const std::vector<SegmentRef>& sources, Seq cut,
                                   const std::function<bool(size_t source, Row row)>& usable);

// Marks in `deaths` the rows whose origins have died meanwhile.
void carry_deaths(const Rewritten& rewritten, const std::vector<SegmentRef>& sources, DeletionVector& deaths);

}  // namespace ehub
