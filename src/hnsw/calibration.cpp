#include "hnsw/calibration.h"

#include <algorithm>
#include <atomic>
#include <numeric>

#include "hnsw/search.h"
#include "kernels/scan.h"

namespace ehub::hnsw {
namespace {

constexpr size_t kQueries = 200;
constexpr size_t kNeighbors = 10;

// Rows of one task of the scan for true neighbours.
constexpr size_t kTaskRows = 4096;

// Rows whose codes are scored for all queries in turn.
constexpr size_t kBlockRows = 512;

constexpr double kDepthShare = 0.999;

// Sampled rows are found more easily than strangers: of the error that is allowed, they may have this part.
constexpr double kErrorMargin = 4;

constexpr size_t kLadder[] = {10,  12,  14,  16,  20,  24,  28,  32,  40,  48,  56,   64,   80,   96,
                              112, 128, 160, 192, 224, 256, 320, 384, 512, 768, 1024, 1536, 2048, 4096};

class ContiguousRows final : public RowSource {
 public:
  ContiguousRows(const float* rows, size_t dims) : rows_(rows), dims_(dims) {}
  Status fetch(const uint32_t* rows, size_t n, const float** out) const override {
    for (size_t i = 0; i < n; ++i) out[i] = rows_ + rows[i] * dims_;
    return {};
  }
  const float* memory() const override { return rows_; }

 private:
  const float* rows_;
  size_t dims_;
};

}  // namespace

CalibrationSample::CalibrationSample(const KernelTable& kernels, const GraphInput& input, Team& team) : input_(input) {
  const size_t count = std::min(kQueries, input.rows);
  std::vector<float> vectors(count * input.dims);
  std::vector<float> norms(count);
  for (size_t q = 0; q < count; ++q) {
    // Not the router's rows, which are found without a walk: those are at i * rows / their number.
    const auto row = static_cast<uint32_t>((2 * q + 1) * input.rows / (2 * count));
    queries_.push_back({row, {}});
    std::copy_n(input.vectors + row * input.dims, input.dims, vectors.data() + q * input.dims);
    kernels.dot_one(vectors.data() + q * input.dims, vectors.data() + q * input.dims, 1, input.dims, &norms[q]);
  }
  std::vector<std::vector<TopK>> heaps(team.size(), std::vector<TopK>(count, TopK(kNeighbors + 1)));
  team.run(input.rows, kTaskRows, [&](size_t begin, size_t end, unsigned worker) {
    scan_block(kernels, input.metric, vectors.data(), norms.data(), count, input.vectors + begin * input.dims,
               end - begin, input.dims, nullptr, begin, heaps[worker].data());
  });
  for (size_t q = 0; q < count; ++q) {
    for (size_t w = 1; w < heaps.size(); ++w) heaps[0][q].merge(heaps[w][q]);
    for (const Neighbor& neighbor : heaps[0][q].take_sorted()) {
      const auto row = static_cast<uint32_t>(neighbor.row);
      if (row != queries_[q].row && queries_[q].neighbors.size() < kNeighbors) queries_[q].neighbors.push_back(row);
    }
  }
}

size_t CalibrationSample::depth(const KernelTable& kernels, const Encoder& encoder, const CodeSet& codes,
                                Team& team) const {
  const std::vector<CodedQuery> coded = coded_queries(encoder, codes.width);
  std::vector<float> limits;  // how far the codes say that the neighbours are
  for (size_t q = 0; q < queries_.size(); ++q) {
    const std::vector<uint32_t>& neighbors = queries_[q].neighbors;
    limits.resize(limits.size() + neighbors.size());
    code_distances(kernels, codes, coded[q], neighbors.data(), neighbors.size(),
                   limits.data() + limits.size() - neighbors.size());
  }
  // Block by block for all queries, which read a block from the cache then.
  std::vector<std::vector<size_t>> nearer(team.size(), std::vector<size_t>(limits.size(), 0));
  team.run(input_.rows, kBlockRows, [&](size_t begin, size_t end, unsigned worker) {
    uint32_t rows[kBlockRows];
    float distances[kBlockRows];
    std::iota(rows, rows + (end - begin), static_cast<uint32_t>(begin));
    size_t at = 0;
    for (size_t q = 0; q < queries_.size(); ++q) {
      const Query& query = queries_[q];
      code_distances(kernels, codes, coded[q], rows, end - begin, distances);
      if (query.row >= begin && query.row < end) distances[query.row - begin] = std::numeric_limits<float>::infinity();
      for (size_t j = 0; j < query.neighbors.size(); ++j, ++at) {
        nearer[worker][at] += static_cast<size_t>(
            std::count_if(distances, distances + (end - begin), [&](float other) { return other < limits[at]; }));
      }
    }
  });
  std::vector<size_t> depths(limits.size(), 1);
  for (const auto& some : nearer) {
    for (size_t i = 0; i < some.size(); ++i) depths[i] += some[i];
  }
  if (depths.empty()) return 0;
  std::sort(depths.begin(), depths.end());
  return depths[static_cast<size_t>(kDepthShare * static_cast<double>(depths.size() - 1))];
}

std::vector<CodedQuery> CalibrationSample::coded_queries(const Encoder& encoder, CodeWidth width) const {
  std::vector<CodedQuery> coded(queries_.size());
  std::vector<float> residual(encoder.residual_dims());
  for (size_t q = 0; q < queries_.size(); ++q) {
    encoder.residual_of_query(input_.vectors + queries_[q].row * input_.dims, residual.data());
    encoder.encode_query(width, residual.data(), coded[q]);
  }
  return coded;
}

size_t CalibrationSample::found(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph, size_t ef,
                                Team& team) const {
  const ContiguousRows source(input_.vectors, input_.dims);
  std::atomic<size_t> hits = 0;
  team.run(queries_.size(), 8, [&](size_t begin, size_t end, unsigned) {
    Searcher searcher;
    for (size_t q = begin; q < end; ++q) {
      const Query& query = queries_[q];
      GraphQuery asked;
      asked.vector = input_.vectors + query.row * input_.dims;
      kernels.dot_one(asked.vector, asked.vector, 1, input_.dims, &asked.norm_squared);
      asked.k = kNeighbors + 1;
      asked.ef = ef;
      TopK heap(kNeighbors + 1);
      (void)searcher.search(kernels, encoder, graph, source, asked, 0, heap);
      for (const Neighbor& neighbor : heap.take_sorted()) {
        const auto row = static_cast<uint32_t>(neighbor.row);
        hits += std::count(query.neighbors.begin(), query.neighbors.end(), row);
      }
    }
  });
  return hits;
}

size_t CalibrationSample::ef_for(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph,
                                 float target_recall, Team& team) const {
  size_t wanted = 0;
  for (const Query& query : queries_) wanted += query.neighbors.size();
  const double target = 1.0 - (1.0 - static_cast<double>(target_recall)) / kErrorMargin;
  for (const size_t ef : kLadder) {
    const size_t hits = found(kernels, encoder, graph, ef, team);
    if (static_cast<double>(hits) >= target * static_cast<double>(wanted)) return ef;
  }
  return kLadder[std::size(kLadder) - 1];
}

}  // namespace ehub::hnsw
