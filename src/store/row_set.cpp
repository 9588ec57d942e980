#include "store/row_set.h"

#include <algorithm>
#include <bit>

namespace ehub {
namespace {

// More rows than one in so many take less room as a bitmap. A list of a few is never worth the change.
constexpr Row kRowsPerListed = 32;
constexpr size_t kListedMin = 1024;

}  // namespace

RowSet RowSet::of(const std::vector<uint64_t>& bitmap) {
  RowSet set;
  for (const uint64_t word : bitmap) set.count_ += static_cast<uint64_t>(std::popcount(word));
  if (set.count_ >= kListedMin && set.count_ >= bitmap.size() * 64 / kRowsPerListed) {
    set.bits_ = bitmap;
    return set;
  }
  set.rows_.reserve(set.count_);
  for (size_t w = 0; w < bitmap.size(); ++w) {
    for (uint64_t word = bitmap[w]; word != 0; word &= word - 1) {
      set.rows_.push_back(static_cast<Row>(w * 64) + static_cast<Row>(std::countr_zero(word)));
    }
  }
  return set;
}

void RowSet::add(Row row) {
  if (bits_.empty()) {
    if (!rows_.empty() && rows_.back() == row) return;
    rows_.push_back(row);
    ++count_;
    return;
  }
  if (bits_.size() <= row / 64) bits_.resize(row / 64 + 1);
  const uint64_t bit = uint64_t{1} << (row % 64);
  if ((bits_[row / 64] & bit) == 0) ++count_;
  bits_[row / 64] |= bit;
}

void RowSet::condense(Row covered) {
  if (rows_.size() < kListedMin || rows_.size() < covered / kRowsPerListed) return;
  std::vector<uint64_t> bitmap(size_t{rows_.back()} / 64 + 1);
  mark(covered, bitmap);
  bits_ = std::move(bitmap);
  rows_ = {};
}

void RowSet::mark(Row limit, std::vector<uint64_t>& bitmap) const {
  const auto end = std::lower_bound(rows_.begin(), rows_.end(), limit);
  for (auto row = rows_.begin(); row != end; ++row) bitmap[*row / 64] |= uint64_t{1} << (*row % 64);
  const size_t words = std::min(bits_.size(), bitmap.size());
  for (size_t w = 0; w < words; ++w) bitmap[w] |= bits_[w];
  // A fresh segment has grown since.
  if (bits_.size() >= bitmap.size() && limit % 64 != 0) bitmap.back() &= (uint64_t{1} << (limit % 64)) - 1;
}

bool RowSet::has(Row row) const {
  if (bits_.empty()) return std::binary_search(rows_.begin(), rows_.end(), row);
  return row / 64 < bits_.size() && ((bits_[row / 64] >> (row % 64)) & 1) != 0;
}

}  // namespace ehub
