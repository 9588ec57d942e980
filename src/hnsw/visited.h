// Which rows a walk has seen: a bit a row.
//
// Thread-safety: belongs to one thread.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ehub::hnsw {

class Visited {
 public:
  // Forgets all. What was seen is cleared bit by bit if that is less work than clearing everything.
  void reset(size_t rows) {
    const size_t words = (rows + 63) / 64;
    if (seen_.size() < words / 8 && bits_.size() >= words) {
      for (const uint32_t row : seen_) bits_[row >> 6] = 0;
    } else {
      bits_.assign(std::max(words, bits_.size()), 0);
    }
    seen_.clear();
  }
  // True if `row` was not seen before.
  bool insert(uint32_t row) {
    uint64_t& word = bits_[row >> 6];
    const uint64_t bit = uint64_t{1} << (row & 63);
    if ((word & bit) != 0) return false;
    word |= bit;
    seen_.push_back(row);
    return true;
  }

 private:
  std::vector<uint64_t> bits_;
  std::vector<uint32_t> seen_;
};

}  // namespace ehub::hnsw
