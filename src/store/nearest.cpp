// View::nearest: which segments are walked and which are scanned, and the answers joined.

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/dispatch.h"
#include "store/search.h"

namespace ehub {
namespace {

// Multiplications that are worth a thread: some ten times what starting one costs.
constexpr uint64_t kWorkPerThread = 4'000'000;

uint64_t count_bits(const std::vector<uint64_t>& bitmap) {
  uint64_t count = 0;
  for (const uint64_t word : bitmap) count += static_cast<uint64_t>(std::popcount(word));
  return count;
}

// Leaves out the words at either end of a run of which no row is wanted.
void trim(Run& run, const std::vector<uint64_t>& wanted) {
  while (run.begin < run.end && wanted[run.begin / 64] == 0) run.begin += 64;
  while (run.begin < run.end && wanted[(run.end - 1) / 64] == 0) run.end = (run.end - 1) / 64 * 64;
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

// Where a walk goes for the rows of `wanted`. Rows that are not born yet get their bits, too: a walk may ask for any.
void set_wanted(Walk& walk, std::vector<uint64_t> wanted) {
  const hnsw::GraphView& graph = walk.graph->view();
  wanted.resize(hnsw::bitmap_words(walk.sealed->row_count()));
  walk.wanted = std::move(wanted);
  std::vector<uint64_t> own;
  if (!graph.segment_rows.empty()) {
    own.resize(hnsw::bitmap_words(graph.rows));
    for (uint32_t node = 0; node < graph.rows; ++node) {
      if (hnsw::has_bit(walk.wanted.data(), graph.segment_rows[node])) hnsw::set_bit(own.data(), node);
    }
    walk.wanted_count = count_bits(own);
  }
  walk.nodes.resize(hnsw::bitmap_words(graph.rows));
  graph.twins.spread(own.empty() ? walk.wanted.data() : own.data(), graph.rows, walk.nodes.data());
}

}  // namespace

void add_runs(Search& search, size_t segment, Row rows) {
  const Row step = CoarseRows::block_rows(search.view.schema());
  const std::vector<uint64_t>& wanted = search.wanted[segment];
  for (Row row = 0; row < rows; row += step) {
    Run run = {segment, row, std::min(rows, row + step)};
    if (!wanted.empty()) trim(run, wanted);
    if (run.begin < run.end) search.runs.push_back(run);
  }
}

unsigned threads_for(const SearchOptions& options, uint64_t work, size_t pieces) {
  return std::min(threads_worth(work, kWorkPerThread, options.threads),
                  static_cast<unsigned>(std::clamp<size_t>(pieces, 1, std::numeric_limits<int>::max())));
}

struct View::SubsetGraph {
  std::shared_ptr<SegmentGraph> of;
  std::shared_ptr<const hnsw::GraphFile> graph;                    // null: there is none
  std::shared_ptr<const MemberRows::Coverage> coverage = nullptr;  // null: it has all rows
  const MemberRows* members = nullptr;
  uint64_t rows = 0;     // that are selected, dead ones too
  bool is_sole = false;  // nothing else selects
};

// A walk over the graph of a segment that has one, or over that of the rows that are asked for.
std::unique_ptr<Walk> View::walk_of(const SearchOptions& options, size_t s, Row rows, uint64_t wanted_count,
                                    const SubsetGraph& subset) const {
  if (options.exact || wanted_count <= options.scan_rows_max) return nullptr;
  const auto* sealed = dynamic_cast<const SealedSegment*>(state_->segments[s].segment.get());
  if (sealed == nullptr) return nullptr;
  const std::shared_ptr<SegmentGraph>& from = subset.graph == nullptr ? sealed->whole_graph() : subset.of;
  auto graph = subset.graph == nullptr ? from->load() : subset.graph;
  if (graph == nullptr) return nullptr;
  if (from == sealed->whole_graph()) sealed->coarse_rows().drop();
  // Not make_unique, which Clang 14 cannot use for an aggregate.
  return std::unique_ptr<Walk>(new Walk{.segment = s,
                                        .sealed = sealed,
                                        .of = from,
                                        .graph = std::move(graph),
                                        .rows = rows,
                                        .wanted_count = wanted_count});
}

// A sub-index comes first: what else selects is fewer rows.
Result<View::SubsetGraph> View::subset_graph(const Search& search, size_t s) const {
  const auto* sealed = dynamic_cast<const SealedSegment*>(state_->segments[s].segment.get());
  if (sealed == nullptr || search.options.exact) return SubsetGraph{};
  const uint64_t few = search.options.scan_rows_max;
  if (members_ != nullptr) {
    const MemberRows& members = *members_->segments[s];
    SubsetGraph found{nullptr, nullptr, nullptr, &members, members.count(), partitions_ == nullptr};
    if (found.rows <= few) return SubsetGraph{};
    found.of = sealed->graph_over({kSubIndexGraph, members_->keys});
    found.graph = found.of->load();
    if (found.graph == nullptr) return SubsetGraph{};
    found.coverage = members.coverage(found.graph);
    if (found.coverage->extra_count > few) return SubsetGraph{};
    return found;
  }
  if (partitions_ == nullptr || partitions_->size() != 1) return SubsetGraph{};
  const uint32_t number = partitions_->front();
  const Result<uint64_t> count = sealed->partition_index().count(*sealed, number);
  if (!count.ok()) return count.status();
  if (count.value() <= few) return SubsetGraph{};
  SubsetGraph found{sealed->graph_over({kPartitionGraph, number}), nullptr, nullptr, nullptr, count.value(), true};
  found.graph = found.of->load();
  return found;
}

// Walks the whole of a graph that has what is selected, or nearly so. False if that would be in vain for too many of
// its rows.
bool View::plan_subset(Search& search, size_t s, Row rows, const SubsetGraph& subset, WantedRows& all) const {
  const SegmentRef& ref = state_->segments[s];
  if (!subset.is_sole || search.options.filter != nullptr || rows < ref.segment->row_count()) return false;
  const uint64_t gone = subset.coverage == nullptr ? 0 : subset.coverage->gone_count;
  const uint64_t extra = subset.coverage == nullptr ? 0 : subset.coverage->extra_count;
  const uint64_t dead = ref.deaths->dead_count();
  const uint64_t nodes = subset.graph->view().rows;
  if ((gone + dead) * 2 > nodes) return false;
  all.at_least += subset.rows - std::min(subset.rows, dead);
  all.at_most += subset.rows;
  const auto* sealed = static_cast<const SealedSegment*>(ref.segment.get());
  search.walks.push_back(std::unique_ptr<Walk>(new Walk{.segment = s,
                                                        .sealed = sealed,
                                                        .of = subset.of,
                                                        .graph = subset.graph,
                                                        .rows = rows,
                                                        .wanted_count = nodes - gone - dead,
                                                        .members = gone == 0 ? nullptr : subset.members}));
  if (extra != 0) {
    search.wanted[s] = subset.coverage->extra;
    keep_visible(s, rows, search.wanted[s]);
    add_runs(search, s, rows);
  }
  return true;
}

// Walks a graph for those of the wanted rows that it has, and scans the others.
void View::plan_among(Search& search, size_t s, std::unique_ptr<Walk> walk, const SubsetGraph& subset) const {
  std::vector<uint64_t> wanted = std::move(search.wanted[s]);
  search.wanted[s] = {};
  if (subset.coverage != nullptr && subset.coverage->extra_count != 0) {
    search.wanted[s] = wanted;
    for (size_t w = 0; w < wanted.size(); ++w) search.wanted[s][w] &= subset.coverage->extra[w];
    add_runs(search, s, walk->rows);
  }
  set_wanted(*walk, std::move(wanted));
  search.walks.push_back(std::move(walk));
}

// Adds segment `s` to what is walked or scanned.
Status View::plan_segment(Search& search, size_t s, WantedRows& all) const {
  const SegmentRef& ref = state_->segments[s];
  if (ref.is_gone(seq_)) return {};
  // Of history, too, a past time sees some rows, and how many its deaths do not tell.
  const bool is_history = ref.is_history();
  const bool selects = search.options.filter != nullptr || this->selects() || is_history;
  const Result<Row> rows = ref.segment->rows_at(seq_);
  if (!rows.ok()) return rows.status();
  const Result<SubsetGraph> subset = subset_graph(search, s);
  if (!subset.ok()) return subset.status();
  const bool has_subset = subset.value().graph != nullptr;
  if (has_subset && plan_subset(search, s, rows.value(), subset.value(), all)) return {};
  std::vector<uint64_t>& wanted = search.wanted[s];
  // Rows may be dead that were not yet at this view's seq.
  uint64_t count = rows.value() - std::min(rows.value(), ref.deaths->dead_count());
  if (selects) {
    EHUB_RETURN_IF_ERROR(select_in(s, rows.value(), search.options.filter, wanted));
    count = count_bits(wanted);
    if (count == 0) return {};
  }
  all.at_least += count;
  all.at_most += selects ? count : rows.value();
  if (is_history) note_old_search(search, s, count);
  std::unique_ptr<Walk> walk = walk_of(search.options, s, rows.value(), count, subset.value());
  if (walk == nullptr) return plan_scan(search, s, rows.value());
  if (selects) {
    plan_among(search, s, std::move(walk), subset.value());
  } else {
    search.walks.push_back(std::move(walk));
  }
  return {};
}

// A graph over history is worth its building where searches keep wanting one.
void View::note_old_search(const Search& search, size_t s, uint64_t wanted_count) const {
  if (search.options.exact || wanted_count <= search.options.scan_rows_max) return;
  const auto* sealed = dynamic_cast<const SealedSegment*>(state_->segments[s].segment.get());
  if (sealed != nullptr) sealed->add_old_searches(search.m);
}

// The visible rows of segment `s` that `filter` lets pass; null lets all.
Status View::select_in(size_t s, Row rows, const Selection* filter, std::vector<uint64_t>& wanted) const {
  if (!selects() && filter != nullptr) {
    wanted = filter->bitmaps[s];
    keep_visible(s, rows, wanted);
    return {};
  }
  Result<std::vector<uint64_t>> visible = visible_in(s);
  if (!visible.ok()) return visible.status();
  wanted = std::move(visible.value());
  for (size_t w = 0; filter != nullptr && w < wanted.size(); ++w) wanted[w] &= filter->bitmaps[s][w];
  return {};
}

Status View::plan_scan(Search& search, size_t s, Row rows) const {
  if (search.wanted[s].empty() && state_->segments[s].deaths->any()) {
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
  EHUB_RETURN_IF_ERROR(walk_graphs(search, heaps));
  if (is_stopped(options)) return stopped();
  for (const auto& walk : search.walks) {
    if (!walk->failed) continue;
    walk->of->reject(walk->graph.get());
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
