#include "hnsw/walk.h"

#include <string>

namespace ehub::hnsw {
namespace {

Status no_such_row(uint32_t row) {
  return {Code::kCorruption, "a graph links row " + std::to_string(row) + ", which its segment does not have"};
}

// Of a row that is not wanted, so many of its nearest links are followed.
constexpr uint32_t kDetourLinks = 24;

void prefetch_links(const GraphView& graph, uint32_t row) {
  if (row == Pool::kNone) return;
  const uint32_t* links = graph.links_of(row);
  for (uint32_t i = 0; i < graph.link_stride; i += 16) __builtin_prefetch(links + i);
}

}  // namespace

Status Walker::score_found(Distances& distances) {
  if (found_.empty()) return {};
  scores_.resize(found_.size());
  EHUB_RETURN_IF_ERROR(distances.score(found_.data(), found_.size(), scores_.data()));
  for (size_t i = 0; i < found_.size(); ++i) pool_.insert(make_candidate(scores_[i], found_[i]));
  return {};
}

Status Walker::seed(Distances& distances, const uint32_t* rows, size_t n) {
  found_.clear();
  for (size_t i = 0; i < n; ++i) {
    if (!visited_.insert(rows[i])) continue;
    distances.prefetch(rows[i]);
    found_.push_back(rows[i]);
  }
  return score_found(distances);
}

Status Walker::walk(const GraphView& graph, Distances& distances) {
  const GraphGuard* guard = graph.asked();
  for (Candidate first = pool_.expand(); first != Pool::kNoCandidate; first = pool_.expand()) {
    const Candidate pair[2] = {first, pool_.expand()};
    found_.clear();
    for (const Candidate candidate : pair) {
      if (candidate == Pool::kNoCandidate) break;
      expanded_.push_back(candidate);
      const uint32_t row = row_of(candidate);
      if (guard != nullptr) EHUB_RETURN_IF_ERROR(guard->check_links(row));
      const uint32_t* links = graph.links_of(row);
      for (uint32_t i = 0; i < graph.link_stride && links[i] != row; ++i) {
        if (links[i] >= graph.rows) [[unlikely]]
          return no_such_row(links[i]);
        if (!visited_.insert(links[i])) continue;
        distances.prefetch(links[i]);
        found_.push_back(links[i]);
      }
    }
    prefetch_links(graph, pool_.next());
    EHUB_RETURN_IF_ERROR(score_found(distances));
    prefetch_links(graph, pool_.next());
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
    prefetch_links(graph, pool_.next());
    EHUB_RETURN_IF_ERROR(score_found(distances));
  }
  return {};
}

}  // namespace ehub::hnsw
