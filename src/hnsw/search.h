// The nearest rows of one segment to a query: a walk over the codes, then the exact distances of what it found.
//
// The walk's candidates are looked at in its order, from the nearest on, by their float32 rows, until 3 k of them in a
// row were no better than what there is: the order of the codes is nearly right, and how nearly is a matter of the
// data. So the answer's distances are exact, and recall grows with ef whatever the codes lose.
//
// Where only some rows are wanted, the walk goes through all until it has found enough wanted ones, so that what is
// found does not depend on where the wanted rows are. Where that would take longer than to scan the codes of the wanted
// rows, those are scanned; and where many rows are at nearly the same distance, so that codes do not tell which are the
// nearest, the wanted rows themselves. A query that is one of many is left to a scan of the wanted rows for all of them
// at once instead (GraphQuery::scan_worth).
//
// Thread-safety: a Searcher belongs to one thread; it keeps its memory, so that a search allocates nothing.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "base/stop.h"
#include "hnsw/code.h"
#include "hnsw/graph.h"
#include "hnsw/walk.h"
#include "kernels/scan.h"

namespace ehub::hnsw {

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
  size_t ef = 0;                           // candidates kept
  const uint64_t* wanted = nullptr;        // only these rows of the segment are answers; null: all that are visible
  const uint64_t* wanted_nodes = nullptr;  // with `wanted`: the nodes among them, or with a twin among them
  uint64_t wanted_count = 0;               // of `wanted`, or of the visible rows; 0: all rows
  StopFlag stop = nullptr;                 // asked where all wanted rows are gone through: kDeadline
  // The caller can scan the wanted rows for many queries at once, so that a query's part of that takes as long as a
  // walk that expands this many candidates; 0: it cannot.
  size_t scan_worth = 0;
};

class Searcher {
 public:
  // Offers to `heap` what it finds; row r of the segment as `row_base` + r. Sets `left` where the caller is to scan the
  // wanted rows: then nothing was offered. Requires: query.ef >= 1, graph.rows >= 1; `left` if query.scan_worth != 0.
  Status search(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph, const RowSource& source,
                const GraphQuery& query, uint64_t row_base, TopK& heap, bool* left = nullptr);

 private:
  struct Call;
  Status seed(const GraphView& graph, Distances& distances, Distances* router_distances);
  Status find(const Call& call, Distances& distances, Distances* router);
  Status find_wanted(const Call& call, Distances& distances, Distances* router);
  Status scan_wanted(const Call& call, Distances& distances);
  Status begin_walk(const Call& call, Distances& distances, Distances* router, size_t candidates_max);
  // All: `is_sure` is set if what was offered may be believed.
  Status walk_or_leave(const Call& call, Distances& distances, Distances* router, bool* is_sure);
  Status walk_for_wanted(const Call& call, Distances& distances, Distances* router, bool* is_sure);
  Status rerank_until_sure(const Call& call, bool* is_sure);
  Status rerank(const Call& call);
  Status offer(const Call& call, const std::vector<uint32_t>& nodes);
  Status offer_all_wanted(const Call& call);
  template <typename Use>
  Status measure(const Call& call, const uint32_t* nodes, size_t n, Use use);
  template <typename Use, typename Done>
  Status measure_pool(const Call& call, Use use, Done done);

  Walker walker_;
  CodedQuery coded_;
  std::vector<float> residual_;
  std::vector<uint32_t> places_;
  std::vector<float> scores_;
  std::vector<Candidate> sorted_;
  std::vector<uint32_t> gathered_;
  TopK before_{0};   // the heap as it was
  TopK nearest_{0};  // of the segment
};

}  // namespace ehub::hnsw
