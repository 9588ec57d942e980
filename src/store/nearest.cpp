// View::nearest: which segments are walked and which are scanned, and the answers joined.

#include <sched.h>

#include <algorithm>
#include <bit>
#include <thread>

#include "base/thread.h"
#include "kernels/dispatch.h"
#include "store/search.h"

namespace ehub {
namespace {

constexpr uint64_t kRunBytes = 512 << 10;

// Multiplications that are worth a thread: some ten times what starting one costs.
constexpr uint64_t kWorkPerThread = 4'000'000;

// Selected rows that a walk among them begins at.
constexpr size_t kSampleRows = 32;

unsigned usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<unsigned>(CPU_COUNT(&set));
}

uint64_t count_bits(const std::vector<uint64_t>& bitmap) {
  uint64_t count = 0;
  for (const uint64_t word : bitmap) count += static_cast<uint64_t>(std::popcount(word));
  return count;
}

// Rows of a bitmap with `count` bits, evenly spread over them.
std::vector<uint32_t> sample_of(const std::vector<uint64_t>& bitmap, uint64_t count) {
  std::vector<uint32_t> sample;
  const uint64_t step = std::max<uint64_t>(1, count / kSampleRows);
  uint64_t seen = 0;
  for (size_t w = 0; w < bitmap.size(); ++w) {
    for (uint64_t word = bitmap[w]; word != 0; word &= word - 1, ++seen) {
      if (seen % step == 0) sample.push_back(static_cast<uint32_t>(w * 64 + std::countr_zero(word)));
    }
  }
  return sample;
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

// The graph of a segment that has one.
std::unique_ptr<Walk> walk_of(const SearchOptions& options, const SegmentRef& ref, size_t segment, Row rows,
                              uint64_t wanted_count) {
  if (options.exact || wanted_count <= options.scan_rows_max) return nullptr;
  const auto* sealed = dynamic_cast<const SealedSegment*>(ref.segment.get());
  if (sealed == nullptr) return nullptr;
  auto graph = sealed->graph().load();
  if (graph == nullptr) return nullptr;
  // Not make_unique, which Clang 14 cannot use for an aggregate.
  return std::unique_ptr<Walk>(new Walk{segment, sealed, std::move(graph), rows, wanted_count, {}, {}});
}

// Where a walk goes for the rows of `wanted`. Rows that are not born yet get their bits, too: a walk may ask for any.
void set_wanted(Walk& walk, std::vector<uint64_t>& wanted) {
  const hnsw::GraphView& graph = walk.graph->view();
  wanted.resize(hnsw::bitmap_words(graph.rows));
  walk.nodes.resize(wanted.size());
  graph.twins.spread(wanted.data(), graph.rows, walk.nodes.data());
  walk.sample = sample_of(walk.nodes, count_bits(walk.nodes));
}

}  // namespace

unsigned threads_for(const SearchOptions& options, uint64_t work, size_t pieces) {
  const unsigned limit = options.threads != 0 ? options.threads : usable_cores();
  return static_cast<unsigned>(
      std::min<uint64_t>({limit, std::max<uint64_t>(1, work / kWorkPerThread), std::max<size_t>(1, pieces)}));
}

void run_threads(unsigned thread_count, const std::function<void(unsigned thread)>& work) {
  std::vector<std::jthread> threads;
  threads.reserve(thread_count - 1);
  // If no more threads can be had, those that are there do the work.
  (void)guarded([&]() -> Status {
    for (unsigned t = 1; t < thread_count; ++t) {
      threads.emplace_back([&work, t] {
        ready_thread();
        work(t);
      });
    }
    return {};
  });
  work(0);
}

// Adds segment `s` to what is walked or scanned.
Status View::plan_segment(Search& search, size_t s, WantedRows& all) const {
  const SegmentRef& ref = state_->segments[s];
  const Selection* filter = search.options.filter;
  const Result<Row> rows = ref.segment->rows_at(seq_);
  if (!rows.ok()) return rows.status();
  std::vector<uint64_t>& wanted = search.wanted[s];
  // Rows may be dead that were not yet at this view's seq.
  uint64_t count = rows.value() - std::min(rows.value(), ref.deaths->dead_count());
  if (filter != nullptr) {
    wanted = filter->bitmaps[s];
    keep_visible(s, rows.value(), wanted);
    count = count_bits(wanted);
    if (count == 0) return {};
  }
  all.at_least += count;
  all.at_most += filter != nullptr ? count : rows.value();
  std::unique_ptr<Walk> walk = walk_of(search.options, ref, s, rows.value(), count);
  if (walk != nullptr) {
    if (filter != nullptr) set_wanted(*walk, wanted);
    search.walks.push_back(std::move(walk));
    return {};
  }
  return plan_scan(search, s, rows.value());
}

Status View::plan_scan(Search& search, size_t s, Row rows) const {
  if (search.wanted[s].empty() && state_->segments[s].deaths->dead_count() != 0) {
    Result<std::vector<uint64_t>> bitmap = visible_in(s);
    if (!bitmap.ok()) return bitmap.status();
    search.wanted[s] = std::move(bitmap.value());
  }
  add_runs(search, s, rows);
  return {};
}

Result<std::vector<std::vector<Neighbor>>> View::nearest(const float* queries, size_t m,
                                                         const SearchOptions& options) const {
  Search search{*this, queries, m, options, options.k + (options.excluded != nullptr), {}, {}, {}, {}};
  search.wanted.resize(state_->segments.size());
  WantedRows rows;
  for (size_t s = 0; s < state_->segments.size(); ++s) EHUB_RETURN_IF_ERROR(plan_segment(search, s, rows));
  // Where all rows may be in the answer, nothing is gained by a walk.
  if (!search.walks.empty() && search.k > rows.at_least) return scan_all(queries, m, options);
  if (schema_.metric == Metric::kCosine) search.norms_squared = norms_of(queries, m, schema_.dims);
  const size_t k = std::min<size_t>(search.k, rows.at_most);
  std::vector<TopK> heaps(m, TopK(k, options.distance_max));
  walk_graphs(search, heaps);
  for (const auto& walk : search.walks) {
    if (!walk->failed) continue;
    walk->sealed->graph().reject(walk->graph.get());
    return nearest(queries, m, options);
  }
  EHUB_RETURN_IF_ERROR(scan_runs(search, heaps));
  std::vector<std::vector<Neighbor>> answers(m);
  for (size_t q = 0; q < m; ++q) {
    const bool short_of_rows = heaps[q].size() < search.k && options.distance_max == TopK::kUnlimited;
    if (!search.walks.empty() && short_of_rows) EHUB_RETURN_IF_ERROR(scan_instead(search, q, heaps[q]));
    answers[q] = answer(heaps[q], options.k, options.excluded == nullptr ? kNoOrdinal : options.excluded[q]);
  }
  return answers;
}

Result<std::vector<std::vector<Neighbor>>> View::scan_all(const float* queries, size_t m,
                                                          const SearchOptions& options) const {
  SearchOptions exact = options;
  exact.exact = true;
  return nearest(queries, m, exact);
}

// A walk may miss rows that are there; a scan does not.
Status View::scan_instead(const Search& search, size_t q, TopK& heap) const {
  SearchOptions options = search.options;
  options.k = search.k;
  options.excluded = nullptr;
  auto exact = scan_all(search.queries + q * schema_.dims, 1, options);
  if (!exact.ok()) return exact.status();
  heap = TopK(search.k, options.distance_max);
  for (const Neighbor& neighbor : exact.value()[0]) heap.push(neighbor.distance, neighbor.row);
  return {};
}

}  // namespace ehub
