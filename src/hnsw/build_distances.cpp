#include "hnsw/build_distances.h"

namespace ehub::hnsw {
namespace {

constexpr size_t kTaskRows = 1024;

}  // namespace

BuildDistances::BuildDistances(const KernelTable& kernels, Metric metric, const CodeSet& codes, size_t rows, Team& team)
    : kernels_(kernels), metric_(metric), codes_(codes), sums_(rows) {
  team.run(rows, kTaskRows, [&](size_t begin, size_t end, unsigned) {
    for (size_t row = begin; row < end; ++row) sums_[row] = sum_of_row(codes_, static_cast<uint32_t>(row));
  });
}

}  // namespace ehub::hnsw
