// The part of a scan that coarse rows save: runs of which there are codes, and the making of more.
//
// It pays where the reading of memory is what a scan takes: for few queries, among all or most rows of a segment. A
// query needs a limit first, so the first rows are read as they are. How much one search makes is bounded, so that none
// takes much longer for it: each makes a part of what is missing.
//
// Thread-safety: made for one search; its threads share it.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "hnsw/bounded_codes.h"
#include "store/coarse_rows.h"
#include "store/search.h"

namespace ehub {

class CoarseScan {
 public:
  explicit CoarseScan(const Search& search);

  // Offers the run's rows to heaps[m]. False: nothing is done, and they are to be read as they are.
  Result<bool> scan(const Run& run, TopK* heaps) const;
  // The vectors of a whole run were just read: makes codes of them, if that is worth while.
  void keep(const Run& run, const float* vectors);

 private:
  // Of one segment.
  struct Part {
    std::shared_ptr<CoarseRows> rows;  // null: it is scanned as it is
    bool may_make = false;
    std::vector<hnsw::BoundedQuery> queries;  // none as long as there are no codes
  };

  void begin(size_t segment, uint64_t rows);
  bool is_limited(const Part& part, const TopK* heaps) const;
  bool are_most_wanted(const Run& run) const;
  Status scan_for(size_t q, const Part& part, const hnsw::BoundedCodes& codes, const Run& run, TopK& heap) const;
  Status offer(size_t q, size_t segment, const Row* rows, size_t n, TopK& heap, size_t* entered) const;

  const Search& search_;
  const Row block_rows_;
  std::vector<Part> parts_;  // by segment; empty: none has a part in it
  std::atomic<int64_t> blocks_to_make_ = 0;
};

}  // namespace ehub
