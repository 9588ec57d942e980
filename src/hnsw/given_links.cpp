#include "hnsw/given_links.h"

#include <algorithm>

#include "hnsw/prune.h"

namespace ehub::hnsw {
namespace {

// Rows that a thread takes at a time.
constexpr size_t kTaskRows = 64;

}  // namespace

bool GivenLinks::is_sound(size_t rows) const {
  return begins.size() == rows + 1 && begins.front() == 0 && begins.back() == targets.size() &&
         std::is_sorted(begins.begin(), begins.end()) &&
         std::all_of(targets.begin(), targets.end(), [rows](uint32_t target) { return target < rows; });
}

void take_links(const GivenLinks& given, const BuildDistances& distances, const TwinsView& twins, size_t rows,
                size_t links_max, Team& team, uint32_t* out, size_t link_stride) {
  const std::vector<uint32_t> node_of = nodes_of_rows(rows, twins);
  std::vector<LinkCutter> cutters(team.size(), LinkCutter(distances));
  team.run(rows, kTaskRows, [&](size_t begin, size_t end, unsigned worker) {
    std::vector<uint32_t> targets;
    for (size_t i = begin; i < end; ++i) {
      const auto row = static_cast<uint32_t>(i);
      targets.clear();
      const auto add_links_of = [&](uint32_t member) {
        for (const uint32_t target : given.of(member)) {
          if (node_of[target] != row) targets.push_back(node_of[target]);
        }
      };
      if (node_of[row] == row) {
        add_links_of(row);
        for (const uint32_t twin : twins.of(row)) add_links_of(twin);
      }
      std::sort(targets.begin(), targets.end());
      targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
      cutters[worker].cut(row, targets.data(), targets.size(), links_max, out + i * link_stride, link_stride);
    }
  });
}

}  // namespace ehub::hnsw
