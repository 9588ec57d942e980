// The growing graph: rows inserted chunk by chunk into links that may yet be a quarter more than they will be.
//
// Thread-safety: one thread calls; the team works inside a call.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hnsw/build.h"
#include "hnsw/build_distances.h"
#include "hnsw/prune.h"
#include "hnsw/walk.h"

namespace ehub::hnsw {

// The rows of [0, rows) that are not twins of others.
std::vector<uint32_t> node_rows(size_t rows, const TwinsView& twins);

class Inserter {
 public:
  // `walk_codes`: by which candidates are looked for; links are chosen among them by `distances`. `twins`: rows that
  // stay out of the graph.
  Inserter(const BuildDistances& distances, const CodeSet& walk_codes, size_t rows, const TwinsView& twins,
           const GraphParameters& parameters, Team& team);

  // All rows. False if it was cancelled.
  bool insert_all(BuildControl& control);
  // out[rows][link_stride]: at most 2 M links a row, nearest first, the rest filled with the row itself.
  void finish(uint32_t* out, size_t link_stride);

 private:
  // What a thread of the team works with.
  struct Worker {
    Worker(const BuildDistances& distances, const CodeSet& walk_codes)
        : distances(distances), walk_distances(distances, walk_codes), pruner(distances) {}
    RowDistances distances;
    RowDistances walk_distances;
    Pruner pruner;
    Walker walker;
    std::vector<Candidate> candidates;
    std::vector<uint32_t> found;
    std::vector<uint32_t> chosen;
    std::vector<float> scores;
    std::vector<uint64_t> back_links;  // target in the upper 32 bits, source below
  };

  uint32_t* links_of(uint32_t row) { return links() + size_t{row} * stride_; }
  uint32_t* links() { return reinterpret_cast<uint32_t*>(links_.data()); }
  size_t degree(uint32_t row) const;
  void set_links(uint32_t row, const uint32_t* chosen, size_t n);

  void insert_chunk(size_t begin, size_t end);
  void gather_by_cell(size_t begin, size_t end);
  void chain(Worker& worker, uint64_t* by_cell, size_t n);
  void choose_links(Worker& worker, uint32_t row, size_t begin, size_t end);
  void find_candidates(Worker& worker, uint32_t row);
  void add_back_links(size_t begin, size_t end);
  void link_back(Worker& worker, uint32_t target, const uint64_t* sources, size_t n);

  const BuildDistances& distances_;
  const CodeWidth walk_width_;
  const size_t rows_;
  const size_t links_max_;
  const size_t ef_construction_;
  Team& team_;
  const size_t stride_;  // links of a row while it grows
  Buffer links_;
  GraphView view_;  // of the rows inserted so far
  std::vector<Worker> workers_;
  std::vector<std::vector<uint64_t>> part_back_links_;  // per thread
  const std::vector<uint32_t> order_;                   // of insertion
  std::vector<uint64_t> by_cell_;                       // of the chunk: cell in the upper 32 bits, row below
};

}  // namespace ehub::hnsw
