// The nearest rows of one segment to a query: a walk over the codes, then the exact distances of what it found.
//
// The walk's candidates are looked at in its order, from the nearest on, by their float32 rows, until 3 k of them in a
// row were no better than what there is: the order of the codes is nearly right, and how nearly is a matter of the
// data. So the answer's distances are exact, and recall grows with ef whatever the codes lose.
//
// Thread-safety: a Searcher belongs to one thread; it keeps its memory, so that a search allocates nothing.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "hnsw/code.h"
#include "hnsw/graph.h"
#include "hnsw/walk.h"
#include "kernels/scan.h"

namespace ehub::hnsw {

// Where fewer than this share of the rows is wanted, a walk through all of them would mostly score rows in vain: it
// goes among the wanted ones.
inline constexpr double kAmongShareMax = 0.6;

// The float32 rows of a segment, wherever they are.
class RowSource {
 public:
  virtual ~RowSource() = default;
  // out[i] = the vector of rows[i]. Fails where a row is damaged.
  virtual Status fetch(const uint32_t* rows, size_t n, const float** out) const = 0;
  // Where row 0 is, for prefetching alone; null if they are not contiguous.
  virtual const float* memory() const { return nullptr; }
  // Whether a row may be an answer.
  virtual bool visible(uint32_t /*row*/) const { return true; }
};

struct GraphQuery {
  const float* vector = nullptr;  // float32[dims], finite
  float norm_squared = 0;         // of it, for Metric::kCosine
  size_t k = 10;
  size_t ef = 0;                            // candidates kept
  const uint64_t* wanted = nullptr;         // only these rows of the segment are answers; null: all that are visible
  const uint64_t* wanted_nodes = nullptr;   // with `wanted`: the nodes among them, or with a twin among them
  uint64_t wanted_count = 0;                // of `wanted`, or of the visible rows; 0: all rows
  const uint32_t* wanted_sample = nullptr;  // some of the wanted nodes, to begin at
  size_t wanted_sample_count = 0;
};

class Searcher {
 public:
  // Offers to `heap` what it finds; row r of the segment as `row_base` + r. Requires: query.ef >= 1, graph.rows >= 1.
  Status search(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph, const RowSource& source,
                const GraphQuery& query, uint64_t row_base, TopK& heap);

 private:
  Status seed(const GraphView& graph, Distances& distances, Distances* router_distances, const GraphQuery& query);
  Status rerank(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph, const RowSource& source,
                const GraphQuery& query, uint64_t row_base, TopK& heap);

  Walker walker_;
  CodedQuery coded_;
  std::vector<float> residual_;
  std::vector<uint32_t> places_;
  std::vector<float> scores_;
  std::vector<Candidate> sorted_;
};

}  // namespace ehub::hnsw
