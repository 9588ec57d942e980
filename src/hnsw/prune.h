// Which of the candidates become a row's links: near ones in different directions.
//
// RobustPrune of Vamana (DiskANN): from the nearest on, a candidate is taken unless one that was taken before is so
// much nearer to it than the row is (by the factor alpha, on squared distances; just nearer, for inner product, which
// has no distances to multiply). Then the row is saturated: while it
// has fewer than half of its links, the nearest of the refused ones are taken after all. Without that, rows with many
// near-duplicates link to nothing else, and recall above 0.99 is lost.
//
// Thread-safety: a Pruner belongs to one thread; it keeps its memory.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hnsw/build_distances.h"
#include "hnsw/pool.h"

namespace ehub::hnsw {

class Pruner {
 public:
  explicit Pruner(const BuildDistances& distances) : distances_(distances) {}

  // Chooses at most `links_max` of `candidates`, sorted, without the row itself and without repeats, and writes them to
  // `out`, nearest first. Returns how many there are.
  size_t prune(const Candidate* candidates, size_t n, size_t links_max, uint32_t* out);

 private:
  void refuse_near(uint32_t taken, size_t after);

  const BuildDistances& distances_;
  CodedQuery query_;
  std::vector<Candidate> left_;  // neither taken nor refused
  std::vector<uint32_t> rows_;
  std::vector<float> scores_;
  std::vector<Candidate> taken_;
  std::vector<Candidate> refused_;
};

// Adds those of `rows` to `candidates`, with their distances from `row`, and sorts all.
void score_candidates(RowDistances& distances, uint32_t row, const uint32_t* rows, size_t n,
                      std::vector<Candidate>& candidates);

// Puts a row's links in the form that a graph has them in.
//
// Thread-safety: belongs to one thread; it keeps its memory.
class LinkCutter {
 public:
  explicit LinkCutter(const BuildDistances& distances) : distances_(distances), pruner_(distances) {}

  // out[link_stride]: at most `links_max` of links[n], nearest first; the rest is filled with the row itself.
  // Requires: they are without the row itself and without repeats.
  void cut(uint32_t row, const uint32_t* links, size_t n, size_t links_max, uint32_t* out, size_t link_stride);

 private:
  RowDistances distances_;
  Pruner pruner_;
  std::vector<Candidate> candidates_;
};

}  // namespace ehub::hnsw
