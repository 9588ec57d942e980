#include "hnsw/search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ehub::hnsw {
namespace {

// Candidates whose rows are asked for together.
constexpr size_t kRerankRows = 4;

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
    abreast = stride <= (codes.width == CodeWidth::k4 ? kShortCodeBytesOf4Bits : kShortCodeBytes) ? 2 : 1;
    metas = codes.metas;
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

Status Searcher::seed(const GraphView& graph, Distances& distances, Distances* router_distances,
                      const GraphQuery& query) {
  if (router_distances == nullptr) {
    EHUB_RETURN_IF_ERROR(walker_.seed(distances, graph.router.data(), graph.router.size()));
  } else {
    const size_t n = graph.router.size();
    for (size_t i = places_.size(); i < n; ++i) places_.push_back(static_cast<uint32_t>(i));
    scores_.resize(n);
    EHUB_RETURN_IF_ERROR(router_distances->score(places_.data(), n, scores_.data()));
    sorted_.clear();
    for (size_t i = 0; i < n; ++i) sorted_.push_back(make_candidate(scores_[i], static_cast<uint32_t>(i)));
    const size_t entries = std::min(kEntries, n);
    std::partial_sort(sorted_.begin(), sorted_.begin() + static_cast<ptrdiff_t>(entries), sorted_.end());
    for (size_t i = 0; i < entries; ++i) walker_.seed(graph.router[row_of(sorted_[i])], distance_of(sorted_[i]));
  }
  if (query.wanted_sample_count == 0) return {};
  return walker_.seed(distances, query.wanted_sample, query.wanted_sample_count);
}

Status Searcher::search(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph,
                        const RowSource& source, const GraphQuery& query, uint64_t row_base, TopK& heap) {
  const double share =
      query.wanted_count == 0 ? 1.0 : static_cast<double>(query.wanted_count) / static_cast<double>(graph.rows);
  const bool among = query.wanted != nullptr && share < kAmongShareMax;
  const size_t ef = among ? query.ef : static_cast<size_t>(std::ceil(static_cast<double>(query.ef) / share));
  walker_.reset(graph.rows, std::min<size_t>(ef, graph.rows));
  const auto run = [&](Distances& distances, Distances* router) -> Status {
    if (among) {
      EHUB_RETURN_IF_ERROR(walker_.seed(distances, query.wanted_sample, query.wanted_sample_count));
      return walker_.walk_among(graph, distances, query.wanted_nodes);
    }
    EHUB_RETURN_IF_ERROR(seed(graph, distances, router, query));
    return walker_.walk(graph, distances);
  };
  if (graph.codes.width == CodeWidth::kNone) {
    ExactDistances distances(kernels, encoder, graph, source, query);
    EHUB_RETURN_IF_ERROR(run(distances, nullptr));
  } else {
    residual_.resize(encoder.residual_dims());
    encoder.residual_of_query(query.vector, residual_.data());
    encoder.encode_query(graph.codes.width, residual_.data(), coded_);
    CodeDistances distances(kernels, graph.codes, coded_, graph.asked());
    CodeDistances router(kernels, graph.router_codes, coded_, nullptr);
    EHUB_RETURN_IF_ERROR(run(distances, &router));
  }
  return rerank(kernels, encoder, graph, source, query, row_base, heap);
}

Status Searcher::rerank(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph,
                        const RowSource& source, const GraphQuery& query, uint64_t row_base, TopK& heap) {
  const Pool& pool = walker_.pool();
  const size_t dims = encoder.dims();
  const size_t patience = 3 * query.k;
  const size_t least = std::max<size_t>(query.k, graph.calibration.rerank_min);
  size_t looked = 0;
  size_t misses = 0;
  const auto offer = [&](float distance, uint32_t row) {
    if (query.wanted != nullptr ? !has_bit(query.wanted, row) : !source.visible(row)) return;
    misses = heap.push(distance, row_base + row) ? 0 : misses + 1;
    ++looked;
  };
  uint32_t nodes[kRerankRows];
  uint32_t rows[kRerankRows];
  const float* vectors[kRerankRows];
  float distances[kRerankRows];
  size_t ahead = 0;
  for (size_t i = 0; i < pool.size() && (misses < patience || looked < least);) {
    size_t n = 0;
    for (; i < pool.size() && n < kRerankRows; ++i) {
      for (; ahead < std::min(pool.size(), i + 2 * kRerankRows); ++ahead) {
        prefetch_row(source, graph.segment_row(row_of(pool[ahead])), dims);
      }
      const uint32_t node = row_of(pool[i]);
      const uint32_t row = graph.segment_row(node);
      const bool wanted = query.wanted != nullptr ? has_bit(query.wanted, row) : source.visible(row);
      if (!wanted && graph.twins.of(node).empty()) continue;
      nodes[n] = node;
      rows[n++] = row;
    }
    EHUB_RETURN_IF_ERROR(source.fetch(rows, n, vectors));
    distances_apart(kernels, encoder.metric(), query.vector, query.norm_squared, vectors, n, dims, distances);
    for (size_t r = 0; r < n; ++r) {
      offer(distances[r], rows[r]);
      for (const uint32_t twin : graph.twins.of(nodes[r])) {
        if (misses >= patience && looked >= least) break;
        offer(distances[r], graph.segment_row(twin));
      }
    }
  }
  return {};
}

}  // namespace ehub::hnsw
