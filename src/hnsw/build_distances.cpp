#include "hnsw/build_distances.h"

#include <utility>

namespace ehub::hnsw {
namespace {

constexpr size_t kTaskRows = 1024;

}  // namespace

BuildDistances::BuildDistances(const KernelTable& kernels, const CodeSet& codes, size_t rows, std::vector<float> lifts,
                               Team& team)
    : kernels_(kernels), codes_(codes), sums_(rows), lifts_(std::move(lifts)) {
  team.run(rows, kTaskRows, [&](size_t begin, size_t end, unsigned) {
    for (size_t row = begin; row < end; ++row) sums_[row] = sum_of_row(codes_, static_cast<uint32_t>(row));
  });
}

void BuildDistances::score(uint32_t row, const CodedQuery& query, const uint32_t* rows, size_t n, float* out) const {
  code_distances(kernels_, codes_, query, rows, n, out);
  if (lifts_.empty()) return;
  for (size_t i = 0; i < n; ++i) {
    const float difference = lifts_[row] - lifts_[rows[i]];
    out[i] += difference * difference;
  }
}

}  // namespace ehub::hnsw
