#include "store/subindex.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "hnsw/bitmap.h"

namespace ehub {
namespace {

// Keys looked up together.
constexpr Row kRowsAtOnce = 16'384;

// To find a key in a segment costs a few times what it costs to find a row's key in the set, row after row.
constexpr uint64_t kRowsPerKey = 4;

uint64_t count_bits(const std::vector<uint64_t>& bitmap) {
  uint64_t count = 0;
  for (const uint64_t word : bitmap) count += static_cast<uint64_t>(std::popcount(word));
  return count;
}

// Calls `visit` with every row of the segment that has this key.
template <typename Visit>
Status for_each_row(const Segment& segment, const Key& key, const Visit& visit) {
  Result<Row> row = segment.find(key);
  for (; row.ok() && row.value() != kNoRow; row = segment.older(row.value())) visit(row.value());
  return row.status();
}

}  // namespace

Status MemberRows::cover(const View& keys, uint64_t hash_seed, Row rows) {
  {
    const std::shared_lock shared(mutex_);
    if (covered_ >= rows) return {};
  }
  const std::unique_lock alone(mutex_);
  const Result<uint64_t> count = keys.row_count();
  if (!count.ok()) return count.status();
  if (covered_ == 0 && count.value() * kRowsPerKey < rows) return cover_by_keys(keys, hash_seed, rows);
  return cover_by_rows(keys, rows);
}

Status MemberRows::cover_by_keys(const View& keys, uint64_t hash_seed, Row rows) {
  const Result<std::vector<Ordinal>> members = keys.visible_rows();
  if (!members.ok()) return members.status();
  // The segment may have grown since `rows` was asked for.
  std::vector<uint64_t> bitmap(hnsw::bitmap_words(rows));
  for (const Ordinal member : members.value()) {
    const Result<std::string_view> key = keys.key(member);
    if (!key.ok()) return key.status();
    EHUB_RETURN_IF_ERROR(for_each_row(*segment_, make_key(hash_seed, key.value()), [&](Row row) {
      if (row < rows) hnsw::set_bit(bitmap.data(), row);
    }));
  }
  rows_ = RowSet::of(bitmap);
  covered_ = rows;
  return {};
}

Status MemberRows::cover_by_rows(const View& keys, Row rows) {
  std::vector<std::string_view> names;
  std::vector<Ordinal> found;
  while (covered_ < rows) {
    const Row end = std::min(rows, covered_ + kRowsAtOnce);
    names.clear();
    for (Row row = covered_; row < end; ++row) {
      const Result<std::string_view> key = segment_->key(row);
      if (!key.ok()) return key.status();
      names.push_back(key.value());
    }
    found.resize(names.size());
    EHUB_RETURN_IF_ERROR(keys.locate(names.data(), names.size(), found.data()));
    for (Row row = covered_; row < end; ++row) {
      if (found[row - covered_] != kNoOrdinal) rows_.add(row);
    }
    covered_ = end;
  }
  rows_.condense(covered_);
  return {};
}

Result<std::shared_ptr<MemberRows>> MemberRows::changed(const std::vector<Key>& come,
                                                        const std::vector<Key>& gone) const {
  const std::shared_lock shared(mutex_);
  std::vector<uint64_t> bitmap(hnsw::bitmap_words(covered_));
  rows_.mark(covered_, bitmap);
  for (const Key& key : gone) {
    EHUB_RETURN_IF_ERROR(for_each_row(*segment_, key, [&](Row row) {
      if (row < covered_) hnsw::clear_bit(bitmap.data(), row);
    }));
  }
  for (const Key& key : come) {
    EHUB_RETURN_IF_ERROR(for_each_row(*segment_, key, [&](Row row) {
      if (row < covered_) hnsw::set_bit(bitmap.data(), row);
    }));
  }
  auto after = std::make_shared<MemberRows>(segment_);
  after->covered_ = covered_;
  after->rows_ = RowSet::of(bitmap);
  return after;
}

void MemberRows::mark(Row limit, std::vector<uint64_t>& bitmap) const {
  const std::shared_lock shared(mutex_);
  rows_.mark(limit, bitmap);
}

bool MemberRows::has(Row row) const {
  const std::shared_lock shared(mutex_);
  return rows_.has(row);
}

uint64_t MemberRows::count() const {
  const std::shared_lock shared(mutex_);
  return rows_.count();
}

std::shared_ptr<const MemberRows::Coverage> MemberRows::coverage(
    const std::shared_ptr<const hnsw::GraphFile>& graph) const {
  const std::lock_guard lock(coverage_mutex_);
  if (coverage_ != nullptr && coverage_->graph == graph) return coverage_;
  auto coverage = std::make_shared<Coverage>();
  coverage->graph = graph;
  const Row rows = segment_->row_count();
  coverage->covered.resize(hnsw::bitmap_words(rows));
  for (const uint32_t row : graph->view().segment_rows) hnsw::set_bit(coverage->covered.data(), row);
  std::vector<uint64_t> now(hnsw::bitmap_words(rows));
  mark(rows, now);
  const uint64_t count = count_bits(now);
  for (size_t w = 0; w < now.size(); ++w) now[w] &= ~coverage->covered[w];
  coverage->extra_count = count_bits(now);
  coverage->gone_count = graph->view().rows - (count - coverage->extra_count);
  if (coverage->extra_count != 0) coverage->extra = std::move(now);
  return coverage_ = std::move(coverage);
}

Result<std::shared_ptr<const View>> SubIndex::over(const View& view, const std::function<Seq()>& now, bool read_only) {
  const std::lock_guard lock(mutex_);
  EHUB_RETURN_IF_ERROR(follow(now, read_only));
  const auto has = [&](Seq seq) { return last_->since <= seq && seq <= last_->seq; };
  if (last_ != nullptr && last_->state == view.state() && has(view.seq())) return view.of(last_);
  forget_gone();
  auto rows = std::make_shared<SubIndexRows>(SubIndexRows{keys_->id, view.state(), view.seq(), 0, {}});
  for (const SegmentRef& ref : view.state()->segments) {
    if (ref.is_gone(view.seq())) {
      rows->since = std::max(rows->since, ref.deaths->last_death());
      rows->segments.push_back(std::make_shared<const MemberRows>(ref.segment));
      continue;
    }
    const Result<Row> born = ref.segment->rows_at(view.seq());
    if (!born.ok()) return born.status();
    const bool sealed = dynamic_cast<const SealedSegment*>(ref.segment.get()) != nullptr;
    auto segment = covered(ref.segment, sealed ? ref.segment->row_count() : born.value());
    if (!segment.ok()) return segment.status();
    rows->segments.push_back(std::move(segment.value()));
  }
  last_ = rows;
  return view.of(std::move(rows));
}

Result<std::shared_ptr<const MemberRows>> SubIndex::rows_in(const std::shared_ptr<const Segment>& segment,
                                                            const std::function<Seq()>& now) {
  const std::lock_guard lock(mutex_);
  EHUB_RETURN_IF_ERROR(follow(now, false));
  auto rows = covered(segment, segment->row_count());
  if (!rows.ok()) return rows.status();
  return std::shared_ptr<const MemberRows>(std::move(rows.value()));
}

void SubIndex::forget() {
  const std::lock_guard lock(mutex_);
  last_ = nullptr;
  segments_.clear();
  set_ = nullptr;
  lease_.reset();
}

// The lease comes first: whatever state the table of keys is in after it has the keys of both times.
Status SubIndex::follow(const std::function<Seq()>& now, bool read_only) {
  if (keys_->dropped()) return not_found("the sub-index was deleted");
  if (set_ != nullptr && keys_->last_change() <= set_->seq()) return {};
  Lease lease(keys_, keys_->pins().lease(now));
  auto set = std::make_shared<const View>(keys_->state(), lease.seq(), keys_->schema, hash_seed_);
  if (set_ == nullptr || read_only) {  // rows of other times may be gone from what a reader reads
    segments_.clear();
  } else {
    EHUB_RETURN_IF_ERROR(change(*set_->over(set->state()), *set));
  }
  last_ = nullptr;
  set_ = std::move(set);
  lease_.emplace(std::move(lease));
  return {};
}

Status SubIndex::change(const View& before, const View& after) {
  const auto keys_of = [&](const View& view, const View& other, std::vector<Key>& keys) -> Status {
    const Result<std::vector<Ordinal>> rows = view.rows_not_in(other);
    if (!rows.ok()) return rows.status();
    for (const Ordinal row : rows.value()) {
      const Result<std::string_view> key = view.key(row);
      if (!key.ok()) return key.status();
      keys.push_back(make_key(hash_seed_, key.value()));
    }
    return {};
  };
  std::vector<Key> gone;
  std::vector<Key> come;
  EHUB_RETURN_IF_ERROR(keys_of(before, after, gone));
  EHUB_RETURN_IF_ERROR(keys_of(after, before, come));  // a key that was set again is in both
  std::unordered_map<const Segment*, std::shared_ptr<MemberRows>> changed;
  for (const auto& [segment, rows] : segments_) {
    auto after_change = rows->changed(come, gone);
    if (!after_change.ok()) return after_change.status();
    changed.emplace(segment, std::move(after_change.value()));
  }
  segments_ = std::move(changed);
  return {};
}

Result<std::shared_ptr<MemberRows>> SubIndex::covered(const std::shared_ptr<const Segment>& segment, Row rows) {
  std::shared_ptr<MemberRows>& found = segments_[segment.get()];
  if (found == nullptr) found = std::make_shared<MemberRows>(segment);
  const std::shared_ptr<MemberRows> members = found;
  EHUB_RETURN_IF_ERROR(members->cover(*set_, hash_seed_, rows));
  return members;
}

void SubIndex::forget_gone() {
  last_ = nullptr;
  std::erase_if(segments_, [](const auto& entry) { return entry.second->segment().use_count() == 1; });
}

}  // namespace ehub
