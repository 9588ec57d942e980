// One call of View::nearest(): what its parts share.
//
// nearest.cpp decides which segments are walked and which are scanned, and joins the answers; graph_search.cpp walks,
// and leaves to a scan those queries of a batch that a walk is in vain for; exact_search.cpp scans.
//
// Thread-safety: belongs to one call; the parts share it with the threads that they start.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "base/stop.h"
#include "hnsw/graph_file.h"
#include "kernels/scan.h"
#include "store/segment_file.h"
#include "store/subindex.h"
#include "store/threads.h"
#include "store/view.h"

namespace ehub {

// Some rows of one segment that are scanned together.
struct Run {
  size_t segment;
  Row begin;
  Row end;
};

// A segment that is walked, over one of its graphs.
struct Walk {
  size_t segment;
  const SealedSegment* sealed;
  std::shared_ptr<SegmentGraph> of;  // where the graph is from
  std::shared_ptr<const hnsw::GraphFile> graph;
  Row rows;                             // of those that are born
  uint64_t wanted_count;                // visible and selected ones
  std::vector<uint64_t> wanted = {};    // a bitmap of these; empty: all that are visible
  const MemberRows* members = nullptr;  // ... and in this set, if there is one
  std::vector<uint64_t> nodes = {};     // with a filter: where to go for the selected ones (twins.h)
  std::atomic<bool> failed = false;     // its graph is damaged, or a row that it found
  size_t scan_worth = 0;                // hnsw::GraphQuery::scan_worth of each query
  std::vector<uint8_t> left = {};       // per query, whether it is left to a scan; if scan_worth is not 0
};

struct Search {
  const View& view;
  const float* queries;
  size_t m;
  const SearchOptions& options;
  size_t k;                                   // with room for an excluded row
  std::vector<float> norms_squared;           // of the queries, for cosine
  std::vector<std::vector<uint64_t>> wanted;  // per segment, of what is scanned, a bitmap; empty: all visible rows
  std::vector<Run> runs;
  std::vector<std::unique_ptr<Walk>> walks;
};

// Whether nobody wants the answer any more. Asked between pieces of work of some milliseconds at most.
inline bool is_stopped(const SearchOptions& options) { return is_wanted(options.stopped); }
inline Status stopped() { return stopped("the search"); }

// How many threads work of this much (in multiplications) is worth, at most `pieces`.
unsigned threads_for(const SearchOptions& options, uint64_t work, size_t pieces);

// Offers the rows of search.runs to heaps[m].
Status scan_runs(const Search& search, std::vector<TopK>& heaps);
// Adds the rows [0, rows) of a segment, as far as search.wanted has them, to search.runs.
void add_runs(Search& search, size_t segment, Row rows);
// Offers what the walks find to heaps[m], and what scans find where a walk was in vain; marks the walks that failed.
Status walk_graphs(const Search& search, std::vector<TopK>& heaps);

}  // namespace ehub
