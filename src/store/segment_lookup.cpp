// Lookups by key in a sealed segment: of one key, with every check; and of many, whose cache misses overlap.

#include <algorithm>
#include <bit>
#include <cstddef>

#include "base/bytes.h"
#include "store/segment_reader.h"

namespace ehub {
namespace {

bool same_bytes(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  if (a.size() == sizeof(uint64_t)) return load_le<uint64_t>(a.data()) == load_le<uint64_t>(b.data());
  return a == b;
}

}  // namespace

Result<bool> SegmentReader::holds(Row row, const Key& key) const {
  // Whoever looks for one key wants its vector next; it comes from memory while the key is compared.
  __builtin_prefetch(vectors_.unchecked(uint64_t{row} * footer_.dims * sizeof(float)));
  const auto held = this->key(row);
  if (!held.ok()) return held.status();
  return held.value() == key.bytes;
}

Result<Row> SegmentReader::find_in(uint64_t at, const KeyBucket& bucket, SlotMask slots, const Key& key) const {
  for (; slots != 0; slots &= slots - 1) {
    const auto i = static_cast<uint32_t>(std::countr_zero(slots));
    const Row row = bucket.slots[i].row_plus_one - 1;
    if (row >= footer_.rows) {
      return damaged(Section::kKeyTable, at * sizeof(KeyBucket) + i * sizeof(KeySlot),
                     "a slot names row " + std::to_string(row) + " of " + std::to_string(footer_.rows));
    }
    const Result<bool> held = holds(row, key);
    if (!held.ok()) return held.status();
    if (held.value()) return row;
  }
  return kNoRow;
}

Result<const uint8_t*> SegmentReader::bucket(uint64_t at) const {
  return sections_.bytes(footer_.section(Section::kKeyTable).offset + at * sizeof(KeyBucket), sizeof(KeyBucket));
}

Result<Row> SegmentReader::find(const Key& key) const {
  uint64_t at = key_bucket(key.hash, buckets_);
  for (uint32_t probes = 0; probes < footer_.probes_max; ++probes) {
    const auto bytes = bucket(at);
    if (!bytes.ok()) return bytes.status();
    const auto slots = load_le<KeyBucket>(bytes.value());
    const Result<Row> row = find_in(at, slots, matching_slots(bytes.value(), key_fingerprint(key.hash)), key);
    if (!row.ok() || row.value() != kNoRow) return row;
    if (taken_slots(slots) != kAllSlots) return kNoRow;
    at = next_bucket(at, buckets_);
  }
  return kNoRow;
}

// Keys come to a segment that it has and that it does not have, in no order: nothing here is decided by a branch on
// that, which could not be foretold.
struct SegmentReader::Guess {
  Row row = kNoRow;           // the only one that may have the key; kNoRow: none has it
  bool is_sound = false;      // else find() knows
  std::string_view key = {};  // of `row`, or of any row; empty: find() knows
};

SegmentReader::Guess SegmentReader::guess(const Key& key) const {
  constexpr uint32_t kLast = kBucketSlots - 1;
  const uint64_t table = footer_.section(Section::kKeyTable).offset;
  const auto row_in = [](const uint8_t* bucket, uint32_t slot) {
    return load_le<uint32_t>(bucket + slot * sizeof(KeySlot) + offsetof(KeySlot, row_plus_one)) - 1;
  };
  uint64_t at = key_bucket(key.hash, buckets_);
  for (uint32_t probes = 0; probes < footer_.probes_max; ++probes) {
    const uint8_t* bucket = sections_.known(table + at * sizeof(KeyBucket), sizeof(KeyBucket));
    if (bucket == nullptr) return {};
    const SlotMask matching = matching_slots(bucket, key_fingerprint(key.hash));
    if (matching != 0 || row_in(bucket, kLast) == kNoRow) [[likely]] {
      // Where no slot matches it is the last one, which is empty.
      const Row row = row_in(bucket, static_cast<uint32_t>(std::countr_zero(matching | (SlotMask{1} << kLast))));
      return {row, row < footer_.rows || row == kNoRow};
    }
    at = next_bucket(at, buckets_);
  }
  return {kNoRow, true};
}

void SegmentReader::prefetch_key(Row row) const {
  const SectionRange keys = footer_.section(Section::kKeyBytes);
  const uint64_t at = has_string_keys()
                          ? footer_.section(Section::kKeyEnds).offset + uint64_t{row} * key_end_bytes(keys.length)
                          : keys.offset + uint64_t{row} * sizeof(int64_t);
  __builtin_prefetch(sections_.unchecked(at));
}

std::string_view SegmentReader::known_key(Row row) const {
  const SectionRange keys = footer_.section(Section::kKeyBytes);
  SectionRange range{uint64_t{row} * sizeof(int64_t), sizeof(int64_t)};
  if (has_string_keys()) {
    const SectionRange ends = key_ends(row);
    const uint8_t* known = sections_.known(ends.offset, ends.length);
    if (known == nullptr || !key_range(known, row, range)) return {};
  }
  const uint8_t* bytes = sections_.known(keys.offset + range.offset, range.length);
  if (bytes == nullptr) return {};
  return {reinterpret_cast<const char*>(bytes), range.length};
}

Status SegmentReader::find_many(const Key* keys, size_t n, Row* out) const {
  if (footer_.rows == 0) {
    std::fill_n(out, n, kNoRow);
    return {};
  }
  const uint64_t table = footer_.section(Section::kKeyTable).offset;
  // A row whose key may be read.
  const auto any_row = [&](Row row) { return row < footer_.rows ? row : 0; };
  // Of the keys between the second and the last stage.
  constexpr size_t kGuesses = 4 * kStageItems;
  Guess guesses[kGuesses];
  Status failed;
  in_stages(
      n,
      [&](size_t i) {
        __builtin_prefetch(sections_.unchecked(table + key_bucket(keys[i].hash, buckets_) * sizeof(KeyBucket)));
      },
      [&](size_t i) {
        guesses[i % kGuesses] = guess(keys[i]);
        prefetch_key(any_row(guesses[i % kGuesses].row));
      },
      [&](size_t i) {
        Guess& guess = guesses[i % kGuesses];
        guess.key = known_key(any_row(guess.row));
        __builtin_prefetch(guess.key.data());
      },
      [&](size_t i) {
        const Guess& guess = guesses[i % kGuesses];
        out[i] = guess.row;
        const bool is_right =
            static_cast<int>(guess.row == kNoRow) | static_cast<int>(same_bytes(guess.key, keys[i].bytes));
        if (guess.is_sound && is_right) [[likely]]
          return;
        const Result<Row> row = find(keys[i]);
        if (row.ok()) {
          out[i] = row.value();
        } else if (failed.ok()) {
          failed = row.status();
        }
      });
  return failed;
}

}  // namespace ehub
