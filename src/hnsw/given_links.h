// Links that come from elsewhere: the graph of another engine over the same rows, which is as good a place to walk.
//
// Thread-safety: values; take_links() is pure, but for the team.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "hnsw/build_distances.h"
#include "hnsw/team.h"
#include "hnsw/twins.h"

namespace ehub::hnsw {

// The links of row i are targets[begins[i], begins[i + 1]): rows in any order, repeats and the row itself included.
struct GivenLinks {
  std::span<const uint64_t> begins;  // one more than there are rows
  std::span<const uint32_t> targets;

  // Whether they are links among so many rows.
  bool is_sound(size_t rows) const;
  std::span<const uint32_t> of(size_t row) const { return targets.subspan(begins[row], begins[row + 1] - begins[row]); }
};

// Such links, with their memory.
struct LinkLists {
  std::vector<uint64_t> begins = {0};
  std::vector<uint32_t> targets;
};

// out[rows][link_stride]: the links of a graph. Twins lend theirs to their node, and links to them lead to it; a row
// that has more than `links_max` is pruned. Requires: given.is_sound(rows).
void take_links(const GivenLinks& given, const BuildDistances& distances, const TwinsView& twins, size_t rows,
                size_t links_max, Team& team, uint32_t* out, size_t link_stride);

}  // namespace ehub::hnsw
