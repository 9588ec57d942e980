#include "store/view.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/dispatch.h"
#include "store/segment_file.h"

namespace ehub {
namespace {

// Keys probed together, so that their cache misses overlap.
constexpr size_t kProbeKeys = 32;

// How far ahead of the copying a gather asks for rows.
constexpr size_t kPrefetchRows = 4;

void set_bit(std::vector<uint64_t>& bitmap, Row row) { bitmap[row >> 6] |= uint64_t{1} << (row & 63); }

size_t words_for(Row rows) { return (size_t{rows} + 63) / 64; }

// The bits of rows [0, rows).
std::vector<uint64_t> first_rows(Row rows) {
  std::vector<uint64_t> bitmap(words_for(rows), 0);
  std::fill_n(bitmap.begin(), rows / 64, ~uint64_t{0});
  if (rows % 64 != 0) bitmap[rows / 64] = (uint64_t{1} << (rows % 64)) - 1;
  return bitmap;
}

void prefetch_vector(const float* vector, size_t dims) {
  const auto* bytes = reinterpret_cast<const char*>(vector);
  const size_t size = std::min<size_t>(dims * sizeof(float), 1024);
  for (size_t at = 0; at < size; at += 64) __builtin_prefetch(bytes + at);
}

}  // namespace

View::View(std::shared_ptr<const TableState> state, Seq seq, Schema schema, uint64_t hash_seed)
    : state_(std::move(state)), seq_(seq), schema_(schema), hash_seed_(hash_seed) {}

Result<uint64_t> View::row_count() const {
  uint64_t count = 0;
  for (const SegmentRef& ref : state_->segments) {
    const Result<Row> rows = ref.segment->rows_at(seq_);
    if (!rows.ok()) return rows.status();
    count += rows.value();
    if (ref.deaths->dead_count() == 0) continue;
    for (Row row = 0; row < rows.value(); ++row) count -= ref.deaths->dead_at(row, seq_);
  }
  return count;
}

std::shared_ptr<const hnsw::GraphFile> View::sole_graph() const {
  const SealedSegment* sole = nullptr;
  uint64_t rows = 0;
  for (const SegmentRef& ref : state_->segments) {
    const Result<Row> born = ref.segment->rows_at(seq_);
    if (born.ok() && born.value() == 0) continue;
    if (sole != nullptr) return nullptr;
    sole = dynamic_cast<const SealedSegment*>(ref.segment.get());
    if (sole == nullptr) return nullptr;
    rows = sole->row_count();
  }
  const Result<uint64_t> visible = row_count();
  if (sole == nullptr || !visible.ok() || visible.value() != rows) return nullptr;
  auto graph = sole->graph().load();
  if (graph == nullptr || graph->verify().ok()) return graph;
  sole->graph().reject(graph.get());
  return nullptr;
}

// Of the rows with this key, the one born last at or before the view's seq is the only one that can be alive at it.
Result<Row> View::find_in(size_t s, const Key& key) const {
  const SegmentRef& ref = state_->segments[s];
  Result<Row> row = ref.segment->find(key);
  while (row.ok() && row.value() != kNoRow && ref.segment->seq_max() > seq_) {
    const Result<Seq> born = ref.segment->born(row.value());
    if (!born.ok()) return born.status();
    if (born.value() <= seq_) break;
    row = ref.segment->older(row.value());
  }
  if (!row.ok() || row.value() == kNoRow) return row;
  return ref.deaths->dead_at(row.value(), seq_) ? kNoRow : row.value();
}

Result<Ordinal> View::find(const Key& key) const {
  for (size_t s = state_->segments.size(); s-- > 0;) {
    const Result<Row> row = find_in(s, key);
    if (!row.ok()) return row.status();
    if (row.value() != kNoRow) return make_ordinal(s, row.value());
  }
  return kNoOrdinal;
}

Status View::locate_chunk(const Key* keys, size_t n, Ordinal* out) const {
  std::fill_n(out, n, kNoOrdinal);
  for (size_t s = state_->segments.size(); s-- > 0;) {
    for (size_t i = 0; i < n; ++i) {
      if (out[i] == kNoOrdinal) state_->segments[s].segment->prefetch(keys[i]);
    }
    for (size_t i = 0; i < n; ++i) {
      if (out[i] != kNoOrdinal) continue;
      const Result<Row> row = find_in(s, keys[i]);
      if (!row.ok()) return row.status();
      if (row.value() != kNoRow) out[i] = make_ordinal(s, row.value());
    }
  }
  return {};
}

Status View::locate(const std::string_view* keys, size_t n, Ordinal* out) const {
  Key chunk[kProbeKeys];
  for (size_t begin = 0; begin < n; begin += kProbeKeys) {
    const size_t count = std::min(kProbeKeys, n - begin);
    for (size_t i = 0; i < count; ++i) chunk[i] = make_key(hash_seed_, keys[begin + i]);
    EHUB_RETURN_IF_ERROR(locate_chunk(chunk, count, out + begin));
  }
  return {};
}

Result<bool> View::get(std::string_view key, float* out) const {
  const Result<Ordinal> row = find(make_key(hash_seed_, key));
  if (!row.ok()) return row.status();
  if (row.value() == kNoOrdinal) return false;
  EHUB_RETURN_IF_ERROR(gather(&row.value(), 1, out));
  return true;
}

Status View::gather(const Ordinal* rows, size_t n, float* out) const {
  const size_t dims = schema_.dims;
  const float* ahead[kPrefetchRows] = {};
  for (size_t i = 0; i < n + kPrefetchRows; ++i) {
    const size_t slot = i % kPrefetchRows;
    if (i >= kPrefetchRows) {
      float* to = out + (i - kPrefetchRows) * dims;
      if (ahead[slot] == nullptr) {
        std::memset(to, 0, dims * sizeof(float));
      } else {
        std::memcpy(to, ahead[slot], dims * sizeof(float));
      }
    }
    ahead[slot] = nullptr;
    if (i >= n || rows[i] == kNoOrdinal) continue;
    Row run = 0;
    const Result<const float*> vector =
        state_->segments[rows[i] >> 32].segment->vectors(static_cast<Row>(rows[i]), 1, &run);
    if (!vector.ok()) return vector.status();
    ahead[slot] = vector.value();
    if (n > 1) prefetch_vector(ahead[slot], dims);
  }
  return {};
}

Result<std::string_view> View::key(Ordinal row) const {
  return state_->segments[row >> 32].segment->key(static_cast<Row>(row));
}

Result<uint32_t> View::partition(Ordinal row) const {
  return state_->segments[row >> 32].segment->partition(static_cast<Row>(row));
}

Result<std::vector<uint64_t>> View::visible_in(size_t s) const {
  const SegmentRef& ref = state_->segments[s];
  const Result<Row> rows = ref.segment->rows_at(seq_);
  if (!rows.ok()) return rows.status();
  std::vector<uint64_t> bitmap = first_rows(rows.value());
  keep_visible(s, rows.value(), bitmap);
  return bitmap;
}

void View::keep_visible(size_t s, Row rows, std::vector<uint64_t>& bitmap) const {
  const SegmentRef& ref = state_->segments[s];
  bitmap.resize(words_for(rows));
  if (rows % 64 != 0) bitmap.back() &= (uint64_t{1} << (rows % 64)) - 1;
  if (ref.deaths->dead_count() == 0) return;
  for (size_t w = 0; w < bitmap.size(); ++w) {
    for (uint64_t word = bitmap[w]; word != 0; word &= word - 1) {
      const auto bit = static_cast<Row>(std::countr_zero(word));
      if (ref.deaths->dead_at(static_cast<Row>(w * 64) + bit, seq_)) bitmap[w] &= ~(uint64_t{1} << bit);
    }
  }
}

Result<Selection> View::visible() const {
  Selection selection;
  for (size_t s = 0; s < state_->segments.size(); ++s) {
    Result<std::vector<uint64_t>> bitmap = visible_in(s);
    if (!bitmap.ok()) return bitmap.status();
    for (const uint64_t word : bitmap.value()) selection.row_count += static_cast<uint64_t>(std::popcount(word));
    selection.bitmaps.push_back(std::move(bitmap.value()));
  }
  return selection;
}

Selection View::select(const Ordinal* rows, size_t n) const {
  Selection selection;
  for (const SegmentRef& ref : state_->segments) selection.bitmaps.emplace_back(words_for(ref.segment->row_count()), 0);
  for (size_t i = 0; i < n; ++i) {
    if (rows[i] != kNoOrdinal) set_bit(selection.bitmaps[rows[i] >> 32], static_cast<Row>(rows[i]));
  }
  for (const auto& bitmap : selection.bitmaps) {
    for (const uint64_t word : bitmap) selection.row_count += static_cast<uint64_t>(std::popcount(word));
  }
  return selection;
}

Status View::weighted_sum(const Ordinal* rows, const double* weights, size_t n, double* out) const {
  std::fill_n(out, schema_.dims, 0.0);
  for (size_t i = 0; i < n; ++i) {
    Row run = 0;
    const Result<const float*> vector =
        state_->segments[rows[i] >> 32].segment->vectors(static_cast<Row>(rows[i]), 1, &run);
    if (!vector.ok()) return vector.status();
    kernels().accumulate(vector.value(), weights == nullptr ? 1.0 : weights[i], schema_.dims, out);
  }
  return {};
}

}  // namespace ehub
