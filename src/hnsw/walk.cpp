#include "hnsw/walk.h"

#include <algorithm>
#include <bit>
#include <string>

namespace ehub::hnsw {
namespace {

Status no_such_row(uint32_t row) {
  return {Code::kCorruption, "a graph links row " + std::to_string(row) + ", which its segment does not have"};
}

// Rows of a scan that are scored together, and how many scored ones are forgotten at a time.
constexpr size_t kRowsAtOnce = 64;
constexpr size_t kRowsForgotten = 16 * kRowsAtOnce;

// How much farther than it may a walk may seem to go: what was met is a sample.
constexpr size_t kSeemingTwice = 3;

// Whether of `expanded` candidates so few are wanted that `quota` will not be met within `most`.
bool is_in_vain(size_t expanded, size_t met, size_t quota, size_t most) {
  return 2 * expanded * quota > kSeemingTwice * most * std::max<size_t>(met, 1);
}

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
                          const WalkLimit& limit, bool* reached) {
  const auto is_wanted = [&](uint32_t row) { return has_bit(wanted, row); };
  const size_t most = std::min(limit.most, pool_.room());
  pool_.keep_up_to(quota, is_wanted);
  size_t met = 0;
  for (const Candidate candidate : expanded_) met += is_wanted(row_of(candidate)) ? 1 : 0;
  *reached = false;
  while (expanded_.size() < most) {
    if (expanded_.size() >= limit.patience && is_in_vain(expanded_.size(), met, quota, most)) return {};
    const size_t before = visited_.count();
    size_t count = 0;
    EHUB_RETURN_IF_ERROR(expand(graph, distances, &count));
    if (count == 0) {
      *reached = pool_.wanted() == quota;
      return {};
    }
    for (size_t i = 1; i <= count; ++i) met += is_wanted(row_of(expanded_[expanded_.size() - i])) ? 1 : 0;
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
  found_.clear();
  if (scores_.size() < kRowsAtOnce) scores_.resize(kRowsAtOnce);
  size_t scored = 0;
  const auto gather = [&](size_t n) -> Status {
    if (is_wanted(stop)) return stopped("the search");
    EHUB_RETURN_IF_ERROR(distances.score(found_.data() + scored, n, scores_.data()));
    for (size_t i = 0; i < n; ++i) pool_.gather(make_candidate(scores_[i], found_[scored + i]));
    scored += n;
    return {};
  };
  for (size_t w = 0; w < bitmap_words(graph.rows); ++w) {
    for (uint64_t word = wanted[w]; word != 0; word &= word - 1) {
      found_.push_back(static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(word))));
      distances.prefetch(found_.back());
    }
    // Those that were asked for last are on their way meanwhile.
    while (found_.size() - scored >= 2 * kRowsAtOnce) EHUB_RETURN_IF_ERROR(gather(kRowsAtOnce));
    if (scored < kRowsForgotten) continue;
    found_.erase(found_.begin(), found_.begin() + static_cast<ptrdiff_t>(scored));
    scored = 0;
  }
  while (scored < found_.size()) EHUB_RETURN_IF_ERROR(gather(std::min(kRowsAtOnce, found_.size() - scored)));
  pool_.settle();
  return {};
}

}  // namespace ehub::hnsw
