#include "store/compaction.h"

#include <algorithm>
#include <bit>

namespace ehub {
namespace {

// So many segments of about the same size are merged into one.
constexpr size_t kMergeSegments = 8;

SegmentRef as_ref(const SealedRef& ref) { return {ref.segment, ref.deaths}; }

bool has_needless(const SealedRef& ref, const Times& times) {
  return ref.deaths->dead_count() != 0 && needed_rows(as_ref(ref), times) != ref.segment->row_count();
}

bool is_history_with_many_needless(const SealedRef& ref, const Times& times) {
  const uint64_t rows = ref.segment->row_count();
  return ref.is_history() && are_many(rows - needed_rows(as_ref(ref), times), rows);
}

// At least the rows that a rewritten segment would have.
uint64_t rows_left(const SealedRef& ref, const Times& times) {
  return ref.segment->row_count() - (times.pinned.empty() ? ref.deaths->dead_count() : 0);
}

// Segments of one tier differ in size by less than a factor of eight.
int size_tier(const SealedRef& ref) { return std::bit_width(ref.segment->row_count()) / 3; }

template <typename Condition>
std::vector<SealedRef> those(const std::vector<SealedRef>& sealed, Condition condition) {
  std::vector<SealedRef> chosen;
  std::copy_if(sealed.begin(), sealed.end(), std::back_inserter(chosen), condition);
  return chosen;
}

// Those of which nothing is needed. They go first and alone: that takes no room on the disk, and makes some.
std::vector<SealedRef> needless(const std::vector<SealedRef>& candidates, const CompactionLimits& limits) {
  return those(candidates, [&](const SealedRef& ref) { return is_needless(as_ref(ref), limits.times); });
}

// Of `candidates`, oldest first, as many as fit into one segment.
std::vector<SealedRef> that_fit(const std::vector<SealedRef>& candidates, const CompactionLimits& limits) {
  std::vector<SealedRef> fitting;
  uint64_t rows = 0;
  for (const SealedRef& ref : candidates) {
    const uint64_t more = rows_left(ref, limits.times);
    if (rows + more > limits.segment_rows_max && !fitting.empty()) break;
    rows += more;
    fitting.push_back(ref);
  }
  return fitting;
}

// Of one kind: history, or what lives.
std::vector<SealedRef> full_tier(const std::vector<SealedRef>& candidates, bool of_history,
                                 const CompactionLimits& limits) {
  std::vector<SealedRef> tiers[11];
  for (const SealedRef& ref : candidates) {
    const bool may_grow = ref.segment->row_count() <= limits.segment_rows_max / 2;
    if (may_grow && ref.is_history() == of_history) tiers[size_tier(ref)].push_back(ref);
  }
  for (const std::vector<SealedRef>& tier : tiers) {
    if (tier.size() >= kMergeSegments) return that_fit(tier, limits);
  }
  return {};
}

std::vector<SealedRef> due_among(const std::vector<SealedRef>& candidates, const CompactionLimits& limits) {
  std::vector<SealedRef> due = needless(candidates, limits);
  if (!due.empty()) return due;
  due = those(candidates, has_many_dead);
  if (due.empty()) {
    due = those(candidates, [&](const SealedRef& ref) { return is_history_with_many_needless(ref, limits.times); });
  }
  if (!due.empty()) return that_fit(due, limits);
  due = full_tier(candidates, false, limits);
  return due.empty() ? full_tier(candidates, true, limits) : due;
}

bool is_mergeable(const SealedRef& ref, const CompactionLimits& limits) {
  return limits.unmergeable == nullptr || !limits.unmergeable->contains(ref.segment->info().id);
}

}  // namespace

bool has_many_dead(const SealedRef& ref) {
  return !ref.is_history() && are_many(ref.deaths->dead_count(), ref.segment->row_count());
}

std::vector<SealedRef> due_for_compaction(const std::vector<SealedRef>& sealed, const CompactionLimits& limits) {
  const auto is_small = [&](const SealedRef& ref) {
    return ref.segment->row_count() < limits.graph_rows_min && is_mergeable(ref, limits);
  };
  return due_among(those(sealed, is_small), limits);
}

std::vector<SealedRef> due_for_merge(const std::vector<SealedRef>& sealed, const CompactionLimits& limits) {
  const auto is_large = [&](const SealedRef& ref) {
    return ref.segment->row_count() >= limits.graph_rows_min && is_mergeable(ref, limits);
  };
  return due_among(those(sealed, is_large), limits);
}

std::vector<SealedRef> all_compactable(const std::vector<SealedRef>& sealed, const CompactionLimits& limits) {
  std::vector<SealedRef> candidates = needless(sealed, limits);
  if (!candidates.empty()) return candidates;
  candidates = those(sealed, [&](const SealedRef& ref) { return ref.is_history() && has_needless(ref, limits.times); });
  if (!candidates.empty()) return that_fit(candidates, limits);
  const auto is_improvable = [&](const SealedRef& ref) {
    return has_many_dead(ref) || has_needless(ref, limits.times);
  };
  candidates = those(sealed, [&](const SealedRef& ref) {
    return !ref.is_history() && (ref.segment->row_count() < limits.segment_rows_max || is_improvable(ref));
  });
  for (; !candidates.empty(); candidates.erase(candidates.begin())) {
    std::vector<SealedRef> fitting = that_fit(candidates, limits);
    const bool pointless = fitting.size() == 1 && !is_improvable(fitting[0]);
    if (!pointless) return fitting;
  }
  return full_tier(sealed, true, limits);
}

std::vector<SealedRef> first_for_room(const std::vector<SealedRef>& sealed, const CompactionLimits& limits) {
  std::vector<SealedRef> first;
  uint64_t least = 0;
  for (const SealedRef& ref : sealed) {
    if (ref.deaths->dead_count() == 0 || !is_mergeable(ref, limits)) continue;
    const uint64_t needed = needed_rows(as_ref(ref), limits.times);
    if (needed == ref.segment->row_count() || (!first.empty() && needed >= least)) continue;
    first = {ref};
    least = needed;
  }
  return first;
}

}  // namespace ehub
