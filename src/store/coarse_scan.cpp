#include "store/coarse_scan.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/dispatch.h"

namespace ehub {
namespace {

constexpr size_t kGroupRows = hnsw::BoundedCodes::kGroupRows;

// More queries in a call are computed as tiles, which read a row once for all of them.
constexpr size_t kQueriesMax = 8;

// Blocks that a search makes: these, or the part of those that are missing, whichever are more. To make one takes as
// long as to scan some ten.
constexpr int64_t kMadeAtLeast = 8;
constexpr int64_t kMadeShare = 16;

uint64_t first_bits(size_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

bool has_graph(const Segment& segment) {
  const auto* sealed = dynamic_cast<const SealedSegment*>(&segment);
  return sealed != nullptr && sealed->graph().state() == SegmentGraph::State::kReady;
}

}  // namespace

CoarseScan::CoarseScan(const Search& search)
    : search_(search), block_rows_(CoarseRows::block_rows(search.view.schema())) {
  if (search.m > kQueriesMax || !CoarseRows::suit(search.view.schema())) return;
  for (auto run = search.runs.begin(); run != search.runs.end();) {
    const size_t segment = run->segment;
    uint64_t rows = 0;
    for (; run != search.runs.end() && run->segment == segment; ++run) rows += run->end - run->begin;
    begin(segment, rows);
  }
  if (blocks_to_make_ > 0) blocks_to_make_ = std::max(kMadeAtLeast, blocks_to_make_ / kMadeShare);
}

void CoarseScan::begin(size_t segment, uint64_t rows) {
  const Schema& schema = search_.view.schema();
  if (rows * schema.row_bytes() < search_.options.coarse_bytes_min) return;
  const auto& segments = search_.view.state()->segments;
  const Segment& of = *segments[segment].segment;
  parts_.resize(segments.size());
  Part& part = parts_[segment];
  part.may_make = !has_graph(of);
  part.rows = part.may_make ? of.coarse_rows().load_or_make(schema) : of.coarse_rows().load();
  if (part.rows == nullptr) return;
  const auto blocks = static_cast<int64_t>(rows / block_rows_);
  const auto made = static_cast<int64_t>(part.rows->blocks_made());
  if (part.may_make) blocks_to_make_ += std::max<int64_t>(0, blocks - made);
  const hnsw::Encoder* encoder = part.rows->encoder();
  for (size_t q = 0; encoder != nullptr && q < search_.m; ++q) {
    const float norm_squared = search_.norms_squared.empty() ? 0 : search_.norms_squared[q];
    part.queries.emplace_back(*encoder, search_.queries + q * schema.dims, norm_squared);
  }
}

void CoarseScan::keep(const Run& run, const float* vectors) {
  if (parts_.empty() || !parts_[run.segment].may_make || parts_[run.segment].rows == nullptr) return;
  if (run.begin % block_rows_ != 0 || run.end - run.begin != block_rows_) return;
  CoarseRows& rows = *parts_[run.segment].rows;
  const size_t block = run.begin / block_rows_;
  if (rows.block(block) != nullptr || !rows.are_worth_making()) return;
  if (blocks_to_make_.fetch_sub(1, std::memory_order_relaxed) > 0) rows.make(block, vectors);
}

bool CoarseScan::is_limited(const Part& part, const TopK* heaps) const {
  for (size_t q = 0; q < search_.m; ++q) {
    if (!part.queries[q].is_usable() || !(heaps[q].threshold() < TopK::kUnlimited)) return false;
  }
  return true;
}

// Of a row that is not wanted its codes are read all the same.
bool CoarseScan::are_most_wanted(const Run& run) const {
  const std::vector<uint64_t>& wanted = search_.wanted[run.segment];
  if (wanted.empty()) return true;
  size_t count = 0;
  for (Row row = run.begin; row < run.end; row += kGroupRows) {
    count += static_cast<size_t>(std::popcount(wanted[row / kGroupRows] & first_bits(run.end - row)));
  }
  return 2 * count >= run.end - run.begin;
}

Result<bool> CoarseScan::scan(const Run& run, TopK* heaps) const {
  if (parts_.empty() || parts_[run.segment].queries.empty()) return false;
  const Part& part = parts_[run.segment];
  const hnsw::BoundedCodes* codes = part.rows->block(run.begin / block_rows_);
  if (codes == nullptr || !is_limited(part, heaps) || !are_most_wanted(run)) return false;
  if (!part.rows->are_worth_reading()) return false;
  for (size_t q = 0; q < search_.m; ++q) EHUB_RETURN_IF_ERROR(scan_for(q, part, *codes, run, heaps[q]));
  return true;
}

Status CoarseScan::scan_for(size_t q, const Part& part, const hnsw::BoundedCodes& codes, const Run& run,
                            TopK& heap) const {
  const std::vector<uint64_t>& wanted = search_.wanted[run.segment];
  const hnsw::BoundedQuery& query = part.queries[q];
  float limit = query.limit(heap.threshold());
  Row left[kGroupRows];
  size_t count = 0;
  size_t read = 0;
  size_t entered = 0;
  for (Row row = run.begin; row < run.end; row += kGroupRows) {
    uint64_t rows = codes.not_beyond(kernels(), query, limit, row % block_rows_ / kGroupRows);
    rows &= first_bits(run.end - row) & (wanted.empty() ? ~uint64_t{0} : wanted[row / kGroupRows]);
    for (; rows != 0; rows &= rows - 1) {
      left[count++] = row + static_cast<Row>(std::countr_zero(rows));
      if (count < kGroupRows) continue;
      EHUB_RETURN_IF_ERROR(offer(q, run.segment, left, count, heap, &entered));
      limit = query.limit(heap.threshold());
      read += std::exchange(count, 0);
    }
  }
  EHUB_RETURN_IF_ERROR(offer(q, run.segment, left, count, heap, &entered));
  read += count;
  part.rows->note(run.end - run.begin, run.end - run.begin - read, read - entered);
  return {};
}

Status CoarseScan::offer(size_t q, size_t segment, const Row* rows, size_t n, TopK& heap, size_t* entered) const {
  const Schema& schema = search_.view.schema();
  const float* vectors[kGroupRows];
  float distances[kGroupRows];
  for (size_t i = 0; i < n; ++i) {
    const Result<const float*> vector = search_.view.vector(make_ordinal(segment, rows[i]));
    if (!vector.ok()) return vector.status();
    vectors[i] = vector.value();
  }
  const float norm_squared = search_.norms_squared.empty() ? 0 : search_.norms_squared[q];
  distances_apart(kernels(), schema.metric, search_.queries + q * schema.dims, norm_squared, vectors, n, schema.dims,
                  distances);
  for (size_t i = 0; i < n; ++i) *entered += heap.push(distances[i], make_ordinal(segment, rows[i]));
  return {};
}

}  // namespace ehub
