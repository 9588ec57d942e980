#include "hnsw/prune.h"

#include <algorithm>

namespace ehub::hnsw {
namespace {

constexpr float kAlpha = 1.1F;

// Rows that are scored at once, and how far ahead of them others are asked for.
constexpr size_t kRowsAtOnce = 4;
constexpr size_t kRowsAhead = 16;

}  // namespace

// Moves from left_ to refused_ what is nearer to `taken` than to the row.
void Pruner::refuse_near(uint32_t taken, size_t after) {
  const size_t count = left_.size() - after;
  if (count == 0) return;
  rows_.resize(count);
  scores_.resize(count);
  for (size_t i = 0; i < count; ++i) rows_[i] = row_of(left_[after + i]);
  distances_.set_query(taken, query_);
  distances_.score(query_, rows_.data(), count, scores_.data());
  const float alpha = distances_.metric() == Metric::kInnerProduct ? 1.0F : kAlpha;
  // Which it will be cannot be foreseen, so there is no branch for it.
  size_t kept = after;
  size_t refused = refused_.size();
  refused_.resize(refused + count);
  for (size_t i = 0; i < count; ++i) {
    const Candidate candidate = left_[after + i];
    const bool is_near = alpha * scores_[i] <= distance_of(candidate);
    left_[kept] = candidate;
    refused_[refused] = candidate;
    kept += is_near ? 0 : 1;
    refused += is_near ? 1 : 0;
  }
  left_.resize(kept);
  refused_.resize(refused);
}

size_t Pruner::prune(const Candidate* candidates, size_t n, size_t links_max, uint32_t* out) {
  left_.assign(candidates, candidates + n);
  taken_.clear();
  refused_.clear();
  for (size_t i = 0; i < left_.size() && taken_.size() < links_max; ++i) {
    taken_.push_back(left_[i]);
    if (taken_.size() < links_max) refuse_near(row_of(left_[i]), i + 1);
  }
  const size_t wanted = links_max / 2;
  if (taken_.size() < wanted) {
    std::sort(refused_.begin(), refused_.end());
    const size_t missing = std::min(wanted - taken_.size(), refused_.size());
    taken_.insert(taken_.end(), refused_.begin(), refused_.begin() + static_cast<ptrdiff_t>(missing));
    std::sort(taken_.begin(), taken_.end());
  }
  for (size_t i = 0; i < taken_.size(); ++i) out[i] = row_of(taken_[i]);
  return taken_.size();
}

void score_candidates(RowDistances& distances, uint32_t row, const uint32_t* rows, size_t n,
                      std::vector<Candidate>& candidates) {
  std::vector<float> scores(n);
  distances.set_row(row);
  for (size_t i = 0; i < std::min(n, kRowsAhead); ++i) distances.prefetch_all(rows[i]);
  for (size_t i = 0; i < n; i += kRowsAtOnce) {
    const size_t count = std::min(n - i, kRowsAtOnce);
    for (size_t ahead = i + kRowsAhead; ahead < std::min(n, i + kRowsAhead + count); ++ahead) {
      distances.prefetch_all(rows[ahead]);
    }
    // No source of distances between rows fails.
    (void)distances.score(rows + i, count, scores.data() + i);
  }
  for (size_t i = 0; i < n; ++i) candidates.push_back(make_candidate(scores[i], rows[i]));
  std::sort(candidates.begin(), candidates.end());
}

void LinkCutter::cut(uint32_t row, const uint32_t* links, size_t n, size_t links_max, uint32_t* out,
                     size_t link_stride) {
  candidates_.clear();
  score_candidates(distances_, row, links, n, candidates_);
  std::fill_n(out, link_stride, row);
  if (n > links_max) {
    pruner_.prune(candidates_.data(), n, links_max, out);
  } else {
    for (size_t i = 0; i < n; ++i) out[i] = row_of(candidates_[i]);
  }
}

}  // namespace ehub::hnsw
