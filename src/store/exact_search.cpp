// The exact part of a search: the rows of each run, checked against their checksums and scanned while they are still in
// the cache, over as many threads as the work is worth; where coarse rows can tell, few of a run are.

#include <algorithm>
#include <atomic>

#include "kernels/dispatch.h"
#include "store/coarse_scan.h"
#include "store/search.h"

namespace ehub {
namespace {

// Bits [begin, end) of `bitmap`, moved to the front of `out`.
void shift_bits(const std::vector<uint64_t>& bitmap, Row begin, Row end, std::vector<uint64_t>& out) {
  const size_t words = (end - begin + 63) / 64;
  const size_t first = begin / 64;
  const unsigned shift = begin % 64;
  out.resize(words);
  for (size_t w = 0; w < words; ++w) {
    out[w] = bitmap[first + w] >> shift;
    if (shift != 0 && first + w + 1 < bitmap.size()) out[w] |= bitmap[first + w + 1] << (64 - shift);
  }
}

Status scan_run(const Search& search, CoarseScan& coarse, const Run& run, std::vector<uint64_t>& scratch, TopK* heaps) {
  const Result<bool> is_done = coarse.scan(run, heaps);
  if (!is_done.ok() || is_done.value()) return is_done.status();
  const SegmentRef& ref = search.view.state()->segments[run.segment];
  const std::vector<uint64_t>& wanted = search.wanted[run.segment];
  for (Row row = run.begin; row < run.end;) {
    Row n = 0;
    const Result<const float*> vectors = ref.segment->vectors(row, run.end - row, &n);
    if (!vectors.ok()) return vectors.status();
    if (!wanted.empty()) shift_bits(wanted, row, row + n, scratch);
    const Schema& schema = search.view.schema();
    scan_block(kernels(), schema.metric, search.queries, search.norms_squared.data(), search.m, vectors.value(), n,
               schema.dims, wanted.empty() ? nullptr : scratch.data(), make_ordinal(run.segment, row), heaps);
    if (n == run.end - run.begin) coarse.keep(run, vectors.value());
    row += n;
  }
  return {};
}

// One thread's share: runs are taken from a common counter, so a slow thread holds nobody up.
Status scan_share(const Search& search, CoarseScan& coarse, std::atomic<size_t>& next, std::vector<TopK>& heaps) {
  return guarded([&]() -> Status {
    std::vector<uint64_t> scratch;
    for (size_t i = next.fetch_add(1); i < search.runs.size(); i = next.fetch_add(1)) {
      if (is_stopped(search.options)) return stopped();
      EHUB_RETURN_IF_ERROR(scan_run(search, coarse, search.runs[i], scratch, heaps.data()));
    }
    return {};
  });
}

}  // namespace

Status scan_runs(const Search& search, std::vector<TopK>& heaps) {
  if (search.runs.empty()) return {};
  uint64_t rows = 0;
  for (const Run& run : search.runs) rows += run.end - run.begin;
  const unsigned thread_count =
      threads_for(search.options, rows * search.m * search.view.schema().dims, search.runs.size());
  CoarseScan coarse(search);
  // What walks found is in the first one's heaps alone, or it would be in the answer more than once.
  std::vector<std::vector<TopK>> others(thread_count - 1);
  for (std::vector<TopK>& other : others) {
    for (const TopK& heap : heaps) other.push_back(heap.beside());
  }
  std::vector<Status> statuses(thread_count);
  std::atomic<size_t> next = 0;
  run_threads(thread_count, [&](unsigned thread) {
    statuses[thread] = scan_share(search, coarse, next, thread == 0 ? heaps : others[thread - 1]);
  });
  for (const Status& status : statuses) EHUB_RETURN_IF_ERROR(status);
  for (const std::vector<TopK>& other : others) {
    for (size_t q = 0; q < heaps.size(); ++q) heaps[q].merge(other[q]);
  }
  return {};
}

}  // namespace ehub
