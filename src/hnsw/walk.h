// The walk over a graph: from a few rows to the rows nearest to a query, link by link.
//
// Time goes where memory is waited for, so the loop is arranged around that: the nearest two candidates are expanded
// together (of long codes one, whose neighbours are enough to keep memory busy), the neighbours that were not seen are
// collected first and their codes asked for all at once, and the links of the two candidates that will be next are
// asked for before the codes are scored, and again when these are known. Of two, the one whose links were asked for
// first goes first.
//
// Thread-safety: a Walker belongs to one thread; it keeps its memory, so that a walk allocates nothing.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "base/stop.h"
#include "hnsw/bitmap.h"
#include "hnsw/graph.h"
#include "hnsw/pool.h"
#include "hnsw/visited.h"

namespace ehub::hnsw {

// The distance of one query to rows of one segment.
class Distances {
 public:
  virtual ~Distances() = default;
  // out[i] to rows[i].
  virtual Status score(const uint32_t* rows, size_t n, float* out) = 0;
  // Asks for the memory that score() will read of `row`.
  void prefetch(uint32_t row) const {
    const uint8_t* at = memory + row * stride;
    for (size_t line = 0; line < std::min(lines, kPrefetchLines); ++line) __builtin_prefetch(at + line * 64);
    if (beside != nullptr) __builtin_prefetch(beside + row * beside_bytes);
  }
  // How many candidates are worth expanding at a time.
  size_t candidates_abreast() const { return abreast; }

 protected:
  // The processor follows by itself from there; to ask for all lines of a long row was 5 % slower.
  static constexpr size_t kPrefetchLines = 4;

  const uint8_t* memory = nullptr;
  size_t stride = 0;
  size_t lines = 0;
  size_t abreast = 2;
  const uint8_t* beside = nullptr;  // null: nothing is
  size_t beside_bytes = 0;
};

// How far a walk for wanted rows goes, in candidates that are expanded.
struct WalkLimit {
  size_t most = 0;      // reset()'s number at most
  size_t patience = 0;  // from so many on it ends if so few of them are wanted that `most` will not be enough
};

class Walker {
 public:
  // Forgets all; at most `ef` candidates are kept. `rows`: of the segment.
  void reset(size_t rows, size_t ef) {
    visited_.reset(rows);
    pool_.reset(ef);
    expanded_.clear();
    foreseen_.fill(kNoRow);
  }
  // Scores rows as candidates to begin at; those that were seen are left out.
  Status seed(Distances& distances, const uint32_t* rows, size_t n);
  // Adds a candidate whose distance is known; nothing if it was seen.
  void seed(uint32_t row, float distance) {
    if (visited_.insert(row)) pool_.insert(make_candidate(distance, row));
  }
  // Walks until all candidates are expanded.
  Status walk(const GraphView& graph, Distances& distances);
  // The same, but that it ends once `row` is the nearest of all, its own neighbours included.
  Status walk_to(const GraphView& graph, Distances& distances, uint32_t row);
  // Walks through all rows until the `quota` nearest ones that are wanted are known, however many others lie between:
  // so where wanted rows are does not matter for what is found, only for how long it takes. Gives up, and says so in
  // `reached`, when `limit` says so. While fewer than `quota` are known, it may be called again to go on, with other
  // numbers. Requires: quota >= 1.
  Status walk_up_to(const GraphView& graph, Distances& distances, const uint64_t* wanted, size_t quota,
                    const WalkLimit& limit, bool* reached);
  // Scores all rows of `wanted` as candidates, and keeps the nearest. kDeadline once `stop` is wanted. Requires:
  // nothing since reset().
  Status score_all(const GraphView& graph, Distances& distances, const uint64_t* wanted, StopFlag stop);

  const Pool& pool() const { return pool_; }
  // What walk() expanded, in that order: the pool, and the way there.
  const std::vector<Candidate>& expanded() const { return expanded_; }

 private:
  static constexpr uint32_t kNoRow = ~uint32_t{0};

  bool is_foreseen(uint32_t row) const { return row == foreseen_[0] || row == foreseen_[1]; }
  Status see_links(const GraphView& graph, uint32_t row, Distances& distances);
  template <typename Done>
  Status walk_until(const GraphView& graph, Distances& distances, Done done);
  Status expand(const GraphView& graph, Distances& distances, size_t* count);
  // Offers rows to the pool.
  Status score(Distances& distances, const uint32_t* rows, size_t n);

  Pool pool_;
  Visited visited_;
  std::vector<uint32_t> found_;  // to be scored
  std::vector<Candidate> expanded_;
  std::vector<float> scores_;
  std::array<uint32_t, 2> foreseen_ = {kNoRow, kNoRow};  // their links were asked for before the last rows were scored
};

}  // namespace ehub::hnsw
