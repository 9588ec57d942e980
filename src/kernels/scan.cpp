#include "kernels/scan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "base/check.h"

namespace ehub {
namespace {

// Rows of one pass: as many as a word of the selection has bits. 64 rows of 1000 dimensions are a quarter of a
// second-level cache.
constexpr size_t kSpanRows = 64;
// Queries of one pass, a multiple of every tier's tile: their distances to a span stay in the first-level cache.
constexpr size_t kPassQueries = 48;
// From so many selected rows in a word on, the others are computed too and dropped: one long pass costs less.
constexpr int kDenseRows = 32;
// As much of a row as is asked for in advance.
constexpr size_t kPrefetchFloats = 1024;
constexpr int kIntoSecondLevelCache = 2;  // which can have more reads under way than the first
constexpr size_t kCacheLineFloats = 16;
// What a span takes beyond its rows, in halves of what a row takes: a row of its own fills no tile.
constexpr uint64_t kHalfRowsPerSpan = 3;

// Up to 64 neighbouring rows.
struct Span {
  size_t start = 0;
  size_t count = 0;
  uint64_t selected = 0;  // bit i: row start + i was asked for
};

// The lowest `count` bits, 1 <= count <= 64.
uint64_t low_bits(size_t count) { return ~uint64_t{0} >> (64 - count); }

// Cuts a selection into spans, in order.
class Spans {
 public:
  Spans(const uint64_t* selected, size_t n) : words_(selected), n_(n) {}

  // False at the end.
  bool next(Span* span) {
    while (pending_ == 0) {
      if (word_start_ >= n_) return false;
      load_word();
    }
    const auto first = static_cast<size_t>(std::countr_zero(pending_));
    const uint64_t from_first = pending_ >> first;
    const bool dense = std::popcount(pending_) >= kDenseRows;
    const auto count = static_cast<size_t>(dense ? std::bit_width(from_first) : std::countr_one(from_first));
    *span = {base_ + first, count, from_first & low_bits(count)};
    pending_ &= ~(low_bits(count) << first);
    return true;
  }

 private:
  void load_word() {
    const uint64_t word = words_ == nullptr ? ~uint64_t{0} : words_[word_start_ / kSpanRows];
    pending_ = word & low_bits(std::min(kSpanRows, n_ - word_start_));
    base_ = word_start_;
    word_start_ += kSpanRows;
  }

  const uint64_t* words_;
  size_t n_;
  size_t base_ = 0;        // row of bit 0 of pending_
  size_t word_start_ = 0;  // row of bit 0 of the next word
  uint64_t pending_ = 0;   // selected rows of this word that no span has had
};

// One call of scan_block.
struct Scan {
  const KernelTable& kernels;
  Metric metric;
  const float* queries;
  const float* query_norms_squared;
  size_t m;
  const float* rows;
  size_t dims;
  uint64_t row_base;
  TopK* heaps;

  void span(const Span& span) const {
    float row_scales[kSpanRows];
    size_t q = 0;
    if (metric == Metric::kCosine) {
      first_query_and_scales(span, row_scales);
      q = 1;
    }
    for (; q < m; q += kPassQueries) pass(span, row_scales, q, std::min(kPassQueries, m - q));
  }

  void prefetch(const Span& span) const {
    const float* row = rows + span.start * dims;
    for (size_t d = 0; d < std::min(dims, kPrefetchFloats); d += kCacheLineFloats) {
      __builtin_prefetch(row + d, 0, kIntoSecondLevelCache);
    }
  }

  // The norms come with the first query's products, so that the rows are read from memory once.
  void first_query_and_scales(const Span& span, float* row_scales) const {
    float products[kSpanRows];
    kernels.dot_norm_one(queries, rows + span.start * dims, span.count, dims, products, row_scales);
    for (size_t i = 0; i < span.count; ++i) row_scales[i] = 1.0F / std::sqrt(row_scales[i]);
    offer(span, row_scales, 0, products);
  }

  void pass(const Span& span, const float* row_scales, size_t q, size_t count) const {
    float values[kPassQueries * kSpanRows];
    const auto distances = metric == Metric::kL2 ? kernels.l2_many : kernels.dot_many;
    distances(queries + q * dims, count, rows + span.start * dims, span.count, dims, values, kSpanRows);
    for (size_t i = 0; i < count; ++i) offer(span, row_scales, q + i, values + i * kSpanRows);
  }

  // Makes distances of what the kernels left in `values`, and gives the heap of query `q` those that may enter.
  void offer(const Span& span, const float* row_scales, size_t q, float* values) const {
    if (metric == Metric::kInnerProduct) {
      for (size_t i = 0; i < span.count; ++i) values[i] = 1.0F - values[i];
    } else if (metric == Metric::kCosine) {
      const float query_scale = 1.0F / std::sqrt(query_norms_squared[q]);
      for (size_t i = 0; i < span.count; ++i) values[i] = 1.0F - values[i] * row_scales[i] * query_scale;
    }
    TopK& heap = heaps[q];
    if (none_may_enter(values, span.count, heap.threshold())) return;
    for (size_t i = 0; i < span.count; ++i) {
      if ((span.selected >> i & 1U) != 0 && !(values[i] > heap.threshold())) {
        heap.push(values[i], row_base + span.start + i);
      }
    }
  }

  // Almost always the answer, so there is no branch for a single row. A NaN is not above any threshold.
  static bool none_may_enter(const float* distances, size_t count, float threshold) {
    uint32_t may_enter = 0;
    for (size_t i = 0; i < count; ++i) may_enter |= static_cast<uint32_t>(!(distances[i] > threshold));
    return may_enter == 0;
  }
};

size_t first_not_finite(const KernelTable& kernels, const float* rows, size_t n, size_t dims) {
  if (kernels.all_finite(rows, n * dims)) return n;
  size_t i = 0;
  while (i < n && kernels.all_finite(rows + i * dims, dims)) ++i;
  return i;
}

size_t first_without_angle(const KernelTable& kernels, const float* rows, size_t n, size_t dims) {
  float products[kSpanRows];
  float norms_squared[kSpanRows];
  for (size_t start = 0; start < n; start += kSpanRows) {
    const size_t count = std::min(kSpanRows, n - start);
    const float* block = rows + start * dims;
    kernels.dot_norm_one(block, block, count, dims, products, norms_squared);
    for (size_t i = 0; i < count; ++i) {
      if (!std::isnormal(norms_squared[i])) return start + i;
    }
  }
  return n;
}

}  // namespace

const float TopK::kUnlimited = std::numeric_limits<float>::infinity();

TopK::TopK(size_t k, float distance_max) { reset(k, distance_max); }

void TopK::reset(size_t k, float distance_max) {
  k_ = k;
  distance_max_ = threshold_ = distance_max;
  heap_.clear();
  heap_.reserve(k);
}

bool TopK::push(float distance, uint64_t row) {
  const Neighbor candidate = {std::isnan(distance) ? kUnlimited : distance, row};
  if (candidate.distance > threshold_ || k_ == 0) return false;
  if (heap_.size() == k_) {
    if (!nearer(candidate, heap_.front())) return false;
    std::pop_heap(heap_.begin(), heap_.end(), nearer);
    heap_.back() = candidate;
  } else {
    heap_.push_back(candidate);
  }
  std::push_heap(heap_.begin(), heap_.end(), nearer);
  if (heap_.size() == k_) threshold_ = heap_.front().distance;
  return true;
}

void TopK::merge(const TopK& other) {
  for (const Neighbor& neighbor : other.heap_) push(neighbor.distance, neighbor.row);
}

std::vector<Neighbor> TopK::take_sorted() {
  std::sort_heap(heap_.begin(), heap_.end(), nearer);
  threshold_ = distance_max_;
  return std::exchange(heap_, {});
}

void scan_block(const KernelTable& kernels, Metric metric, const float* queries, const float* query_norms_squared,
                size_t m, const float* rows, size_t n, size_t dims, const uint64_t* selected, uint64_t row_base,
                TopK* heaps) {
  EHUB_ASSERT(metric != Metric::kCosine || query_norms_squared != nullptr);
  if (m == 0) return;
  const Scan scan = {kernels, metric, queries, query_norms_squared, m, rows, dims, row_base, heaps};
  Spans spans(selected, n);
  Span span;
  Span ahead;
  for (bool more = spans.next(&ahead); more;) {
    span = ahead;
    more = spans.next(&ahead);
    // Hardware follows neighbouring rows, and cannot know where the next selected row is.
    if (more && ahead.start != span.start + span.count) scan.prefetch(ahead);
    scan.span(span);
  }
}

uint64_t scan_cost(const uint64_t* selected, size_t n) {
  Spans spans(selected, n);
  uint64_t half_rows = 0;
  for (Span span; spans.next(&span);) half_rows += 2 * span.count + kHalfRowsPerSpan;
  return half_rows / 2;
}

void distances_apart(const KernelTable& kernels, Metric metric, const float* query, float query_norm_squared,
                     const float* const* rows, size_t n, size_t dims, float* out) {
  if (metric == Metric::kL2) return kernels.l2_apart(query, rows, n, dims, out);
  if (metric == Metric::kInnerProduct) {
    kernels.dot_apart(query, rows, n, dims, out);
    for (size_t i = 0; i < n; ++i) out[i] = 1.0F - out[i];
    return;
  }
  const float query_scale = 1.0F / std::sqrt(query_norm_squared);
  for (; n > 0; rows += std::min(n, kSpanRows), out += std::min(n, kSpanRows), n -= std::min(n, kSpanRows)) {
    const size_t count = std::min(n, kSpanRows);
    float norms_squared[kSpanRows];
    kernels.dot_norm_apart(query, rows, count, dims, out, norms_squared);
    for (size_t i = 0; i < count; ++i) out[i] = 1.0F - out[i] * (1.0F / std::sqrt(norms_squared[i])) * query_scale;
  }
}

size_t first_invalid_row(const KernelTable& kernels, Metric metric, const float* rows, size_t n, size_t dims) {
  return metric == Metric::kCosine ? first_without_angle(kernels, rows, n, dims)
                                   : first_not_finite(kernels, rows, n, dims);
}

}  // namespace ehub
