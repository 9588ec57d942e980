// Which rows a repair could not keep, and that no later batch set or deleted anyway.
//
// Keys are told apart by their hashes: 64 bits are enough to count by.
//
// Thread-safety: one thread.

#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "store/types.h"

namespace ehub {

class LostRows {
 public:
  // A row that was visible is lost.
  void add(TableId table, uint64_t key_hash) { tables_[table].keys.insert(key_hash); }
  // So are `rows` of which not even the keys are known.
  void add_unnamed(TableId table, uint64_t rows) { tables_[table].unnamed += rows; }
  // The same of rows that were dead: nobody misses them, unless a restore makes them live again.
  void add_dead(TableId table, uint64_t key_hash) { tables_[table].dead_keys.insert(key_hash); }
  void add_dead_unnamed(TableId table, uint64_t rows) { tables_[table].dead_unnamed += rows; }
  // Whatever became of older rows with this key: a batch has set it again, or deleted it.
  void forget(TableId table, uint64_t key_hash) {
    const auto lost = tables_.find(table);
    if (lost != tables_.end() && lost->second.keys.erase(key_hash) != 0) lost->second.dead_keys.insert(key_hash);
  }
  // All rows of the table were deleted.
  void forget_all(TableId table) {
    const auto found = tables_.find(table);
    if (found == tables_.end()) return;
    Lost& lost = found->second;
    lost.dead_keys.merge(lost.keys);
    lost.keys.clear();
    lost.dead_unnamed += std::exchange(lost.unnamed, 0);
  }
  // The table was restored: rows that had been dead may live.
  void restore(TableId table) {
    const auto found = tables_.find(table);
    if (found == tables_.end()) return;
    Lost& lost = found->second;
    lost.keys.insert(lost.dead_keys.begin(), lost.dead_keys.end());
    lost.unnamed += std::exchange(lost.dead_unnamed, 0);
  }
  // Of rows without a name, some may have been set again or deleted: no more than this are lost.
  uint64_t count() const {
    uint64_t rows = 0;
    for (const auto& [id, lost] : tables_) rows += lost.keys.size() + lost.unnamed;
    return rows;
  }

 private:
  struct Lost {
    std::unordered_set<uint64_t> keys;
    uint64_t unnamed = 0;
    std::unordered_set<uint64_t> dead_keys;
    uint64_t dead_unnamed = 0;
  };
  std::unordered_map<TableId, Lost> tables_;
};

}  // namespace ehub
