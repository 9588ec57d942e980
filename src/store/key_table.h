// The hash table of a `.seg`: from a key's hash to the youngest row with that key, used where it is mapped.
//
// The table is an array of 64-byte buckets, one cache line each, of 8 slots. A key belongs into the bucket that the
// upper bits of its hash choose, and overflows into the next one (the first follows the last) if that is full; slots
// fill from the front. A slot holds the lower 32 bits of the hash, so that only one key in 2^32 is compared in vain,
// and row + 1; 0 is an empty slot. At most three slots in four are taken.
//
// Thread-safety: pure functions and values.

#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
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
// The taken slots that may hold a key with this fingerprint, of a bucket as it lies in memory. Four slots at a time
// and without a branch.
inline SlotMask matching_slots(const void* bucket, uint32_t fingerprint) {
  using Lanes = uint32_t __attribute__((vector_size(16)));
  using Pairs = uint64_t __attribute__((vector_size(16)));
  Lanes slots[4];
  std::memcpy(slots, bucket, sizeof(slots));
  const Lanes wanted = {fingerprint, fingerprint, fingerprint, fingerprint};
  const Lanes none = {0, 0, 0, 0};
  const auto matching = [&](Lanes a, Lanes b) {
    const Lanes fingerprints = __builtin_shufflevector(a, b, 0, 2, 4, 6);
    const Lanes rows = __builtin_shufflevector(a, b, 1, 3, 5, 7);
    return std::bit_cast<Lanes>(fingerprints == wanted) & std::bit_cast<Lanes>(rows != none);
  };
  const Lanes lower_bits = {1, 2, 4, 8};
  const Lanes upper_bits = {16, 32, 64, 128};
  const Lanes bits = (matching(slots[0], slots[1]) & lower_bits) | (matching(slots[2], slots[3]) & upper_bits);
  const auto halves = std::bit_cast<Pairs>(bits);
  const uint64_t both = halves[0] | halves[1];
  return static_cast<SlotMask>(both | (both >> 32));
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
