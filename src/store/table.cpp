#include "store/table.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "store/probe.h"
#include "store/subindex.h"

namespace ehub {
namespace {

template <typename Visit>
void for_each_bit(const std::vector<uint64_t>& bitmap, const Visit& visit) {
  for (size_t w = 0; w < bitmap.size(); ++w) {
    for (uint64_t word = bitmap[w]; word != 0; word &= word - 1) {
      visit(static_cast<Row>(w * 64) + static_cast<Row>(std::countr_zero(word)));
    }
  }
}

// The live row of a sealed segment with the key of `youngest`, its youngest row with it; or kNoRow.
Result<Row> live_of(const SealedRef& sealed, Row youngest) {
  Result<Row> row = youngest;
  while (row.ok() && row.value() != kNoRow && sealed.deaths->death(row.value()) != 0) {
    if (!sealed.deaths->is_layered()) return kNoRow;
    row = sealed.segment->older(row.value());
  }
  return row;
}

std::shared_ptr<const TableState> state_of(const std::vector<SealedRef>& sealed, const std::vector<FreshRef>& fresh) {
  auto state = std::make_shared<TableState>();
  state->segments.reserve(sealed.size() + fresh.size());
  for (const SealedRef& ref : sealed) state->segments.push_back({ref.segment, ref.deaths});
  for (const FreshRef& ref : fresh) state->segments.push_back({ref.segment, ref.deaths});
  return state;
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

std::shared_ptr<SubIndex> Table::subindex(const std::shared_ptr<const Table>& keys, uint64_t hash_seed) const {
  const std::lock_guard lock(subindices_mutex_);
  std::shared_ptr<SubIndex>& found = subindices_[keys->id];
  if (found == nullptr) found = std::make_shared<SubIndex>(keys, hash_seed);
  return found;
}

std::vector<std::shared_ptr<SubIndex>> Table::subindices() const {
  const std::lock_guard lock(subindices_mutex_);
  std::erase_if(subindices_, [](const auto& entry) { return entry.second->keys().dropped(); });
  std::vector<std::shared_ptr<SubIndex>> found;
  for (const auto& [keys, subindex] : subindices_) found.push_back(subindex);
  return found;
}

void Table::set_dropped() {
  dropped_.store(true, std::memory_order_release);
  forget_subindices();
}

void Table::forget_subindices() const {
  const std::lock_guard lock(subindices_mutex_);
  for (const auto& [keys, subindex] : subindices_) subindex->forget();
}

uint32_t Table::partition_number(std::string_view name) {
  const std::lock_guard lock(partitions_mutex_);
  const auto found = partition_numbers_.find(name);
  if (found != partition_numbers_.end()) return found->second;
  partition_names_.reserve(std::bit_ceil(partition_names_.size() + 1));
  std::string copy(name);
  const auto number = static_cast<uint32_t>(partition_names_.size()) + 1;
  partition_numbers_.emplace(copy, number);
  partition_names_.push_back(std::move(copy));
  return number;
}

bool Table::has_partitions() const {
  const std::lock_guard lock(partitions_mutex_);
  return !partition_names_.empty();
}

uint32_t Table::find_partition(std::string_view name) const {
  const std::lock_guard lock(partitions_mutex_);
  const auto found = partition_numbers_.find(name);
  return found == partition_numbers_.end() ? 0 : found->second;
}

void Table::set_partition_names(std::vector<std::string> names) {
  const std::lock_guard lock(partitions_mutex_);
  NumbersByName numbers;
  for (size_t i = 0; i < names.size(); ++i) numbers.emplace(names[i], static_cast<uint32_t>(i) + 1);
  partition_names_ = std::move(names);
  partition_numbers_ = std::move(numbers);
}

Result<SealedRows> Table::locate_sealed(const std::vector<Key>& keys) const {
  SealedRows located(keys.size());
  for (size_t begin = 0; begin < keys.size(); begin += kProbeKeys) {
    const auto key_at = [&](size_t i) { return keys[begin + i]; };
    Probe probe(std::min(kProbeKeys, keys.size() - begin), key_at, located.data() + begin);
    for (size_t s = sealed_.size(); s-- > 0 && !probe.done();) {
      const SealedRef& ref = sealed_[s];
      if (ref.is_history()) continue;
      EHUB_RETURN_IF_ERROR(probe.ask(
          *ref.segment, s, [&] { return ref.deaths->dead_count() == 0; },
          [&](Row youngest) { return live_of(ref, youngest); }));
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

const Segment& Table::segment(size_t s) const {
  if (s < sealed_.size()) return *sealed_[s].segment;
  return *fresh_[s - sealed_.size()].segment;
}

DeletionVector& Table::deaths(size_t s) const {
  return s < sealed_.size() ? *sealed_[s].deaths : *fresh_[s - sealed_.size()].deaths;
}

Result<RowBitmaps> Table::rows_within(const std::vector<std::string_view>& partitions) const {
  RowBitmaps rows(segment_count());
  for (const std::string_view name : partitions) {
    const uint32_t number = find_partition(name);
    for (size_t s = 0; number != 0 && s < rows.size(); ++s) {
      if (deaths(s).is_history(segment(s))) continue;
      const Row count = segment(s).row_count();
      rows[s].resize((size_t{count} + 63) / 64);
      EHUB_RETURN_IF_ERROR(segment(s).partition_index().mark(segment(s), number, count, rows[s]));
    }
  }
  return rows;
}

void Table::reserve_deaths(const RowBitmaps& rows) {
  for (size_t s = 0; s < rows.size(); ++s) for_each_bit(rows[s], [&](Row row) { deaths(s).reserve_row(row); });
}

uint64_t Table::apply_delete_rows(const RowBitmaps& rows, Seq seq) {
  note_change(seq);
  uint64_t killed = 0;
  for (size_t s = 0; s < rows.size(); ++s) for_each_bit(rows[s], [&](Row row) { killed += deaths(s).kill(row, seq); });
  return killed;
}

bool Table::kill_located(Ordinal located, Seq seq) {
  if (located == kNoOrdinal) return false;
  return sealed_[located >> 32].deaths->kill(static_cast<Row>(located), seq);
}

bool Table::kill_fresh(const Key& key, Seq seq) {
  bool killed = false;
  for (const FreshRef& fresh : fresh_) {
    Row row = fresh.segment->find_row(key);
    while (row != kNoRow && !fresh.deaths->kill(row, seq)) {
      row = fresh.deaths->is_layered() ? fresh.segment->older_row(row) : kNoRow;
    }
    killed |= row != kNoRow;
  }
  return killed;
}

uint64_t Table::apply_delete(const std::vector<Key>& keys, const SealedRows& located, Seq seq) {
  note_change(seq);
  uint64_t killed = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const bool in_sealed = kill_located(located[i], seq);
    killed += kill_fresh(keys[i], seq) || in_sealed;
  }
  return killed;
}

uint64_t Table::apply_delete_all(Seq seq) {
  note_change(seq);
  uint64_t killed = 0;
  const auto kill_rows = [&](const Segment& segment, DeletionVector& deaths) {
    if (deaths.is_history(segment)) return;
    for (Row row = 0; row < segment.row_count(); ++row) killed += deaths.kill(row, seq);
  };
  for (const SealedRef& sealed : sealed_) kill_rows(*sealed.segment, *sealed.deaths);
  for (const FreshRef& fresh : fresh_) kill_rows(*fresh.segment, *fresh.deaths);
  return killed;
}

bool Table::apply_set(FreshSegment& target, const Key& key, Ordinal located, Seq seq, uint32_t partition,
                      const void* vector) {
  note_change(seq);
  const bool in_sealed = kill_located(located, seq);
  const bool in_fresh = kill_fresh(key, seq);
  target.append(key, seq, partition, vector);
  return in_sealed || in_fresh;
}

Result<Table::Restored> Table::restored(Seq then, Seq seq, const WantedGaps* wanted) const {
  Restored restored{sealed_, fresh_, 0, nullptr, seq};
  const auto restore_one = [&](const Segment& segment, std::shared_ptr<DeletionVector>& deaths) -> Status {
    auto vector = DeletionVector::restored(*deaths, segment, then, seq, wanted);
    if (!vector.ok()) return vector.status();
    deaths = std::move(vector.value());
    restored.rows += segment.row_count() - deaths->dead_count();
    return {};
  };
  for (SealedRef& ref : restored.sealed) EHUB_RETURN_IF_ERROR(restore_one(*ref.segment, ref.deaths));
  for (FreshRef& ref : restored.fresh) EHUB_RETURN_IF_ERROR(restore_one(*ref.segment, ref.deaths));
  restored.state = state_of(restored.sealed, restored.fresh);
  return restored;
}

void Table::restore(Restored restored) {
  note_change(restored.seq);
  sealed_ = std::move(restored.sealed);
  fresh_ = std::move(restored.fresh);
  state_.store(std::move(restored.state));
  set_row_count(restored.rows);
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
  std::shared_ptr<const TableState> state = state_of(sealed, fresh);
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
