#include <bit>

#include "store/view.h"

namespace ehub {
namespace {

// A contiguous run is handed out in place if it is at least this share of what was asked for: below it, many tiny
// batches would cost more than copying them into one.
constexpr size_t kRunShare = 4;

// The first row at or after `row` whose bit is `value`, or `rows`.
Row next_bit(const std::vector<uint64_t>& bitmap, Row row, Row rows, bool value) {
  while (row < rows) {
    uint64_t word = bitmap[row >> 6];
    if (!value) word = ~word;
    word >>= row & 63;
    if (word != 0) return std::min(rows, row + static_cast<Row>(std::countr_zero(word)));
    row = (row | 63) + 1;
  }
  return rows;
}

}  // namespace

Status ScanCursor::load_segment() {
  Result<std::vector<uint64_t>> visible = view_->visible_in(segment_);
  if (!visible.ok()) return visible.status();
  visible_ = std::move(visible.value());
  row_ = 0;
  loaded_ = true;
  return {};
}

Result<ScanCursor::Batch> ScanCursor::next(size_t rows_max) {
  EHUB_ASSERT(rows_max > 0);
  Batch batch;
  while (segment_ < view_->state()->segments.size() && batch.rows.size() < rows_max) {
    if (!loaded_) EHUB_RETURN_IF_ERROR(load_segment());
    const Row rows = static_cast<Row>(visible_.size() * 64);
    const Row begin = next_bit(visible_, row_, rows, true);
    if (begin == rows) {
      ++segment_;
      loaded_ = false;
      continue;
    }
    const size_t wanted = rows_max - batch.rows.size();
    Row n = static_cast<Row>(std::min<size_t>(wanted, next_bit(visible_, begin, rows, false) - begin));
    const auto& segment = view_->state()->segments[segment_].segment;
    const Result<const float*> vectors = segment->vectors(begin, n, &n);
    if (!vectors.ok()) return vectors.status();
    const bool in_place = size_t{n} * kRunShare >= rows_max;
    if (in_place && !batch.rows.empty()) return batch;
    for (Row row = begin; row < begin + n; ++row) batch.rows.push_back(make_ordinal(segment_, row));
    row_ = begin + n;
    if (in_place) {
      batch.vectors = vectors.value();
      batch.owner = segment;
      return batch;
    }
  }
  return batch;
}

}  // namespace ehub
