// The part of a search that walks over graphs, query by query.

#include <algorithm>
#include <array>
#include <atomic>
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

void walk_for(const Search& search, Walk& walk, size_t q, hnsw::Searcher& searcher, TopK& heap) {
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
  const Status status = searcher.search(kernels(), walk.graph->encoder(), walk.graph->view(), source, query,
                                        make_ordinal(walk.segment, 0), heap);
  if (!status.ok()) walk.failed = true;
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

void walk_all(const Search& search, size_t q, hnsw::Searcher& searcher, TopK& heap) {
  for (const auto& walk : search.walks) {
    if (!walk->failed) walk_for(search, *walk, q, searcher, heap);
  }
}

}  // namespace

void walk_graphs(const Search& search, std::vector<TopK>& heaps) {
  if (search.walks.empty()) return;
  uint64_t work = 0;
  for (const auto& walk : search.walks) {
    work += search.m * ef_for(search, *walk) * kRowsPerCandidate * search.view.schema().dims;
  }
  std::atomic<size_t> next = 0;
  const size_t shares = (search.m + kShareQueries - 1) / kShareQueries;
  run_threads(threads_for(search.options, work, shares), [&](unsigned) {
    const Status status = guarded([&]() -> Status {
      std::unique_ptr<hnsw::Searcher> searcher = idle_searchers.take();
      for (size_t begin = next.fetch_add(kShareQueries); begin < search.m; begin = next.fetch_add(kShareQueries)) {
        for (size_t q = begin; q < std::min(begin + kShareQueries, search.m); ++q) {
          if (is_stopped(search.options)) break;
          walk_all(search, q, *searcher, heaps[q]);
        }
      }
      idle_searchers.give(std::move(searcher));
      return {};
    });
    if (!status.ok()) search.walks.front()->failed = true;
  });
}

}  // namespace ehub
