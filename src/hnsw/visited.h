// Which rows a walk has seen: a bit a row, and the rows in the order in which they were first seen.
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
    if (count_ < words / 8 && bits_.size() >= words) {
      for (size_t i = 0; i < count_; ++i) bits_[seen_[i] >> 6] = 0;
    } else {
      bits_.assign(std::max(words, bits_.size()), 0);
    }
    count_ = 0;
  }
  // True if `row` was not seen before.
  bool insert(uint32_t row) {
    const size_t before = count_;
    insert_all(&row, 1);
    return count_ != before;
  }
  // The same of `n` rows. Whether a row is new cannot be foreseen, so there is no branch for it.
  void insert_all(const uint32_t* rows, size_t n) {
    if (seen_.size() < count_ + n) seen_.resize(2 * (count_ + n));
    uint64_t* bits = bits_.data();
    uint32_t* out = seen_.data() + count_;
    for (size_t i = 0; i < n; ++i) {
      const uint32_t row = rows[i];
      const uint64_t word = bits[row >> 6];
      const uint64_t bit = uint64_t{1} << (row & 63);
      *out = row;
      out += (word & bit) == 0 ? 1 : 0;
      bits[row >> 6] = word | bit;
    }
    count_ = static_cast<size_t>(out - seen_.data());
  }
  // Rows seen so far.
  size_t count() const { return count_; }
  // The rows seen, in their order. Good until more are inserted.
  const uint32_t* seen() const { return seen_.data(); }

 private:
  std::vector<uint64_t> bits_;
  std::vector<uint32_t> seen_;  // [0, count_)
  size_t count_ = 0;
};

}  // namespace ehub::hnsw
