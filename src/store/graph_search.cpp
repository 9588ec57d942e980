// The part of a search that walks over graphs, query by query; and what a batch does about those of its queries that a
// walk finds too little for.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <memory>
#include <utility>

#include "hnsw/search.h"
#include "kernels/dispatch.h"
#include "store/search.h"

namespace ehub {
namespace {

// Queries that a thread takes at a time.
constexpr size_t kShareQueries = 8;

// Multiplications that a walk for one candidate is worth, for each dimension.
constexpr uint64_t kRowsPerCandidate = 24;

// From so many queries on, those that a walk finds too little for are scanned together: fewer are as fast alone, by
// codes.
constexpr size_t kTogetherLeast = 16;

// What takes as long as one multiplication of such a scan, measured on two sets of 115,659 x 384 and 1,000,000 x 128:
// 0.0175 ns of one core. A row takes some beyond its dimensions, and so does a candidate of a walk.
constexpr uint64_t kRowOverhead = 100;
constexpr uint64_t kCandidateOverhead = 20'000;
constexpr uint64_t kCandidatePerDim = 32;

// That candidate is one of a graph of so many rows; of more it takes longer, by the fourth root (benchmarks/README.md).
constexpr double kCandidateRows = 100'000;

// The rows of a segment as a view sees them.
class VisibleRows final : public hnsw::RowSource {
 public:
  VisibleRows(const Search& search, const Walk& walk)
      : walk_(walk),
        deaths_(*search.view.state()->segments[walk.segment].deaths),
        seq_(search.view.seq()),
        any_dead_(deaths_.any()) {}

  Status fetch(const uint32_t* rows, size_t n, const float** out) const override {
    for (size_t i = 0; i < n; ++i) {
      Row run = 0;
      const Result<const float*> vector = walk_.sealed->vectors(rows[i], 1, &run);
      if (!vector.ok()) return vector.status();
      out[i] = vector.value();
    }
    return {};
  }
  const float* memory() const override { return walk_.sealed->vector_memory(); }
  bool visible(uint32_t row) const override {
    return row < walk_.rows && (!any_dead_ || !deaths_.dead_at(row, seq_)) &&
           (walk_.members == nullptr || walk_.members->has(row));
  }

 private:
  const Walk& walk_;
  const DeletionVector& deaths_;
  const Seq seq_;
  const bool any_dead_;
};

// Among some rows a walk looks for so many times as many candidates: it goes farther, and has more to miss.
constexpr double kWidthAmongSome = 1.25;

// A wider answer needs a wider search: calibration was for 10, among all rows.
size_t ef_for(const Search& search, const Walk& walk) {
  constexpr size_t kCalibratedFor = 10;
  if (search.options.ef != 0) return std::max(search.options.ef, search.k);
  const uint32_t fixed = search.view.schema().index.ef;
  const size_t base = fixed != 0 ? fixed : walk.graph->view().calibration.ef;
  const size_t more = search.k > kCalibratedFor ? (search.k - kCalibratedFor) * 3 / 2 : 0;
  return std::max(static_cast<size_t>((walk.nodes.empty() ? 1 : kWidthAmongSome) * static_cast<double>(base)) + more,
                  search.k);
}

// Whether a query may be left to a scan with others.
enum class Way : uint8_t { kMayBeLeft, kAlone };

void walk_for(const Search& search, Walk& walk, size_t q, Way way, hnsw::Searcher& searcher, TopK& heap) {
  const Schema& schema = search.view.schema();
  const VisibleRows source(search, walk);
  hnsw::GraphQuery query;
  query.vector = search.queries + q * schema.dims;
  if (!search.norms_squared.empty()) query.norm_squared = search.norms_squared[q];
  query.k = search.k;
  query.ef = ef_for(search, walk);
  query.wanted = walk.wanted.empty() ? nullptr : walk.wanted.data();
  query.wanted_count = walk.wanted_count;
  query.wanted_nodes = walk.nodes.data();
  query.stop = search.options.stopped;
  if (way == Way::kMayBeLeft) query.scan_worth = walk.scan_worth;
  bool left = false;
  const Status status = searcher.search(kernels(), walk.graph->encoder(), walk.graph->view(), source, query,
                                        make_ordinal(walk.segment, 0), heap, &left);
  if (!status.ok()) walk.failed = true;
  if (left) walk.left[q] = 1;
}

// Searchers that nobody uses, with the memory of their last search. Not one per thread: a thread's own variables are
// made when it first touches them, and where there is no memory for that the process is ended. Without a lock, which a
// fork could leave held.
class IdleSearchers {
 public:
  std::unique_ptr<hnsw::Searcher> take() {
    for (auto& place : places_) {
      if (place.load(std::memory_order_relaxed) == nullptr) continue;
      if (hnsw::Searcher* idle = place.exchange(nullptr, std::memory_order_acquire)) {
        return std::unique_ptr<hnsw::Searcher>(idle);
      }
    }
    return std::make_unique<hnsw::Searcher>();
  }
  void give(std::unique_ptr<hnsw::Searcher> searcher) {
    for (auto& place : places_) {
      hnsw::Searcher* none = nullptr;
      if (!place.compare_exchange_strong(none, searcher.get(), std::memory_order_release)) continue;
      (void)searcher.release();
      return;
    }
  }

 private:
  std::array<std::atomic<hnsw::Searcher*>, 64> places_ = {};
};

IdleSearchers idle_searchers;

// Calls use(searcher, i) for each i of [0, n), on as many threads as `work` is worth. A failure is the first walk's.
template <typename Use>
void for_each_query(const Search& search, size_t n, uint64_t work, Use use) {
  std::atomic<size_t> next = 0;
  const size_t shares = (n + kShareQueries - 1) / kShareQueries;
  run_threads(threads_for(search.options, work, shares), [&](unsigned) {
    const Status status = guarded([&]() -> Status {
      std::unique_ptr<hnsw::Searcher> searcher = idle_searchers.take();
      for (size_t begin = next.fetch_add(kShareQueries); begin < n; begin = next.fetch_add(kShareQueries)) {
        for (size_t i = begin; i < std::min(begin + kShareQueries, n); ++i) {
          if (is_stopped(search.options)) break;
          use(*searcher, i);
        }
      }
      idle_searchers.give(std::move(searcher));
      return {};
    });
    if (!status.ok()) search.walks.front()->failed = true;
  });
}

uint64_t work_of(const Search& search, const Walk& walk) {
  return ef_for(search, walk) * kRowsPerCandidate * search.view.schema().dims;
}

void set_scan_worth(const Search& search, Walk& walk) {
  if (search.m < kTogetherLeast || walk.wanted.empty()) return;
  const uint64_t dims = search.view.schema().dims;
  const auto scan = static_cast<double>(scan_cost(walk.wanted.data(), walk.rows) * (kRowOverhead + dims));
  const double size = walk.graph->view().rows / kCandidateRows;
  // Square roots are the same on every machine.
  const double candidate =
      static_cast<double>(kCandidateOverhead + kCandidatePerDim * dims) * std::sqrt(std::sqrt(size));
  walk.scan_worth = 1 + static_cast<size_t>(scan / candidate);
  walk.left.resize(search.m);
}

// Scans the wanted rows of a walk's graph for some queries.
Status scan_together(const Search& search, const Walk& walk, const std::vector<size_t>& queries,
                     std::vector<TopK>& heaps) {
  const size_t dims = search.view.schema().dims;
  std::vector<float> vectors;
  Search some{search.view, nullptr, queries.size(), search.options, search.k, {}, {}, {}, {}};
  std::vector<TopK> found;
  for (const size_t q : queries) {
    vectors.insert(vectors.end(), search.queries + q * dims, search.queries + (q + 1) * dims);
    if (!search.norms_squared.empty()) some.norms_squared.push_back(search.norms_squared[q]);
    found.push_back(std::move(heaps[q]));
  }
  some.queries = vectors.data();
  some.wanted.resize(search.wanted.size());
  std::vector<uint64_t>& wanted = some.wanted[walk.segment];
  wanted = walk.wanted;
  // Those that the graph does not have are scanned for all queries.
  const std::vector<uint64_t>& others = search.wanted[walk.segment];
  for (size_t w = 0; w < std::min(wanted.size(), others.size()); ++w) wanted[w] &= ~others[w];
  add_runs(some, walk.segment, walk.rows);
  const Status status = scan_runs(some, found);
  for (size_t i = 0; i < queries.size(); ++i) heaps[queries[i]] = std::move(found[i]);
  return status;
}

// Answers the queries that were left.
Status search_left(const Search& search, Walk& walk, std::vector<TopK>& heaps) {
  std::vector<size_t> left;
  for (size_t q = 0; q < walk.left.size(); ++q) {
    if (walk.left[q] != 0) left.push_back(q);
  }
  if (left.size() >= kTogetherLeast) return scan_together(search, walk, left, heaps);
  for_each_query(search, left.size(), left.size() * work_of(search, walk), [&](hnsw::Searcher& searcher, size_t i) {
    walk_for(search, walk, left[i], Way::kAlone, searcher, heaps[left[i]]);
  });
  return {};
}

}  // namespace

Status walk_graphs(const Search& search, std::vector<TopK>& heaps) {
  if (search.walks.empty()) return {};
  uint64_t work = 0;
  for (const auto& walk : search.walks) {
    work += search.m * work_of(search, *walk);
    set_scan_worth(search, *walk);
  }
  for_each_query(search, search.m, work, [&](hnsw::Searcher& searcher, size_t q) {
    for (const auto& walk : search.walks) {
      if (!walk->failed) walk_for(search, *walk, q, Way::kMayBeLeft, searcher, heaps[q]);
    }
  });
  for (const auto& walk : search.walks) {
    if (is_stopped(search.options)) return stopped();
    if (!walk->failed) EHUB_RETURN_IF_ERROR(search_left(search, *walk, heaps));
  }
  return {};
}

}  // namespace ehub
