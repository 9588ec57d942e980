// The hash table of a `.seg`: from a key's hash to the youngest row with that key, used where it is mapped.
//
// The table is an array of 64-byte buckets, one cache line each, of 8 slots. A key belongs into the bucket that the
// upper bits of its hash choose, and overflows into the next one (the first follows the last) if that is full; slots
// fill from the front. A slot holds the lower 32 bits of the hash, so that only one key in 2^32 is compared in vain,
// and row + 1; 0 is an empty slot. At most three slots in four are taken.
//
// Thread-safety: pure functions and values.

#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "store/types.h"

namespace ehub {

struct KeySlot {
  uint32_t fingerprint;
  uint32_t row_plus_one;
};

inline constexpr uint32_t kBucketSlots = 8;
struct alignas(64) KeyBucket {
  KeySlot slots[kBucketSlots];
};
static_assert(sizeof(KeyBucket) == 64);  // FORMAT.md, section Segments

// How many buckets a segment of `rows` rows has, whatever its keys are.
constexpr uint64_t key_table_buckets(Row rows) { return uint64_t{rows} / (kBucketSlots * 3 / 4) + 1; }

inline uint32_t key_fingerprint(uint64_t hash) { return static_cast<uint32_t>(hash); }
inline uint64_t key_bucket(uint64_t hash, uint64_t buckets) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(hash) * buckets) >> 64);
}
inline uint64_t next_bucket(uint64_t bucket, uint64_t buckets) { return bucket + 1 == buckets ? 0 : bucket + 1; }

// One bit per slot.
using SlotMask = uint32_t;
inline constexpr SlotMask kAllSlots = (SlotMask{1} << kBucketSlots) - 1;

inline SlotMask taken_slots(const KeyBucket& bucket) {
  SlotMask mask = 0;
  for (uint32_t i = 0; i < kBucketSlots; ++i) mask |= SlotMask{bucket.slots[i].row_plus_one != 0} << i;
  return mask;
}
// The taken slots that may hold a key with this fingerprint.
inline SlotMask matching_slots(const KeyBucket& bucket, uint32_t fingerprint) {
  SlotMask mask = 0;
  for (uint32_t i = 0; i < kBucketSlots; ++i) {
    const KeySlot& slot = bucket.slots[i];
    // Without a branch, which could not be foretold.
    mask |= (SlotMask{slot.fingerprint == fingerprint} & SlotMask{slot.row_plus_one != 0}) << i;
  }
  return mask;
}

// `older` is the next older row with the same key as `row`.
struct OlderRow {
  Row row;
  Row older;
};
static_assert(sizeof(OlderRow) == 8);  // FORMAT.md, section Segments

struct KeyTable {
  std::vector<KeyBucket> buckets;
  std::vector<OlderRow> older;  // ascending by row
  uint32_t keys = 0;            // different ones
  uint32_t probes_max = 0;      // no key is more than this many buckets away, its first one counted
};

// The table of rows 0, 1, 2 ... whose keys have these hashes. `same_key(a, b)` compares the keys of two rows; it is
// asked only about rows with equal hashes.
KeyTable build_key_table(const std::vector<uint64_t>& hashes, const std::function<bool(Row, Row)>& same_key);

}  // namespace ehub
