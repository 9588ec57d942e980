// Building a graph: the same bytes from the same rows, whatever the number of threads and the instruction set.
//
// Rows are inserted in chunks of at most an eighth of those already there. The rows of a chunk search the graph as it
// was before the chunk, side by side, by the codes that searches will walk by, and choose their links by finer ones
// (prune.h); then the links back are added, grouped by the row that gets them. Finally rows are cut to their 2 M links,
// what cannot be reached is linked, and the default ef is measured with some of the rows as queries.
//
// Thread-safety: pure, but for the team and the control.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/metric.h"
#include "base/status.h"
#include "base/stop.h"
#include "hnsw/buffer.h"
#include "hnsw/code.h"
#include "hnsw/given_links.h"
#include "hnsw/graph.h"
#include "hnsw/team.h"

namespace ehub::hnsw {

struct GraphInput {
  Metric metric = Metric::kL2;
  const float* vectors = nullptr;  // float32[rows][dims], finite
  size_t rows = 0;                 // at least 1
  size_t dims = 0;
};

// How the world looks into a build, from other threads. The team's `ended` should be is_cancelled(), so that a stage of
// many seconds ends soon.
struct BuildControl {
  std::atomic<bool> cancelled = false;  // for good
  std::atomic<uint64_t> rows_done = 0;
  StopFlag stop = nullptr;  // of the one who wants this build; changes between builds only

  bool is_cancelled() const { return cancelled.load(std::memory_order_relaxed) || is_wanted(stop); }
};

// A graph in memory.
struct BuiltGraph {
  explicit BuiltGraph(Encoder the_encoder) : encoder(std::move(the_encoder)) {}

  // Makes it a graph over these rows of the segment, ascending: the vectors that it was built of are theirs.
  void set_segment_rows(std::vector<uint32_t> rows) {
    segment_rows = std::move(rows);
    view.segment_rows = segment_rows;
  }

  Encoder encoder;
  std::vector<uint32_t> segment_rows;  // empty: all of them
  GraphParameters parameters;
  CodeTable codes;
  CodeTable router_codes;
  Buffer links;
  Twins twins;
  GraphView view;            // of the above
  uint64_t unreachable = 0;  // rows that no walk can come to
};

// kClosed if it was cancelled.
Result<std::unique_ptr<BuiltGraph>> build_graph(const GraphInput& input, const GraphParameters& parameters, Team& team,
                                                BuildControl& control);
// The same, but that the rows are not inserted: their links are `given`, and only cut, connected and calibrated.
// Requires: given.is_sound(input.rows).
Result<std::unique_ptr<BuiltGraph>> adopt_graph(const GraphInput& input, const GivenLinks& given,
                                                const GraphParameters& parameters, Team& team, BuildControl& control);

}  // namespace ehub::hnsw
