#include "hnsw/search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace ehub::hnsw {
namespace {

// Candidates whose rows are asked for together.
constexpr size_t kRerankRows = 4;

// A walk that expands this many candidates takes as long as a scan of the codes of so many times as many rows.
constexpr size_t kScansPerCandidate = 24;

// Candidates of a walk at most, however many rows are wanted: to keep them in order takes a time that grows with their
// square: half a second at worst for these, two seconds for twice as many.
constexpr size_t kWalkedMost = 16'384;

// Wanted rows are sparse around a query if so many times as many candidates as usual were not enough, and some more.
constexpr size_t kSparseFactor = 2;
constexpr size_t kSparseSlack = 64;

// Then so many are looked for, for each that is asked for.
constexpr size_t kSparseQuota = 24;

// A walk that meets few wanted rows ends after this part of the candidates that it may expand: so one in vain takes
// little beside what comes then, and a small hole is left all the same. A scan for many queries tells no worse what is
// near, so there the part is smaller; but as many wanted ones should have been met as tell few from none.
constexpr size_t kPartInVain = 4;
constexpr size_t kPartInVainOfMany = 16;
constexpr double kMetLeast = 12;

// What a walk takes beyond its candidates, in candidates: the way to the first, and exact distances.
constexpr size_t kCandidatesOfStart = 100;

// Wanted rows that are gathered before their exact distances are computed.
constexpr size_t kRowsOfferedAtOnce = 256;

// Candidates that a scan of codes keeps at least.
constexpr size_t kScanCandidates = 768;

// Rows by which a crowd is told: all are among the nearer third of those looked at by chance in one case of 59,000.
constexpr size_t kCrowdRows = 10;

// Of longer codes, one candidate is expanded at a time: what a second one, chosen without having seen what the first
// leads to, scores in vain costs more than the wait that it fills. A byte of 4-bit codes is two products.
constexpr size_t kShortCodeBytes = 384;
constexpr size_t kShortCodeBytesOf4Bits = 256;

class CodeDistances final : public Distances {
 public:
  CodeDistances(const KernelTable& kernels, const CodeSet& codes, const CodedQuery& query, const GraphGuard* guard)
      : kernels_(kernels), codes_(codes), query_(query), guard_(guard) {
    memory = codes.codes;
    stride = codes.code_bytes;
    lines = stride / 64;
    abreast = codes.row_bytes() <= (codes.width == CodeWidth::k4 ? kShortCodeBytesOf4Bits : kShortCodeBytes) ? 2 : 1;
    beside = codes.beside();
    beside_bytes = codes.beside_bytes();
  }
  Status score(const uint32_t* rows, size_t n, float* out) override {
    for (size_t i = 0; guard_ != nullptr && i < n; ++i) EHUB_RETURN_IF_ERROR(guard_->check_codes(rows[i]));
    code_distances(kernels_, codes_, query_, rows, n, out);
    return {};
  }

 private:
  const KernelTable& kernels_;
  const CodeSet& codes_;
  const CodedQuery& query_;
  const GraphGuard* guard_;  // null: the codes are good
};

// For graphs without codes.
class ExactDistances final : public Distances {
 public:
  ExactDistances(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph, const RowSource& source,
                 const GraphQuery& query)
      : kernels_(kernels), encoder_(encoder), graph_(graph), source_(source), query_(query) {
    memory = graph.segment_rows.empty() ? reinterpret_cast<const uint8_t*>(source.memory()) : nullptr;
    stride = encoder.dims() * sizeof(float);
    lines = memory == nullptr ? 0 : (stride + 63) / 64;
  }
  Status score(const uint32_t* nodes, size_t n, float* out) override {
    pointers_.resize(n);
    rows_.assign(nodes, nodes + n);
    for (uint32_t& row : rows_) row = graph_.segment_row(row);
    EHUB_RETURN_IF_ERROR(source_.fetch(rows_.data(), n, pointers_.data()));
    distances_apart(kernels_, encoder_.metric(), query_.vector, query_.norm_squared, pointers_.data(), n,
                    encoder_.dims(), out);
    return {};
  }

 private:
  const KernelTable& kernels_;
  const Encoder& encoder_;
  const GraphView& graph_;
  const RowSource& source_;
  const GraphQuery& query_;
  std::vector<uint32_t> rows_;
  std::vector<const float*> pointers_;
};

void prefetch_row(const RowSource& source, uint32_t row, size_t dims) {
  const float* memory = source.memory();
  if (memory == nullptr) return;
  const float* at = memory + row * dims;
  // Into the second cache alone: a row has too many lines for what the first one can wait for at a time.
  for (size_t d = 0; d < dims; d += 16) __builtin_prefetch(at + d, 0, 2);
}

}  // namespace

struct Searcher::Call {
  const KernelTable& kernels;
  const Encoder& encoder;
  const GraphView& graph;
  const RowSource& source;
  const GraphQuery& query;
  uint64_t row_base;
  TopK& heap;
  bool* left;

  // Of the graph's rows that are wanted.
  double share() const {
    return query.wanted_count == 0
               ? 1.0
               : std::min(1.0, static_cast<double>(query.wanted_count) / static_cast<double>(graph.rows));
  }
  // Candidates among which so many wanted ones are, if these lie anywhere.
  size_t usual(size_t quota) const { return static_cast<size_t>(static_cast<double>(quota) / share()); }
  // Of a walk for a query that is alone.
  size_t candidates_max() const { return std::min<size_t>(query.wanted_count / kScansPerCandidate, kWalkedMost); }
  bool may_answer(uint32_t row) const {
    return query.wanted != nullptr ? has_bit(query.wanted, row) : source.visible(row);
  }
};

Status Searcher::seed(const GraphView& graph, Distances& distances, Distances* router_distances) {
  if (router_distances == nullptr) return walker_.seed(distances, graph.router.data(), graph.router.size());
  const size_t n = graph.router.size();
  for (size_t i = places_.size(); i < n; ++i) places_.push_back(static_cast<uint32_t>(i));
  scores_.resize(n);
  EHUB_RETURN_IF_ERROR(router_distances->score(places_.data(), n, scores_.data()));
  sorted_.clear();
  for (size_t i = 0; i < n; ++i) sorted_.push_back(make_candidate(scores_[i], static_cast<uint32_t>(i)));
  const size_t entries = std::min(kEntries, n);
  std::partial_sort(sorted_.begin(), sorted_.begin() + static_cast<ptrdiff_t>(entries), sorted_.end());
  for (size_t i = 0; i < entries; ++i) walker_.seed(graph.router[row_of(sorted_[i])], distance_of(sorted_[i]));
  return {};
}

Status Searcher::search(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph,
                        const RowSource& source, const GraphQuery& query, uint64_t row_base, TopK& heap, bool* left) {
  const Call call = {kernels, encoder, graph, source, query, row_base, heap, left};
  if (graph.codes.width == CodeWidth::kNone) {
    ExactDistances distances(kernels, encoder, graph, source, query);
    return find(call, distances, nullptr);
  }
  residual_.resize(encoder.residual_dims());
  encoder.residual_of_query(query.vector, residual_.data());
  encoder.encode_query(graph.codes.width, residual_.data(), coded_);
  CodeDistances distances(kernels, graph.codes, coded_, graph.asked());
  CodeDistances router(kernels, graph.router_codes, coded_, nullptr);
  return find(call, distances, &router);
}

Status Searcher::find(const Call& call, Distances& distances, Distances* router) {
  if (call.query.wanted != nullptr) return find_wanted(call, distances, router);
  const auto ef = static_cast<size_t>(std::ceil(static_cast<double>(call.query.ef) / call.share()));
  walker_.reset(call.graph.rows, std::min<size_t>(ef, call.graph.rows));
  EHUB_RETURN_IF_ERROR(seed(call.graph, distances, router));
  EHUB_RETURN_IF_ERROR(walker_.walk(call.graph, distances));
  return rerank(call);
}

// Each step finds what the one before may miss, and takes longer.
Status Searcher::find_wanted(const Call& call, Distances& distances, Distances* router) {
  before_ = call.heap;
  bool is_sure = false;
  if (call.query.scan_worth != 0) {
    EHUB_RETURN_IF_ERROR(walk_or_leave(call, distances, router, &is_sure));
    *call.left = !is_sure;
    return {};
  }
  EHUB_RETURN_IF_ERROR(walk_for_wanted(call, distances, router, &is_sure));
  if (is_sure) return {};
  call.heap = before_;
  return scan_wanted(call, distances);
}

Status Searcher::scan_wanted(const Call& call, Distances& distances) {
  const size_t candidates = std::max({kScanCandidates, kSparseQuota * call.query.k, 4 * call.query.ef});
  // To keep the nearest of all or most is more work than to compare the rows.
  if (candidates >= call.query.wanted_count / 2) return offer_all_wanted(call);
  walker_.reset(call.graph.rows, candidates);
  EHUB_RETURN_IF_ERROR(walker_.score_all(call.graph, distances, call.query.wanted_nodes, call.query.stop));
  bool is_sure = false;
  EHUB_RETURN_IF_ERROR(rerank_until_sure(call, &is_sure));
  if (is_sure) return {};
  call.heap = before_;
  return offer_all_wanted(call);
}

Status Searcher::begin_walk(const Call& call, Distances& distances, Distances* router, size_t candidates_max) {
  walker_.reset(call.graph.rows, candidates_max);
  return seed(call.graph, distances, router);
}

Status Searcher::walk_or_leave(const Call& call, Distances& distances, Distances* router, bool* is_sure) {
  const GraphQuery& query = call.query;
  const size_t candidates_max = std::min(query.scan_worth, kWalkedMost);
  const size_t quota = std::min<size_t>(query.ef, query.wanted_count);
  const size_t usual = call.usual(quota);
  if (usual + kCandidatesOfStart >= candidates_max) return {};
  const size_t most = std::min(kSparseFactor * usual + kSparseSlack, candidates_max);
  const size_t patience = std::max(static_cast<size_t>(kMetLeast / call.share()), candidates_max / kPartInVainOfMany);
  // With the room of a query that is alone, so that it finds the same.
  EHUB_RETURN_IF_ERROR(begin_walk(call, distances, router, std::max(most, call.candidates_max())));
  EHUB_RETURN_IF_ERROR(walker_.walk_up_to(call.graph, distances, query.wanted_nodes, quota, {most, patience}, is_sure));
  return *is_sure ? rerank(call) : Status();
}

Status Searcher::walk_for_wanted(const Call& call, Distances& distances, Distances* router, bool* is_sure) {
  const GraphQuery& query = call.query;
  const size_t candidates_max = call.candidates_max();
  const size_t quota = std::min<size_t>(query.ef, query.wanted_count);
  const size_t usual = call.usual(quota);
  if (usual >= candidates_max) return {};
  const auto walk = [&](size_t wanted, const WalkLimit& limit) {
    return walker_.walk_up_to(call.graph, distances, query.wanted_nodes, wanted, limit, is_sure);
  };
  EHUB_RETURN_IF_ERROR(begin_walk(call, distances, router, candidates_max));
  const size_t most = std::min(kSparseFactor * usual + kSparseSlack, candidates_max);
  EHUB_RETURN_IF_ERROR(walk(quota, {most, most}));
  if (*is_sure) return rerank(call);
  // Few of the rows around the query are wanted, and there may be a crowd of them somewhat farther away. Where so many
  // are known already, those behind them were dropped, and the walk cannot go on.
  const size_t more = std::min<size_t>(std::max(quota, kSparseQuota * query.k), query.wanted_count);
  if (walker_.pool().wanted() == quota) EHUB_RETURN_IF_ERROR(begin_walk(call, distances, router, candidates_max));
  EHUB_RETURN_IF_ERROR(walk(more, {candidates_max, candidates_max / kPartInVain}));
  return *is_sure ? rerank_until_sure(call, is_sure) : Status();
}

// Offers a node and its twins, as far as they are wanted; `use(distance, row)` for each.
template <typename Use>
Status Searcher::measure(const Call& call, const uint32_t* nodes, size_t n, Use use) {
  uint32_t rows[kRerankRows];
  const float* vectors[kRerankRows];
  float distances[kRerankRows];
  for (size_t i = 0; i < n; ++i) rows[i] = call.graph.segment_row(nodes[i]);
  EHUB_RETURN_IF_ERROR(call.source.fetch(rows, n, vectors));
  distances_apart(call.kernels, call.encoder.metric(), call.query.vector, call.query.norm_squared, vectors, n,
                  call.encoder.dims(), distances);
  for (size_t i = 0; i < n; ++i) {
    if (call.may_answer(rows[i])) use(distances[i], rows[i]);
    for (const uint32_t twin : call.graph.twins.of(nodes[i])) {
      const uint32_t row = call.graph.segment_row(twin);
      if (call.may_answer(row)) use(distances[i], row);
    }
  }
  return {};
}

// Calls use(distance, row) for the candidates and their twins that may be answers, from the nearest on, until done().
template <typename Use, typename Done>
Status Searcher::measure_pool(const Call& call, Use use, Done done) {
  const Pool& pool = walker_.pool();
  uint32_t nodes[kRerankRows];
  size_t ahead = 0;
  for (size_t i = 0; i < pool.size() && !done();) {
    size_t n = 0;
    for (; i < pool.size() && n < kRerankRows; ++i) {
      for (; ahead < std::min(pool.size(), i + 2 * kRerankRows); ++ahead) {
        prefetch_row(call.source, call.graph.segment_row(row_of(pool[ahead])), call.encoder.dims());
      }
      const uint32_t node = row_of(pool[i]);
      if (call.may_answer(call.graph.segment_row(node)) || !call.graph.twins.of(node).empty()) nodes[n++] = node;
    }
    EHUB_RETURN_IF_ERROR(measure(call, nodes, n, use));
  }
  return {};
}

Status Searcher::rerank(const Call& call) {
  const size_t patience = 3 * call.query.k;
  const size_t least = std::max<size_t>(call.query.k, call.graph.calibration.rerank_min);
  size_t looked = 0;
  size_t misses = 0;
  return measure_pool(
      call,
      [&](float distance, uint32_t row) {
        if (misses >= patience && looked >= least) return;
        misses = call.heap.push(distance, call.row_base + row) ? 0 : misses + 1;
        ++looked;
      },
      [&] { return misses >= patience && looked >= least; });
}

// Where candidates are crowded at one distance, their order by codes says little about which are the nearest: these
// come as often late as early. So twice as many must have been in vain as came before the last that was not. What is in
// vain is told by ten rows or more, of which one is late sooner or later.
Status Searcher::rerank_until_sure(const Call& call, bool* is_sure) {
  nearest_.reset(std::max(call.query.k, kCrowdRows));
  const size_t least = std::max<size_t>(3 * call.query.k, call.graph.calibration.rerank_min);
  size_t looked = 0;
  size_t last_hit = 0;
  const auto done = [&] { return looked >= std::max(3 * last_hit, last_hit + least); };
  EHUB_RETURN_IF_ERROR(measure_pool(
      call,
      [&](float distance, uint32_t row) {
        ++looked;
        if (nearest_.push(distance, row)) last_hit = looked;
        call.heap.push(distance, call.row_base + row);
      },
      done));
  *is_sure = looked > 0 && done();
  return {};
}

Status Searcher::offer(const Call& call, const std::vector<uint32_t>& nodes) {
  size_t ahead = 0;
  for (size_t i = 0; i < nodes.size(); i += kRerankRows) {
    for (; ahead < std::min(nodes.size(), i + 2 * kRerankRows); ++ahead) {
      prefetch_row(call.source, call.graph.segment_row(nodes[ahead]), call.encoder.dims());
    }
    const size_t n = std::min(kRerankRows, nodes.size() - i);
    EHUB_RETURN_IF_ERROR(measure(call, nodes.data() + i, n,
                                 [&](float distance, uint32_t row) { call.heap.push(distance, call.row_base + row); }));
  }
  return {};
}

Status Searcher::offer_all_wanted(const Call& call) {
  const size_t words = bitmap_words(call.graph.rows);
  gathered_.clear();
  for (size_t w = 0; w < words; ++w) {
    if (is_wanted(call.query.stop)) return stopped("the search");
    for (uint64_t word = call.query.wanted_nodes[w]; word != 0; word &= word - 1) {
      gathered_.push_back(static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(word))));
    }
    if (gathered_.size() < kRowsOfferedAtOnce && w + 1 < words) continue;
    EHUB_RETURN_IF_ERROR(offer(call, gathered_));
    gathered_.clear();
  }
  return {};
}

}  // namespace ehub::hnsw
