// View::nearest: an exact scan of the visible rows, in runs that fit the cache, over as many threads as the work is
// worth.

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "kernels/dispatch.h"
#include "store/view.h"

namespace ehub {
namespace {

// A run is checked against its checksums and then scanned while it is still in the cache.
constexpr uint64_t kRunBytes = 512 << 10;

// Multiplications that are worth a thread: some ten times what starting one costs.
constexpr uint64_t kWorkPerThread = 4'000'000;

struct Run {
  size_t segment;
  Row begin;
  Row end;
};

struct Search {
  const View& view;
  const float* queries;
  size_t m;
  const SearchOptions& options;
  size_t k;                          // with room for an excluded row
  std::vector<float> norms_squared;  // of the queries, for cosine
  std::vector<Run> runs;
  std::vector<std::vector<uint64_t>> wanted;  // per segment a bitmap; empty: all rows of its runs
};

unsigned usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<unsigned>(CPU_COUNT(&set));
}

// Bits [begin, end) of `bitmap`, moved to the front of `out`.
void shift_bits(const std::vector<uint64_t>& bitmap, Row begin, Row end, std::vector<uint64_t>& out) {
  const size_t words = (end - begin + 63) / 64;
  const size_t first = begin / 64;
  const unsigned shift = begin % 64;
  out.resize(words);
  for (size_t w = 0; w < words; ++w) {
    out[w] = bitmap[first + w] >> shift;
    if (shift != 0 && first + w + 1 < bitmap.size()) out[w] |= bitmap[first + w + 1] << (64 - shift);
  }
}

void intersect(std::vector<uint64_t>& bitmap, const std::vector<uint64_t>& other) {
  for (size_t w = 0; w < bitmap.size(); ++w) bitmap[w] &= w < other.size() ? other[w] : 0;
}

Status scan_run(const Search& search, const Run& run, std::vector<uint64_t>& scratch, TopK* heaps) {
  const SegmentRef& ref = search.view.state()->segments[run.segment];
  const std::vector<uint64_t>& wanted = search.wanted[run.segment];
  for (Row row = run.begin; row < run.end;) {
    Row n = 0;
    const Result<const float*> vectors = ref.segment->vectors(row, run.end - row, &n);
    if (!vectors.ok()) return vectors.status();
    if (!wanted.empty()) shift_bits(wanted, row, row + n, scratch);
    const Schema& schema = search.view.schema();
    scan_block(kernels(), schema.metric, search.queries, search.norms_squared.data(), search.m, vectors.value(), n,
               schema.dims, wanted.empty() ? nullptr : scratch.data(), make_ordinal(run.segment, row), heaps);
    row += n;
  }
  return {};
}

// One thread's share: runs are taken from a common counter, so a slow thread holds nobody up.
Status scan_runs(const Search& search, std::atomic<size_t>& next, std::vector<TopK>& heaps) {
  return guarded([&]() -> Status {
    std::vector<uint64_t> scratch;
    for (size_t i = next.fetch_add(1); i < search.runs.size(); i = next.fetch_add(1)) {
      EHUB_RETURN_IF_ERROR(scan_run(search, search.runs[i], scratch, heaps.data()));
    }
    return {};
  });
}

unsigned threads_for(const Search& search) {
  uint64_t rows = 0;
  for (const Run& run : search.runs) rows += run.end - run.begin;
  const uint64_t work = rows * search.m * search.view.schema().dims;
  const unsigned limit = search.options.threads != 0 ? search.options.threads : usable_cores();
  const uint64_t worth = std::max<uint64_t>(1, work / kWorkPerThread);
  return static_cast<unsigned>(std::min<uint64_t>({limit, worth, std::max<size_t>(1, search.runs.size())}));
}

Status scan_parallel(const Search& search, std::vector<TopK>& heaps) {
  const unsigned thread_count = threads_for(search);
  std::vector<std::vector<TopK>> others(thread_count - 1, heaps);
  std::vector<Status> statuses(thread_count);
  std::atomic<size_t> next = 0;
  {
    std::vector<std::jthread> threads;
    threads.reserve(thread_count - 1);
    // If no more threads can be had, those that are there do the work.
    (void)guarded([&]() -> Status {
      for (unsigned t = 1; t < thread_count; ++t) {
        threads.emplace_back([&, t] { statuses[t] = scan_runs(search, next, others[t - 1]); });
      }
      return {};
    });
    statuses[0] = scan_runs(search, next, heaps);
  }
  for (const Status& status : statuses) EHUB_RETURN_IF_ERROR(status);
  for (const std::vector<TopK>& other : others) {
    for (size_t q = 0; q < heaps.size(); ++q) heaps[q].merge(other[q]);
  }
  return {};
}

void add_runs(Search& search, size_t segment, Row rows) {
  const uint64_t row_bytes = search.view.schema().row_bytes();
  const Row step = static_cast<Row>(std::max<uint64_t>(64, (kRunBytes / row_bytes) & ~uint64_t{63}));
  for (Row row = 0; row < rows; row += step) search.runs.push_back({segment, row, std::min(rows, row + step)});
}

std::vector<float> norms_of(const float* queries, size_t m, size_t dims) {
  std::vector<float> norms(m);
  for (size_t q = 0; q < m; ++q) {
    kernels().dot_one(queries + q * dims, queries + q * dims, 1, dims, &norms[q]);
  }
  return norms;
}

std::vector<Neighbor> answer(TopK& heap, size_t k, Ordinal excluded) {
  std::vector<Neighbor> neighbors = heap.take_sorted();
  std::erase_if(neighbors, [&](const Neighbor& neighbor) { return neighbor.row == excluded; });
  if (neighbors.size() > k) neighbors.resize(k);
  return neighbors;
}

}  // namespace

Result<std::vector<std::vector<Neighbor>>> View::nearest(const float* queries, size_t m,
                                                         const SearchOptions& options) const {
  Search search{*this, queries, m, options, options.k + (options.excluded != nullptr), {}, {}, {}};
  uint64_t rows = 0;
  for (size_t s = 0; s < state_->segments.size(); ++s) {
    const SegmentRef& ref = state_->segments[s];
    const Result<Row> visible_rows = ref.segment->rows_at(seq_);
    if (!visible_rows.ok()) return visible_rows.status();
    std::vector<uint64_t>& wanted = search.wanted.emplace_back();
    if (options.filter != nullptr || ref.deaths->dead_count() != 0) {
      Result<std::vector<uint64_t>> bitmap = visible_in(s);
      if (!bitmap.ok()) return bitmap.status();
      wanted = std::move(bitmap.value());
      if (options.filter != nullptr) intersect(wanted, options.filter->bitmaps[s]);
    }
    rows += visible_rows.value();
    add_runs(search, s, visible_rows.value());
  }
  if (schema_.metric == Metric::kCosine) search.norms_squared = norms_of(queries, m, schema_.dims);
  std::vector<TopK> heaps(m, TopK(std::min<size_t>(search.k, rows), options.distance_max));
  EHUB_RETURN_IF_ERROR(scan_parallel(search, heaps));
  std::vector<std::vector<Neighbor>> answers(m);
  for (size_t q = 0; q < m; ++q) {
    answers[q] = answer(heaps[q], options.k, options.excluded == nullptr ? kNoOrdinal : options.excluded[q]);
  }
  return answers;
}

}  // namespace ehub
