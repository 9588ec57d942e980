// Which rows a repair could not keep, and that no later batch set or deleted anyway.
//
// Keys are told apart by their hashes: 64 bits are enough to count by.
//
// Thread-safety: one thread.

#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "store/types.h"

namespace ehub {

class LostRows {
 public:
  // A row that was visible is lost.
  void add(TableId table, uint64_t key_hash) { tables_[table].keys.insert(key_hash); }
  // So are `rows` of which not even the keys are known.
  void add_unnamed(TableId table, uint64_t rows) { tables_[table].unnamed += rows; }
  // Whatever became of older rows with this key: a batch has set it again, or deleted it.
  void forget(TableId table, uint64_t key_hash) {
    const auto lost = tables_.find(table);
    if (lost != tables_.end()) lost->second.keys.erase(key_hash);
  }
  // All rows of the table were deleted.
  void forget_all(TableId table) { tables_.erase(table); }
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
  };
  std::unordered_map<TableId, Lost> tables_;
};

}  // namespace ehub
