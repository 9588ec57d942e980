#include "hnsw/walk.h"

#include <algorithm>
#include <string>

namespace ehub::hnsw {
namespace {

Status no_such_row(uint32_t row) {
  return {Code::kCorruption, "a graph links row " + std::to_string(row) + ", which its segment does not have"};
}

// Of a row that is not wanted, so many of its nearest links are followed.
constexpr uint32_t kDetourLinks = 24;

void prefetch_links(const GraphView& graph, uint32_t row) {
  const uint32_t* links = graph.links_of(row);
  for (uint32_t i = 0; i < graph.link_stride; i += 16) __builtin_prefetch(links + i);
}

void prefetch_next_links(const GraphView& graph, const Pool& pool) {
  pool.peek_two([&](uint32_t row) { prefetch_links(graph, row); });
}

}  // namespace

Status Walker::score(Distances& distances, const uint32_t* rows, size_t n) {
  if (n == 0) return {};
  if (scores_.size() < n) scores_.resize(n);
  EHUB_RETURN_IF_ERROR(distances.score(rows, n, scores_.data()));
  for (size_t i = 0; i < n; ++i) pool_.insert(make_candidate(scores_[i], rows[i]));
  return {};
}

Status Walker::seed(Distances& distances, const uint32_t* rows, size_t n) {
  found_.clear();
  for (size_t i = 0; i < n; ++i) {
    if (!visited_.insert(rows[i])) continue;
    distances.prefetch(rows[i]);
    found_.push_back(rows[i]);
  }
  return score(distances, found_.data(), found_.size());
}

// Sees the neighbours of a candidate; those that are new come to the end of the rows seen, and are asked for.
Status Walker::see_links(const GraphView& graph, uint32_t row, Distances& distances) {
  const uint32_t* links = graph.links_of(row);
  uint32_t highest = 0;
  uint32_t count = 0;  // what fills the rest is the row, which was seen
  for (size_t i = 0; i < graph.link_stride; ++i) {
    highest = std::max(highest, links[i]);
    count += links[i] != row ? 1 : 0;
  }
  if (highest >= graph.rows) [[unlikely]]
    return no_such_row(highest);
  const size_t before = visited_.count();
  visited_.insert_all(links, count);
  for (size_t i = before; i < visited_.count(); ++i) distances.prefetch(visited_.seen()[i]);
  return {};
}

Status Walker::walk(const GraphView& graph, Distances& distances) {
  const GraphGuard* guard = graph.asked();
  for (Candidate first = pool_.expand(); first != Pool::kNoCandidate; first = pool_.expand()) {
    const Candidate pair[2] = {first, distances.candidates_abreast() == 2 ? pool_.expand() : Pool::kNoCandidate};
    const size_t before = visited_.count();
    for (const Candidate candidate : pair) {
      if (candidate == Pool::kNoCandidate) break;
      expanded_.push_back(candidate);
      if (guard != nullptr) EHUB_RETURN_IF_ERROR(guard->check_links(row_of(candidate)));
      EHUB_RETURN_IF_ERROR(see_links(graph, row_of(candidate), distances));
    }
    prefetch_next_links(graph, pool_);
    EHUB_RETURN_IF_ERROR(score(distances, visited_.seen() + before, visited_.count() - before));
    prefetch_next_links(graph, pool_);
  }
  return {};
}

Status Walker::walk_among(const GraphView& graph, Distances& distances, const uint64_t* wanted) {
  const GraphGuard* guard = graph.asked();
  for (Candidate next = pool_.expand(); next != Pool::kNoCandidate; next = pool_.expand()) {
    found_.clear();
    const uint32_t row = row_of(next);
    if (guard != nullptr) EHUB_RETURN_IF_ERROR(guard->check_links(row));
    const uint32_t* links = graph.links_of(row);
    detours_.clear();
    const auto see = [&](uint32_t neighbor) {
      if (!visited_.insert(neighbor)) return;
      distances.prefetch(neighbor);
      found_.push_back(neighbor);
    };
    for (uint32_t i = 0; i < graph.link_stride && links[i] != row; ++i) {
      if (links[i] >= graph.rows) [[unlikely]]
        return no_such_row(links[i]);
      if (has_bit(wanted, links[i])) {
        see(links[i]);
      } else if (visited_.insert(links[i])) {
        prefetch_links(graph, links[i]);
        detours_.push_back(links[i]);
      }
    }
    for (const uint32_t detour : detours_) {
      if (guard != nullptr) EHUB_RETURN_IF_ERROR(guard->check_links(detour));
      const uint32_t* further = graph.links_of(detour);
      for (uint32_t i = 0; i < std::min(graph.link_stride, kDetourLinks) && further[i] != detour; ++i) {
        if (further[i] >= graph.rows) [[unlikely]]
          return no_such_row(further[i]);
        if (has_bit(wanted, further[i])) see(further[i]);
      }
    }
    prefetch_next_links(graph, pool_);
    EHUB_RETURN_IF_ERROR(score(distances, found_.data(), found_.size()));
  }
  return {};
}

}  // namespace ehub::hnsw
