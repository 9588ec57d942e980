#include "hnsw/router.h"

#include <algorithm>

#include "hnsw/code.h"
#include "hnsw/pool.h"

namespace ehub::hnsw {
namespace {

// Codes of the router's rows, which are read with every query.
constexpr size_t kRouterBytes = 48 << 10;
constexpr size_t kRouterRowsMin = 32;
constexpr size_t kRouterRowsMax = 128;

}  // namespace

size_t router_rows_max(size_t code_bytes) {
  return std::clamp(kRouterBytes / code_bytes, kRouterRowsMin, kRouterRowsMax);
}

std::vector<uint32_t> spread_rows(std::span<const uint32_t> rows, size_t count) {
  std::vector<uint32_t> spread(std::min(rows.size(), count));
  for (size_t i = 0; i < spread.size(); ++i) spread[i] = rows[i * rows.size() / spread.size()];
  return spread;
}

std::vector<uint32_t> long_and_spread_rows(std::span<const uint32_t> rows, size_t count, const float* vectors,
                                           size_t dims) {
  std::vector<Candidate> by_length;
  for (const uint32_t row : rows) by_length.push_back(make_candidate(-squared_norm(vectors + row * dims, dims), row));
  const auto longest = by_length.begin() + static_cast<ptrdiff_t>(std::min(rows.size(), count / 2));
  std::nth_element(by_length.begin(), longest, by_length.end());
  std::sort(by_length.begin(), longest);
  std::vector<uint32_t> router;
  for (auto at = by_length.begin(); at != longest; ++at) router.push_back(row_of(*at));

  std::vector<uint32_t> others;
  for (auto at = longest; at != by_length.end(); ++at) others.push_back(row_of(*at));
  std::sort(others.begin(), others.end());
  const std::vector<uint32_t> spread = spread_rows(others, count - router.size());
  router.insert(router.end(), spread.begin(), spread.end());
  return router;
}

}  // namespace ehub::hnsw
