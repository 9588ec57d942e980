// Which sealed segments of a table are worth being rewritten as one.
//
// Segments of history, in which all is dead, are kept apart from the others: no search of what lives looks at them, so
// they are merged when they are many and rewritten when many of their rows are needed by nobody any more; how many of
// them are dead does not matter.
//
// Thread-safety: as the writer side of a table.

#pragma once

#include <set>
#include <vector>

#include "store/rewrite.h"
#include "store/table.h"

namespace ehub {

// Segments whose rewriting is the work of a checkpoint have fewer rows than this; larger ones have graphs, and are
// merged together with them, beside the writing (indexer.h).
struct CompactionLimits {
  Row segment_rows_max = 0;
  Row graph_rows_min = 0;
  const std::set<SegmentId>* unmergeable = nullptr;  // left alone; null: none
  Times times = {};                                  // rows that are visible at none of them are in the way
};

// Whether so much is dead beside what lives that the segment is to be rewritten.
bool has_many_dead(const SealedRef& ref);
// What a checkpoint rewrites unasked: one segment with many rows that are in the way, or a tier that is full.
std::vector<SealedRef> due_for_compaction(const std::vector<SealedRef>& sealed, const CompactionLimits& limits);
// The same of segments with graphs.
std::vector<SealedRef> due_for_merge(const std::vector<SealedRef>& sealed, const CompactionLimits& limits);
// What a user who asks for it wants rewritten: all with rows that nobody needs, all with many dead ones, and all where
// something lives that are not full.
std::vector<SealedRef> all_compactable(const std::vector<SealedRef>& sealed, const CompactionLimits& limits);
// Where the disk has no room for a copy of more: the one with rows that nobody needs whose copy is the smallest. None
// if there is none: what is left makes no room.
std::vector<SealedRef> first_for_room(const std::vector<SealedRef>& sealed, const CompactionLimits& limits);

}  // namespace ehub
