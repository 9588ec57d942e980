#include "store/fresh_segment.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"

namespace ehub {
namespace {

constexpr uint64_t kSlotsFirst = 8;
constexpr size_t kKeyBlockBytesFirst = 128;
constexpr size_t kKeyBlockBytesMax = 64 << 10;

uint64_t fingerprint(uint64_t hash) { return hash >> 32; }

}  // namespace

FreshSegment::Index::Index(uint64_t slot_count)
    : mask(slot_count - 1), slots(std::make_unique<std::atomic<uint64_t>[]>(slot_count)) {}

FreshSegment::FreshSegment(const Schema& schema) : FreshSegment(schema, 0, nullptr) {}

FreshSegment::FreshSegment(const Schema& schema, SegmentId id, std::unique_ptr<VectorFile> file)
    : schema_(schema), id_(id), file_(std::move(file)), vectors_(schema.dims) {
  indexes_.push_back(std::make_unique<Index>(kSlotsFirst));
  index_.store(indexes_.back().get(), std::memory_order_release);
}

void FreshSegment::reserve(size_t rows, uint64_t key_bytes) {
  const uint64_t end = row_count_.load(std::memory_order_relaxed) + uint64_t{rows};
  rows_.reserve(end);
  if (file_ == nullptr) vectors_.reserve(end);
  reserve_keys(key_bytes);
  reserve_index(end);
}

Row FreshSegment::append(const Key& key, Seq born, uint32_t partition, const void* vector) {
  const Row row = row_count_.load(std::memory_order_relaxed);
  EHUB_ASSERT(row < kSegmentRowsMax);
  reserve_index(uint64_t{row} + 1);
  std::atomic<uint64_t>* slot = slot_of(*indexes_.back(), key);
  const uint64_t taken = slot->load(std::memory_order_relaxed);
  const Row older = taken == 0 ? kNoRow : static_cast<Row>(taken) - 1;
  const char* bytes = older == kNoRow ? store_key(key.bytes) : rows_.at(older)->key;
  *rows_.grow(row) = {bytes, static_cast<uint32_t>(key.bytes.size()), older, key.hash, born, partition};
  if (file_ == nullptr) std::memcpy(vectors_.grow(row), vector, schema_.row_bytes());
  data_bytes_ += schema_.row_bytes() + key.bytes.size();
  row_count_.store(row + 1, std::memory_order_release);
  slot->store((fingerprint(key.hash) << 32) | (uint64_t{row} + 1), std::memory_order_release);
  return row;
}

Seq FreshSegment::seq_max() const {
  const Row rows = row_count();
  return rows == 0 ? 0 : rows_.at(rows - 1)->born;
}

Result<const float*> FreshSegment::vectors(Row row, Row rows_max, Row* n) const {
  const Row left = row_count() - row;
  if (file_ != nullptr) {
    *n = std::min(rows_max, left);
    return reinterpret_cast<const float*>(file_->mapping().data + row * schema_.row_bytes());
  }
  const uint64_t run = ChunkedArray<float>::run_length(row);
  *n = static_cast<Row>(std::min<uint64_t>({rows_max, left, run}));
  return static_cast<const float*>(vectors_.at(row));
}

Result<std::string_view> FreshSegment::key(Row row) const {
  const RowEntry* entry = rows_.at(row);
  return std::string_view(entry->key, entry->key_bytes);
}

Result<Row> FreshSegment::rows_at(Seq seq) const {
  Row low = 0;
  Row high = row_count();
  while (low < high) {
    const Row middle = low + (high - low) / 2;
    if (rows_.at(middle)->born <= seq) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

Status FreshSegment::find_many(const Key* keys, size_t n, Row* out) const {
  const Index& index = *index_.load(std::memory_order_acquire);
  const auto slot = [&](size_t i) { return &index.slots[keys[i].hash & index.mask]; };
  in_stages(
      n, [&](size_t i) { __builtin_prefetch(slot(i)); },
      [&](size_t i) {
        const uint64_t taken = slot(i)->load(std::memory_order_acquire);
        if (taken != 0) __builtin_prefetch(rows_.at(static_cast<Row>(taken) - 1));
      },
      [&](size_t i) { out[i] = find_row(keys[i]); });
  return {};
}

Row FreshSegment::find_row(const Key& key) const {
  const uint64_t taken = slot_of(*index_.load(std::memory_order_acquire), key)->load(std::memory_order_acquire);
  return taken == 0 ? kNoRow : static_cast<Row>(taken) - 1;
}

// The slot that holds the youngest row with this key, or the empty one where the key would go.
std::atomic<uint64_t>* FreshSegment::slot_of(const Index& index, const Key& key) const {
  for (uint64_t at = key.hash & index.mask;; at = (at + 1) & index.mask) {
    const uint64_t taken = index.slots[at].load(std::memory_order_acquire);
    if (taken == 0) return &index.slots[at];
    if (taken >> 32 != fingerprint(key.hash)) continue;
    const RowEntry* entry = rows_.at(static_cast<Row>(taken) - 1);
    if (entry->hash == key.hash && std::string_view(entry->key, entry->key_bytes) == key.bytes) {
      return &index.slots[at];
    }
  }
}

// At most half of the slots are taken.
void FreshSegment::reserve_index(uint64_t rows) {
  const Index& old = *indexes_.back();
  uint64_t slot_count = old.mask + 1;
  while (rows * 2 > slot_count) slot_count *= 4;
  if (slot_count == old.mask + 1) return;
  auto index = std::make_unique<Index>(slot_count);
  for (uint64_t at = 0; at <= old.mask; ++at) {
    const uint64_t taken = old.slots[at].load(std::memory_order_relaxed);
    if (taken == 0) continue;
    uint64_t free = rows_.at(static_cast<Row>(taken) - 1)->hash & index->mask;
    while (index->slots[free].load(std::memory_order_relaxed) != 0) free = (free + 1) & index->mask;
    index->slots[free].store(taken, std::memory_order_relaxed);
  }
  indexes_.push_back(std::move(index));
  index_.store(indexes_.back().get(), std::memory_order_release);
}

void FreshSegment::reserve_keys(uint64_t bytes) {
  if (bytes <= key_block_left_) return;
  const size_t doubled = kKeyBlockBytesFirst << std::min<size_t>(key_blocks_.size(), 16);
  const size_t block_bytes = std::max<size_t>(bytes, std::min(doubled, kKeyBlockBytesMax));
  key_blocks_.push_back(std::make_unique<char[]>(block_bytes));
  key_block_left_ = block_bytes;
  key_block_end_ = key_blocks_.back().get() + block_bytes;
}

const char* FreshSegment::store_key(std::string_view key) {
  reserve_keys(key.size());
  char* at = key_block_end_ - key_block_left_;
  std::memcpy(at, key.data(), key.size());
  key_block_left_ -= key.size();
  return at;
}

}  // namespace ehub
