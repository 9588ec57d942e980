#include "store/view.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "store/segment_file.h"
#include "store/subindex.h"
#include "store/threads.h"

namespace ehub {
namespace {

// How far ahead of the copying a gather asks for rows.
constexpr size_t kPrefetchRows = 4;

// Keys that a thread is worth, some 50 ns each, and how many it takes at a time; the same of bytes to copy.
constexpr uint64_t kKeysPerThread = 8192;
constexpr size_t kKeysAtATime = 2048;
constexpr uint64_t kBytesPerThread = 2 << 20;
constexpr uint64_t kBytesAtATime = 256 << 10;

// Labels looked at together.
constexpr Row kLabels = 16'384;

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

std::vector<Ordinal> rows_of(const Selection& selection) {
  std::vector<Ordinal> rows;
  rows.reserve(selection.row_count);
  for (size_t s = 0; s < selection.bitmaps.size(); ++s) {
    const std::vector<uint64_t>& bitmap = selection.bitmaps[s];
    for (size_t w = 0; w < bitmap.size(); ++w) {
      for (uint64_t word = bitmap[w]; word != 0; word &= word - 1) {
        rows.push_back(make_ordinal(s, static_cast<Row>(w * 64) + static_cast<Row>(std::countr_zero(word))));
      }
    }
  }
  return rows;
}

}  // namespace

View::View(std::shared_ptr<const TableState> state, Seq seq, Schema schema, uint64_t hash_seed)
    : state_(std::move(state)), seq_(seq), schema_(schema), hash_seed_(hash_seed) {}

std::shared_ptr<const View> View::within(std::vector<uint32_t> partitions) const {
  std::sort(partitions.begin(), partitions.end());
  partitions.erase(std::unique(partitions.begin(), partitions.end()), partitions.end());
  if (partitions_ != nullptr) {
    std::erase_if(partitions, [&](uint32_t number) {
      return !std::binary_search(partitions_->begin(), partitions_->end(), number);
    });
  }
  auto view = std::make_shared<View>(*this);
  view->partitions_ = std::make_shared<const std::vector<uint32_t>>(std::move(partitions));
  return view;
}

std::shared_ptr<const View> View::of(std::shared_ptr<const SubIndexRows> members) const {
  EHUB_ASSERT(members->state == state_ && members->since <= seq_ && members->seq >= seq_);
  auto view = std::make_shared<View>(*this);
  view->members_ = std::move(members);
  return view;
}

Result<uint64_t> View::row_count() const {
  if (selects()) {
    const Result<Selection> selection = visible();
    return selection.ok() ? Result<uint64_t>(selection.value().row_count) : selection.status();
  }
  uint64_t count = 0;
  for (const SegmentRef& ref : state_->segments) {
    if (ref.is_gone(seq_)) continue;
    const Result<Row> rows = ref.segment->rows_at(seq_);
    if (!rows.ok()) return rows.status();
    count += rows.value();
    if (!ref.deaths->any()) continue;
    for (Row row = 0; row < rows.value(); ++row) count -= ref.deaths->dead_at(row, seq_);
  }
  return count;
}

std::shared_ptr<const hnsw::GraphFile> View::sole_graph() const {
  const SealedSegment* sole = nullptr;
  uint64_t rows = 0;
  for (const SegmentRef& ref : state_->segments) {
    if (ref.is_gone(seq_)) continue;
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

// Of the rows with this key, the one born last at or before the view's seq is the only one that can be alive at it,
// unless the rows are layered.
Result<Row> View::visible_of(size_t s, Row youngest) const {
  const SegmentRef& ref = state_->segments[s];
  Result<Row> row = youngest;
  // Asked after the row was found, because the segment may grow.
  const bool may_be_younger = ref.segment->seq_max() > seq_;
  for (; row.ok() && row.value() != kNoRow; row = ref.segment->older(row.value())) {
    if (may_be_younger) {
      const Result<Seq> born = ref.segment->born(row.value());
      if (!born.ok()) return born.status();
      if (born.value() > seq_) continue;
    }
    if (!ref.deaths->dead_at(row.value(), seq_)) break;
    if (!ref.deaths->is_layered()) return kNoRow;
  }
  if (!row.ok() || row.value() == kNoRow) return row;
  if (members_ != nullptr && !members_->segments[s]->has(row.value())) return kNoRow;
  if (partitions_ == nullptr) return row;
  const Result<uint32_t> label = ref.segment->partition(row.value());
  if (!label.ok()) return label.status();
  return std::binary_search(partitions_->begin(), partitions_->end(), label.value()) ? row.value() : kNoRow;
}

Result<Ordinal> View::find(const Key& key) const {
  for (size_t s = state_->segments.size(); s-- > 0;) {
    if (state_->segments[s].is_gone(seq_)) continue;
    Result<Row> row = state_->segments[s].segment->find(key);
    if (row.ok()) row = visible_of(s, row.value());
    if (!row.ok()) return row.status();
    if (row.value() != kNoRow) return make_ordinal(s, row.value());
  }
  return kNoOrdinal;
}

std::vector<size_t> View::probing_order() const {
  std::vector<std::pair<uint64_t, size_t>> sizes;
  for (size_t s = 0; s < state_->segments.size(); ++s) {
    const SegmentRef& ref = state_->segments[s];
    if (ref.is_gone(seq_)) continue;
    sizes.emplace_back(uint64_t{ref.segment->row_count()} - ref.deaths->dead_count(), s);
  }
  std::sort(sizes.rbegin(), sizes.rend());
  std::vector<size_t> order;
  for (const auto& [rows, s] : sizes) order.push_back(s);
  return order;
}

Status View::locate(const std::string_view* keys, size_t n, Ordinal* out) const {
  const unsigned threads = threads_worth(n, kKeysPerThread);
  const std::vector<size_t> order = probing_order();
  if (threads == 1) return locate_range(KeyList(keys), n, order, out);
  return run_ranges(n, kKeysAtATime, threads, [&](size_t begin, size_t end, unsigned) {
    return locate_range(KeyList(keys + begin), end - begin, order, out + begin);
  });
}

Status View::locate_range(const KeyList& keys, size_t n, const std::vector<size_t>& order, Ordinal* out) const {
  for (size_t begin = 0; begin < n; begin += kProbeKeys) {
    const auto key_at = [&](size_t i) { return make_key(hash_seed_, keys[begin + i]); };
    Probe probe(std::min(kProbeKeys, n - begin), key_at, out + begin);
    for (auto s = order.begin(); s != order.end() && !probe.done(); ++s) {
      const SegmentRef& ref = state_->segments[*s];
      EHUB_RETURN_IF_ERROR(probe.ask(
          *ref.segment, *s, [&] { return !selects() && ref.segment->seq_max() <= seq_ && !ref.deaths->any(); },
          [&](Row youngest) { return visible_of(*s, youngest); }));
    }
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

Status View::gather(const Ordinal* rows, size_t n, float* out, unsigned threads) const {
  const uint64_t row_bytes = schema_.row_bytes();
  const unsigned worth = threads_worth(n * row_bytes, kBytesPerThread, threads);
  if (worth == 1) return gather_range(rows, n, out);
  const auto grain = static_cast<size_t>(std::max<uint64_t>(1, kBytesAtATime / row_bytes));
  return run_ranges(n, grain, worth, [&](size_t begin, size_t end, unsigned) {
    return gather_range(rows + begin, end - begin, out + begin * schema_.dims);
  });
}

Status View::gather_range(const Ordinal* rows, size_t n, float* out) const {
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
    const Result<const float*> at = vector(rows[i]);
    if (!at.ok()) return at.status();
    ahead[slot] = at.value();
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

Result<std::vector<uint64_t>> View::labelled_in(size_t s, Row rows) const {
  if (!selects()) return first_rows(rows);
  std::vector<uint64_t> bitmap(words_for(rows), 0);
  if (partitions_ == nullptr) {
    members_->segments[s]->mark(rows, bitmap);
    return bitmap;
  }
  const Segment& segment = *state_->segments[s].segment;
  for (const uint32_t number : *partitions_) {
    EHUB_RETURN_IF_ERROR(segment.partition_index().mark(segment, number, rows, bitmap));
  }
  if (members_ == nullptr) return bitmap;
  std::vector<uint64_t> members(bitmap.size(), 0);
  members_->segments[s]->mark(rows, members);
  for (size_t w = 0; w < bitmap.size(); ++w) bitmap[w] &= members[w];
  return bitmap;
}

Result<std::vector<uint64_t>> View::visible_in(size_t s) const {
  const SegmentRef& ref = state_->segments[s];
  if (ref.is_gone(seq_)) return std::vector<uint64_t>();
  if (selects() || !ref.is_history()) return look_in(s);
  const auto look = [&]() -> Result<std::shared_ptr<const std::vector<uint64_t>>> {
    Result<std::vector<uint64_t>> bitmap = look_in(s);
    if (!bitmap.ok()) return bitmap.status();
    return std::make_shared<const std::vector<uint64_t>>(std::move(bitmap.value()));
  };
  const auto bitmap = ref.deaths->memory().visible.of(seq_, look);
  return bitmap.ok() ? Result<std::vector<uint64_t>>(*bitmap.value()) : bitmap.status();
}

Result<std::vector<uint64_t>> View::look_in(size_t s) const {
  const Result<Row> rows = state_->segments[s].segment->rows_at(seq_);
  if (!rows.ok()) return rows.status();
  Result<std::vector<uint64_t>> bitmap = labelled_in(s, rows.value());
  if (bitmap.ok()) keep_visible(s, rows.value(), bitmap.value());
  return bitmap;
}

Result<std::vector<uint64_t>> View::partition_counts(uint32_t partitions) const {
  std::vector<uint64_t> counts(size_t{partitions} + 1, 0);
  std::vector<uint32_t> labels(kLabels);
  for (size_t s = 0; s < state_->segments.size(); ++s) {
    const Result<std::vector<uint64_t>> bitmap = visible_in(s);
    if (!bitmap.ok()) return bitmap.status();
    const auto words = static_cast<Row>(bitmap.value().size());
    const Segment& segment = *state_->segments[s].segment;
    const Row rows = std::min(segment.row_count(), words * 64);
    for (Row begin = 0; begin < rows; begin += kLabels) {
      const Row n = std::min(kLabels, rows - begin);
      EHUB_RETURN_IF_ERROR(segment.labels(begin, n, labels.data()));
      for (Row i = 0; i < n; ++i) {
        const bool visible = ((bitmap.value()[(begin + i) / 64] >> ((begin + i) % 64)) & 1) != 0;
        if (visible && labels[i] <= partitions) ++counts[labels[i]];
      }
    }
  }
  return counts;
}

void View::keep_visible(size_t s, Row rows, std::vector<uint64_t>& bitmap) const {
  const SegmentRef& ref = state_->segments[s];
  bitmap.resize(words_for(rows));
  if (rows % 64 != 0) bitmap.back() &= (uint64_t{1} << (rows % 64)) - 1;
  if (!ref.deaths->any()) return;
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

Status View::births(const Ordinal* rows, size_t n, Seq* out) const {
  return run_ranges(n, kKeysAtATime, threads_worth(n, kKeysPerThread), [&](size_t i, size_t end, unsigned) -> Status {
    for (; i < end; ++i) {
      const Ordinal row = rows[i];
      const Result<Seq> born =
          row == kNoOrdinal ? Seq{0} : state_->segments[row >> 32].segment->born(static_cast<Row>(row));
      if (!born.ok()) return born.status();
      out[i] = born.value();
    }
    return {};
  });
}

std::shared_ptr<const View> View::over(std::shared_ptr<const TableState> state) const {
  auto view = std::make_shared<View>(*this);
  view->state_ = std::move(state);
  return view;
}

Result<std::vector<Ordinal>> View::rows_not_in(const View& other) const {
  EHUB_ASSERT(state_ == other.state_);
  Selection selection;
  for (size_t s = 0; s < state_->segments.size(); ++s) {
    Result<std::vector<uint64_t>> bitmap = visible_in(s);
    if (!bitmap.ok()) return bitmap.status();
    const Result<std::vector<uint64_t>> others = other.visible_in(s);
    if (!others.ok()) return others.status();
    const size_t words = std::min(bitmap.value().size(), others.value().size());
    for (size_t w = 0; w < words; ++w) bitmap.value()[w] &= ~others.value()[w];
    selection.bitmaps.push_back(std::move(bitmap.value()));
  }
  return rows_of(selection);
}

Result<std::vector<Ordinal>> View::visible_rows() const {
  const Result<Selection> selection = visible();
  if (!selection.ok()) return selection.status();
  return rows_of(selection.value());
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

}  // namespace ehub
