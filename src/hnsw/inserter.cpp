#include "hnsw/inserter.h"

#include <algorithm>
#include <numeric>

#include "base/bytes.h"
#include "hnsw/router.h"

namespace ehub::hnsw {
namespace {

// Chunks grow with the graph: a row does not see the others of its chunk, which must not be missed.
constexpr size_t kChunkRowsMin = 64;
constexpr size_t kChunkRowsMax = 1024;
constexpr size_t kChunkShare = 8;

// Rows that a thread takes at a time.
constexpr size_t kTaskRows = 8;
constexpr size_t kTaskTargets = 64;

// Rows of a cell that are put in order at a time, so that a crowd in one cell does not take the square of its number.
constexpr size_t kChainedMost = 64;

// While it grows a row may have a quarter more links than in the end, so that it is pruned for several at once.
size_t growing_links(size_t links_max) { return links_max + links_max / 4; }

// All nodes, such that those of any chunk are spread evenly: rows that come one after the other are often alike, and
// would not see each other in one chunk.
std::vector<uint32_t> insertion_order(const std::vector<uint32_t>& nodes) {
  size_t step = static_cast<size_t>(0.6180339887 * static_cast<double>(nodes.size())) | 1;
  while (std::gcd(step, nodes.size()) != 1) step += 2;
  std::vector<uint32_t> order;
  for (size_t i = 0, at = 0; i < nodes.size(); ++i, at = (at + step) % nodes.size()) order.push_back(nodes[at]);
  return order;
}

}  // namespace

std::vector<uint32_t> node_rows(size_t rows, const TwinsView& twins) {
  const std::vector<uint32_t> node_of = nodes_of_rows(rows, twins);
  std::vector<uint32_t> nodes;
  for (uint32_t row = 0; row < rows; ++row) {
    if (node_of[row] == row) nodes.push_back(row);
  }
  return nodes;
}

Inserter::Inserter(const BuildDistances& distances, const CodeSet& walk_codes, size_t rows, const TwinsView& twins,
                   const GraphParameters& parameters, Team& team)
    : distances_(distances),
      walk_width_(walk_codes.width),
      rows_(rows),
      links_max_(2 * size_t{parameters.M}),
      ef_construction_(parameters.ef_construction),
      team_(team),
      stride_(align_up(growing_links(links_max_), 16)),
      links_(rows * stride_ * sizeof(uint32_t)),
      workers_(team.size(), Worker(distances, walk_codes)),
      part_back_links_(team.size()),
      order_(insertion_order(node_rows(rows, twins))) {
  // Twins, and rows that are not inserted yet, have no links.
  for (uint32_t row = 0; row < rows; ++row) set_links(row, nullptr, 0);
  view_.rows = static_cast<uint32_t>(rows);
  view_.link_stride = static_cast<uint32_t>(stride_);
  view_.links = links();
  view_.codes = distances.codes();
}

size_t Inserter::degree(uint32_t row) const {
  const uint32_t* links = view_.links_of(row);
  return static_cast<size_t>(std::find(links, links + stride_, row) - links);
}

void Inserter::set_links(uint32_t row, const uint32_t* chosen, size_t n) {
  uint32_t* links = links_of(row);
  std::copy_n(chosen, n, links);
  std::fill(links + n, links + stride_, row);
}

bool Inserter::insert_all(BuildControl& control) {
  size_t router_of = 0;
  for (size_t begin = 0; begin < order_.size();) {
    if (control.is_cancelled()) return false;
    const size_t chunk = std::clamp(begin / kChunkShare, kChunkRowsMin, kChunkRowsMax);
    const size_t end = std::min(order_.size(), begin + chunk);
    if (begin >= 2 * router_of) {
      const size_t router_size = router_rows_max(distances_.codes().code_bytes);
      view_.router = spread_rows({order_.data(), begin}, router_size);
      router_of = begin;
    }
    insert_chunk(begin, end);
    begin = end;
    control.rows_done.store(begin, std::memory_order_relaxed);
  }
  return true;
}

void Inserter::insert_chunk(size_t begin, size_t end) {
  gather_by_cell(begin, end);
  team_.run(end - begin, kTaskRows, [&](size_t first, size_t last, unsigned w) {
    for (size_t i = first; i < last; ++i) choose_links(workers_[w], static_cast<uint32_t>(by_cell_[i]), begin, end);
  });
  add_back_links(begin, end);
}

// The rows of a chunk, those with the same nearest row of the router one after the other, each followed by the nearest
// that is left: they walk through the same part of the graph, and the second finds it in the cache. What each of them
// finds does not depend on their order.
void Inserter::gather_by_cell(size_t begin, size_t end) {
  const std::vector<uint32_t>& router = view_.router;
  by_cell_.resize(end - begin);
  team_.run(end - begin, kTaskRows, [&](size_t first, size_t last, unsigned w) {
    Worker& worker = workers_[w];
    worker.scores.resize(router.size());
    for (size_t i = first; i < last; ++i) {
      const uint32_t row = order_[begin + i];
      worker.walk_distances.set_row(row);
      // No source of distances between rows fails.
      (void)worker.walk_distances.score(router.data(), router.size(), worker.scores.data());
      const auto nearest = std::min_element(worker.scores.begin(), worker.scores.end()) - worker.scores.begin();
      by_cell_[i] = static_cast<uint64_t>(nearest) << 32 | row;
    }
  });
  std::sort(by_cell_.begin(), by_cell_.end());
  std::vector<size_t> begins;
  for (size_t i = 0; i < by_cell_.size(); ++i) {
    const bool is_full = !begins.empty() && i - begins.back() == kChainedMost;
    if (i == 0 || is_full || by_cell_[i] >> 32 != by_cell_[i - 1] >> 32) begins.push_back(i);
  }
  begins.push_back(by_cell_.size());
  team_.run(begins.size() - 1, 1, [&](size_t i, size_t, unsigned w) {
    chain(workers_[w], by_cell_.data() + begins[i], begins[i + 1] - begins[i]);
  });
}

// Leaves the rows alone in `by_cell`, without their cell.
void Inserter::chain(Worker& worker, uint64_t* by_cell, size_t n) {
  worker.found.resize(n);
  worker.scores.resize(std::max(n, worker.scores.size()));
  std::transform(by_cell, by_cell + n, worker.found.begin(), [](uint64_t row) { return static_cast<uint32_t>(row); });
  for (size_t i = 1; i + 1 < n; ++i) {
    worker.walk_distances.set_row(worker.found[i - 1]);
    (void)worker.walk_distances.score(worker.found.data() + i, n - i, worker.scores.data());
    const auto left = worker.scores.begin();
    const auto nearest = std::min_element(left, left + static_cast<ptrdiff_t>(n - i)) - left;
    std::swap(worker.found[i], worker.found[i + static_cast<size_t>(nearest)]);
  }
  std::copy(worker.found.begin(), worker.found.end(), by_cell);
}

void Inserter::choose_links(Worker& worker, uint32_t row, size_t begin, size_t end) {
  worker.candidates.clear();
  if (begin == 0) {
    // The first chunk has no graph to search: everyone is a candidate.
    std::vector<uint32_t> others;
    for (size_t place = 0; place < end; ++place) {
      if (order_[place] != row) others.push_back(order_[place]);
    }
    score_candidates(worker.distances, row, others.data(), others.size(), worker.candidates);
  } else {
    find_candidates(worker, row);
  }
  worker.chosen.resize(links_max_);
  const size_t n =
      worker.pruner.prune(worker.candidates.data(), worker.candidates.size(), links_max_, worker.chosen.data());
  set_links(row, worker.chosen.data(), n);
}

void Inserter::find_candidates(Worker& worker, uint32_t row) {
  worker.walk_distances.set_row(row);
  worker.walker.reset(rows_, std::min<size_t>(ef_construction_, rows_));
  // No source of distances between rows fails.
  (void)worker.walker.seed(worker.walk_distances, view_.router.data(), view_.router.size());
  (void)worker.walker.walk(view_, worker.walk_distances);
  // All that was expanded, the way there included: it leads out of a crowd of rows that are all alike.
  const std::vector<Candidate>& expanded = worker.walker.expanded();
  if (walk_width_ == distances_.codes().width) {
    worker.candidates = expanded;
    std::sort(worker.candidates.begin(), worker.candidates.end());
    return;
  }
  worker.found.resize(expanded.size());
  std::transform(expanded.begin(), expanded.end(), worker.found.begin(), row_of);
  score_candidates(worker.distances, row, worker.found.data(), worker.found.size(), worker.candidates);
}

// Every thread collects the links back to its own targets and sorts them: by target, then by source.
void Inserter::add_back_links(size_t begin, size_t end) {
  const size_t parts = workers_.size();
  team_.run(parts, 1, [&](size_t part, size_t, unsigned w) {
    Worker& worker = workers_[w];
    worker.back_links.clear();
    for (size_t place = begin; place < end; ++place) {
      const uint32_t row = order_[place];
      const uint32_t* links = links_of(row);
      for (size_t i = 0; i < stride_ && links[i] != row; ++i) {
        if (links[i] / kTaskTargets % parts == part) worker.back_links.push_back(uint64_t{links[i]} << 32 | row);
      }
    }
    std::sort(worker.back_links.begin(), worker.back_links.end());
    part_back_links_[part].swap(worker.back_links);
  });
  team_.run(parts, 1, [&](size_t part, size_t, unsigned w) {
    const std::vector<uint64_t>& links = part_back_links_[part];
    for (size_t i = 0; i < links.size();) {
      const auto target = static_cast<uint32_t>(links[i] >> 32);
      size_t group_end = i + 1;
      while (group_end < links.size() && links[group_end] >> 32 == target) ++group_end;
      link_back(workers_[w], target, links.data() + i, group_end - i);
      i = group_end;
    }
  });
}

void Inserter::link_back(Worker& worker, uint32_t target, const uint64_t* sources, size_t n) {
  uint32_t* links = links_of(target);
  const size_t present = degree(target);
  std::vector<uint32_t>& all = worker.chosen;
  all.assign(links, links + present);
  for (size_t i = 0; i < n; ++i) {
    const auto source = static_cast<uint32_t>(sources[i]);
    // Of two rows of the first chunk each may have chosen the other.
    if (std::find(links, links + present, source) == links + present) all.push_back(source);
  }
  if (all.size() <= growing_links(links_max_)) {
    std::copy(all.begin(), all.end(), links);
    return;
  }
  worker.candidates.clear();
  const std::vector<uint32_t> candidates = all;
  score_candidates(worker.distances, target, candidates.data(), candidates.size(), worker.candidates);
  all.resize(links_max_);
  const size_t kept = worker.pruner.prune(worker.candidates.data(), worker.candidates.size(), links_max_, all.data());
  set_links(target, all.data(), kept);
}

void Inserter::finish(uint32_t* out, size_t link_stride) {
  std::vector<LinkCutter> cutters(team_.size(), LinkCutter(distances_));
  team_.run(rows_, kTaskTargets, [&](size_t begin, size_t end, unsigned w) {
    for (size_t i = begin; i < end; ++i) {
      const auto row = static_cast<uint32_t>(i);
      cutters[w].cut(row, links_of(row), degree(row), links_max_, out + i * link_stride, link_stride);
    }
  });
}

}  // namespace ehub::hnsw
