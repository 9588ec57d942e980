#include "store/table.h"

#include <algorithm>

namespace ehub {
namespace {

// Keys probed together, so that their cache misses overlap.
constexpr size_t kProbeKeys = 32;

// The live row of `key` in one sealed segment, or kNoRow.
Result<Row> live_row(const SealedRef& sealed, const Key& key) {
  Result<Row> row = sealed.segment->find(key);
  if (!row.ok() || row.value() == kNoRow) return row;
  return sealed.deaths->death(row.value()) != 0 ? kNoRow : row.value();
}

Status locate_in(const std::vector<SealedRef>& sealed, size_t s, const Key* keys, size_t n, Ordinal* out) {
  for (size_t i = 0; i < n; ++i) sealed[s].segment->prefetch(keys[i]);
  for (size_t i = 0; i < n; ++i) {
    if (out[i] != kNoOrdinal) continue;
    const Result<Row> row = live_row(sealed[s], keys[i]);
    if (!row.ok()) return row.status();
    if (row.value() != kNoRow) out[i] = make_ordinal(s, row.value());
  }
  return {};
}

}  // namespace

Table::Table(TableId id_, std::string space_, std::string version_, const Schema& schema_, Seq created_)
    : id(id_),
      space(std::move(space_)),
      version(std::move(version_)),
      schema(schema_),
      created(created_),
      state_(std::make_shared<const TableState>()) {}

std::vector<std::string> Table::partition_names() const {
  const std::lock_guard lock(partitions_mutex_);
  return partition_names_;
}

uint32_t Table::partition_number(std::string_view name) {
  const std::lock_guard lock(partitions_mutex_);
  const auto found = std::find(partition_names_.begin(), partition_names_.end(), name);
  if (found != partition_names_.end()) return static_cast<uint32_t>(found - partition_names_.begin()) + 1;
  partition_names_.emplace_back(name);
  return static_cast<uint32_t>(partition_names_.size());
}

void Table::set_partition_names(std::vector<std::string> names) {
  const std::lock_guard lock(partitions_mutex_);
  partition_names_ = std::move(names);
}

Result<SealedRows> Table::locate_sealed(const std::vector<Key>& keys) const {
  SealedRows located(keys.size(), kNoOrdinal);
  for (size_t begin = 0; begin < keys.size(); begin += kProbeKeys) {
    const size_t n = std::min(kProbeKeys, keys.size() - begin);
    for (size_t s = sealed_.size(); s-- > 0;) {
      EHUB_RETURN_IF_ERROR(locate_in(sealed_, s, keys.data() + begin, n, located.data() + begin));
    }
  }
  return located;
}

void Table::reserve_deaths(const SealedRows& located) {
  for (const Ordinal row : located) {
    if (row != kNoOrdinal) sealed_[row >> 32].deaths->reserve_row(static_cast<Row>(row));
  }
}

void Table::reserve_all_deaths() {
  for (const SealedRef& sealed : sealed_) sealed.deaths->reserve(sealed.segment->row_count());
  for (const FreshRef& fresh : fresh_) fresh.deaths->reserve(fresh.segment->row_count());
}

bool Table::kill_located(Ordinal located, Seq seq) {
  if (located == kNoOrdinal) return false;
  return sealed_[located >> 32].deaths->kill(static_cast<Row>(located), seq);
}

bool Table::kill_fresh(const Key& key, Seq seq) {
  bool killed = false;
  for (const FreshRef& fresh : fresh_) {
    const Row row = fresh.segment->find_row(key);
    if (row != kNoRow) killed |= fresh.deaths->kill(row, seq);
  }
  return killed;
}

uint64_t Table::apply_delete(const std::vector<Key>& keys, const SealedRows& located, Seq seq) {
  uint64_t killed = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const bool in_sealed = kill_located(located[i], seq);
    killed += kill_fresh(keys[i], seq) || in_sealed;
  }
  return killed;
}

uint64_t Table::apply_delete_all(Seq seq) {
  uint64_t killed = 0;
  const auto kill_rows = [&](const Segment& segment, DeletionVector& deaths) {
    for (Row row = 0; row < segment.row_count(); ++row) killed += deaths.kill(row, seq);
  };
  for (const SealedRef& sealed : sealed_) kill_rows(*sealed.segment, *sealed.deaths);
  for (const FreshRef& fresh : fresh_) kill_rows(*fresh.segment, *fresh.deaths);
  return killed;
}

bool Table::apply_set(FreshSegment& target, const Key& key, Ordinal located, Seq seq, uint32_t partition,
                      const void* vector) {
  const bool in_sealed = kill_located(located, seq);
  const bool in_fresh = kill_fresh(key, seq);
  target.append(key, seq, partition, vector);
  return in_sealed || in_fresh;
}

FreshSegment& Table::memory() {
  for (const FreshRef& fresh : fresh_) {
    if (!fresh.frozen && fresh.segment->file() == nullptr) return *fresh.segment;
  }
  add_fresh(std::make_shared<FreshSegment>(schema));
  return *fresh_.back().segment;
}

std::shared_ptr<FreshSegment> Table::active_file() const {
  for (auto fresh = fresh_.rbegin(); fresh != fresh_.rend(); ++fresh) {
    if (!fresh->frozen && fresh->segment->file() != nullptr) return fresh->segment;
  }
  return nullptr;
}

std::shared_ptr<FreshSegment> Table::find_file(SegmentId segment_id) const {
  for (const FreshRef& fresh : fresh_) {
    if (fresh.segment->file() != nullptr && fresh.segment->id() == segment_id) return fresh.segment;
  }
  return nullptr;
}

void Table::add_fresh(std::shared_ptr<FreshSegment> segment) {
  std::vector<FreshRef> fresh = fresh_;
  fresh.push_back({std::move(segment), std::make_shared<DeletionVector>(), false});
  replace(sealed_, std::move(fresh));
}

void Table::replace(std::vector<SealedRef> sealed, std::vector<FreshRef> fresh) {
  auto state = std::make_shared<TableState>();
  state->segments.reserve(sealed.size() + fresh.size());
  for (const SealedRef& ref : sealed) state->segments.push_back({ref.segment, ref.deaths});
  for (const FreshRef& ref : fresh) state->segments.push_back({ref.segment, ref.deaths});
  sealed_ = std::move(sealed);
  fresh_ = std::move(fresh);
  state_.store(std::move(state));
}

void Table::freeze(bool memory_too) {
  for (FreshRef& fresh : fresh_) {
    if (fresh.segment->file() != nullptr || memory_too) fresh.frozen = true;
  }
}

}  // namespace ehub
