#include "store/key_table.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/limits.h"

namespace ehub {
namespace {

// Buckets are reached in random order: enough of them are on their way from memory at any time.
constexpr size_t kPrefetchAhead = 16;

class Inserter {
 public:
  Inserter(KeyTable& table, const std::vector<uint64_t>& hashes, const std::function<bool(Row, Row)>& same_key)
      : table_(table), buckets_(table.buckets.size()), hashes_(hashes), same_key_(same_key) {}

  void prefetch(uint64_t hash) const { __builtin_prefetch(&table_.buckets[key_bucket(hash, buckets_)], 1); }

  void insert(Row row) {
    const uint64_t hash = hashes_[row];
    uint64_t bucket = key_bucket(hash, buckets_);
    for (uint32_t probes = 1;; ++probes) {
      if (insert_into(table_.buckets[bucket], hash, row)) {
        table_.probes_max = std::max(table_.probes_max, probes);
        return;
      }
      bucket = next_bucket(bucket, buckets_);
    }
  }

 private:
  // False if the bucket is full and the key is not in it.
  bool insert_into(KeyBucket& bucket, uint64_t hash, Row row) {
    const uint32_t fingerprint = key_fingerprint(hash);
    for (SlotMask left = matching_slots(&bucket, fingerprint); left != 0; left &= left - 1) {
      if (replace_older(bucket.slots[std::countr_zero(left)], row)) return true;
    }
    const SlotMask taken = taken_slots(bucket);
    if (taken == kAllSlots) return false;
    bucket.slots[std::countr_one(taken)] = {fingerprint, row + 1};
    ++table_.keys;
    return true;
  }

  bool replace_older(KeySlot& slot, Row row) {
    const Row older = slot.row_plus_one - 1;
    if (hashes_[older] != hashes_[row] || !same_key_(older, row)) return false;
    table_.older.push_back({row, older});
    slot.row_plus_one = row + 1;
    return true;
  }

  KeyTable& table_;
  const uint64_t buckets_;
  const std::vector<uint64_t>& hashes_;
  const std::function<bool(Row, Row)>& same_key_;
};

}  // namespace

KeyTable build_key_table(const std::vector<uint64_t>& hashes, const std::function<bool(Row, Row)>& same_key) {
  EHUB_ASSERT(hashes.size() <= kSegmentRowsMax);
  const Row rows = static_cast<Row>(hashes.size());
  KeyTable table;
  table.buckets.resize(key_table_buckets(rows));
  Inserter inserter(table, hashes, same_key);
  for (Row row = 0; row < rows; ++row) {
    if (row + kPrefetchAhead < rows) inserter.prefetch(hashes[row + kPrefetchAhead]);
    inserter.insert(row);
  }
  return table;
}

}  // namespace ehub
