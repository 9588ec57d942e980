#include "store/compaction.h"

#include <algorithm>
#include <bit>

namespace ehub {
namespace {

// A segment with a larger share of dead rows is rewritten.
constexpr uint32_t kDeadPercentMax = 25;

// So many segments of about the same size are merged into one.
constexpr size_t kMergeSegments = 8;

bool has_many_dead(const SealedRef& ref) {
  return uint64_t{ref.deaths->dead_count()} * 100 > uint64_t{ref.segment->row_count()} * kDeadPercentMax;
}

// Segments of one tier differ in size by less than a factor of eight.
int size_tier(const SealedRef& ref) { return std::bit_width(ref.segment->row_count()) / 3; }

// Of `candidates`, oldest first, as many as fit into one segment. Those in which nothing lives go first and alone: that
// takes no room on the disk, and makes some.
std::vector<SealedRef> that_fit(const std::vector<SealedRef>& candidates, Row rows_max) {
  std::vector<SealedRef> fitting;
  std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(fitting),
               [](const SealedRef& ref) { return live_rows(ref) == 0; });
  if (!fitting.empty()) return fitting;
  uint64_t rows = 0;
  for (const SealedRef& ref : candidates) {
    if (rows + live_rows(ref) > rows_max && !fitting.empty()) break;
    rows += live_rows(ref);
    fitting.push_back(ref);
  }
  return fitting;
}

std::vector<SealedRef> due_among(const std::vector<SealedRef>& candidates, Row rows_max) {
  std::vector<SealedRef> many_dead;
  std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(many_dead), has_many_dead);
  if (!many_dead.empty()) return that_fit(many_dead, rows_max);
  std::vector<SealedRef> tiers[11];
  for (const SealedRef& ref : candidates) {
    if (ref.segment->row_count() <= rows_max / 2) tiers[size_tier(ref)].push_back(ref);
  }
  for (const std::vector<SealedRef>& tier : tiers) {
    if (tier.size() >= kMergeSegments) return that_fit(tier, rows_max);
  }
  return {};
}

template <typename Condition>
std::vector<SealedRef> those(const std::vector<SealedRef>& sealed, Condition condition) {
  std::vector<SealedRef> chosen;
  std::copy_if(sealed.begin(), sealed.end(), std::back_inserter(chosen), condition);
  return chosen;
}

bool is_mergeable(const SealedRef& ref, const CompactionLimits& limits) {
  return limits.unmergeable == nullptr || !limits.unmergeable->contains(ref.segment->info().id);
}

}  // namespace

uint64_t live_rows(const SealedRef& ref) { return ref.segment->row_count() - ref.deaths->dead_count(); }

std::vector<SealedRef> due_for_compaction(const std::vector<SealedRef>& sealed, const CompactionLimits& limits) {
  const auto is_small = [&](const SealedRef& ref) {
    return ref.segment->row_count() < limits.graph_rows_min && is_mergeable(ref, limits);
  };
  return due_among(those(sealed, is_small), limits.segment_rows_max);
}

std::vector<SealedRef> due_for_merge(const std::vector<SealedRef>& sealed, const CompactionLimits& limits) {
  const auto is_large = [&](const SealedRef& ref) {
    return ref.segment->row_count() >= limits.graph_rows_min && is_mergeable(ref, limits);
  };
  return due_among(those(sealed, is_large), limits.segment_rows_max);
}

std::vector<SealedRef> all_compactable(const std::vector<SealedRef>& sealed, Row rows_max) {
  std::vector<SealedRef> candidates = those(sealed, [&](const SealedRef& ref) {
    return ref.deaths->dead_count() != 0 || ref.segment->row_count() < rows_max;
  });
  for (; !candidates.empty(); candidates.erase(candidates.begin())) {
    std::vector<SealedRef> fitting = that_fit(candidates, rows_max);
    const bool pointless = fitting.size() == 1 && fitting[0].deaths->dead_count() == 0;
    if (!pointless) return fitting;
  }
  return {};
}

}  // namespace ehub
