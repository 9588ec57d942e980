#include "hnsw/walk.h"

#include <algorithm>
#include <bit>
#include <string>

namespace ehub::hnsw {
namespace {

Status no_such_row(uint32_t row) {
  return {Code::kCorruption, "a graph links row " + std::to_string(row) + ", which its segment does not have"};
}

// Rows of a scan that are scored together.
constexpr size_t kRowsAtOnce = 256;

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
  pool_.insert_all(scores_.data(), rows, n);
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

// Expands the nearest candidates and counts them; none: all are. Their neighbours that are new come to the end of the
// rows seen.
Status Walker::expand(const GraphView& graph, Distances& distances, size_t* count) {
  const GraphGuard* guard = graph.asked();
  const Candidate first = pool_.expand();
  *count = 0;
  if (first == Pool::kNoCandidate) return {};
  const Candidate pair[2] = {first, distances.candidates_abreast() == 2 ? pool_.expand() : Pool::kNoCandidate};
  uint32_t rows[2] = {};
  for (const Candidate candidate : pair) {
    if (candidate == Pool::kNoCandidate) break;
    rows[(*count)++] = row_of(candidate);
    expanded_.push_back(candidate);
  }
  // If only the links of the second were foreseen, it goes first: meanwhile those of the other come.
  if (*count == 2 && !is_foreseen(rows[0]) && is_foreseen(rows[1])) std::swap(rows[0], rows[1]);
  for (size_t i = 0; i < *count; ++i) {
    if (guard != nullptr) EHUB_RETURN_IF_ERROR(guard->check_links(rows[i]));
    EHUB_RETURN_IF_ERROR(see_links(graph, rows[i], distances));
  }
  foreseen_.fill(kNoRow);
  size_t next = 0;
  pool_.peek_two([&](uint32_t row) {
    prefetch_links(graph, row);
    foreseen_[next++] = row;
  });
  return {};
}

template <typename Done>
Status Walker::walk_until(const GraphView& graph, Distances& distances, Done done) {
  while (!done()) {
    const size_t before = visited_.count();
    size_t count = 0;
    EHUB_RETURN_IF_ERROR(expand(graph, distances, &count));
    if (count == 0) return {};
    EHUB_RETURN_IF_ERROR(score(distances, visited_.seen() + before, visited_.count() - before));
    prefetch_next_links(graph, pool_);
  }
  return {};
}

Status Walker::walk(const GraphView& graph, Distances& distances) {
  return walk_until(graph, distances, [] { return false; });
}

Status Walker::walk_to(const GraphView& graph, Distances& distances, uint32_t row) {
  return walk_until(graph, distances,
                    [&] { return pool_.size() > 0 && pool_.is_expanded(0) && row_of(pool_[0]) == row; });
}

Status Walker::walk_up_to(const GraphView& graph, Distances& distances, const uint64_t* wanted, size_t quota,
                          bool* reached) {
  const auto is_wanted = [&](uint32_t row) { return has_bit(wanted, row); };
  const size_t candidates_max = pool_.room();
  pool_.keep_up_to(quota, is_wanted);
  *reached = false;
  for (size_t expanded = 0; expanded < candidates_max;) {
    const size_t before = visited_.count();
    size_t count = 0;
    EHUB_RETURN_IF_ERROR(expand(graph, distances, &count));
    if (count == 0) {
      *reached = pool_.wanted() == quota;
      return {};
    }
    expanded += count;
    const size_t n = visited_.count() - before;
    if (scores_.size() < n) scores_.resize(n);
    EHUB_RETURN_IF_ERROR(distances.score(visited_.seen() + before, n, scores_.data()));
    for (size_t i = 0; i < n; ++i) {
      pool_.insert_up_to(quota, make_candidate(scores_[i], visited_.seen()[before + i]), is_wanted);
    }
    prefetch_next_links(graph, pool_);
  }
  return {};
}

Status Walker::score_all(const GraphView& graph, Distances& distances, const uint64_t* wanted, StopFlag stop) {
  const auto gather = [&]() -> Status {
    if (is_wanted(stop)) return stopped("the search");
    if (found_.empty()) return {};
    if (scores_.size() < found_.size()) scores_.resize(found_.size());
    EHUB_RETURN_IF_ERROR(distances.score(found_.data(), found_.size(), scores_.data()));
    for (size_t i = 0; i < found_.size(); ++i) pool_.gather(make_candidate(scores_[i], found_[i]));
    found_.clear();
    return {};
  };
  found_.clear();
  for (size_t w = 0; w < bitmap_words(graph.rows); ++w) {
    for (uint64_t word = wanted[w]; word != 0; word &= word - 1) {
      found_.push_back(static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(word))));
    }
    if (found_.size() >= kRowsAtOnce) EHUB_RETURN_IF_ERROR(gather());
  }
  EHUB_RETURN_IF_ERROR(gather());
  pool_.settle();
  return {};
}

}  // namespace ehub::hnsw
