// Coarse rows: codes of a segment's rows, in memory alone, by which a scan rules out most of them without reading them.
//
// They are made by the scans themselves, a block of rows at a time: who has just read a whole block encodes it while it
// is in the cache. The next scan reads the codes, a quarter of the bytes, and of the rows only those that may be in its
// answer; so that is the same to the bit (hnsw/bounded_codes.h). The first block that is made fixes the mean from which
// all are counted: what fits the others less costs speed alone.
//
// They are not part of the segment's value. The sealed segment into which a fresh one turns goes on with them, and they
// go when it has a graph. All of them in the process have one part of the memory that is available.
//
// Thread-safety: all calls from any thread. A block appears whole, and then stays as long as the object.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/chunked.h"
#include "base/memory_budget.h"
#include "store/types.h"

namespace ehub {

namespace hnsw {
class BoundedCodes;
class Encoder;
}  // namespace hnsw

class CoarseRows {
 public:
  // Whether rows are so long that codes are half of their bytes at most.
  static bool suit(const Schema& schema);
  // As many rows as a scan takes at a time, a multiple of 64: some that fit the second cache.
  static Row block_rows(const Schema& schema);

  CoarseRows(const Schema& schema, MemoryBudget& budget);
  ~CoarseRows();
  CoarseRows(const CoarseRows&) = delete;
  CoarseRows& operator=(const CoarseRows&) = delete;

  // What made them; null as long as no block was begun.
  const hnsw::Encoder* encoder() const { return encoder_.load(std::memory_order_acquire); }
  // The codes of rows [block_rows * block, block_rows * (block + 1)); null: there are none.
  const hnsw::BoundedCodes* block(size_t block) const;
  // Makes the codes of a block whose rows are these, unless they are there, somebody is at it, or there is no memory.
  void make(size_t block, const float* rows);
  size_t blocks_made() const { return blocks_made_.load(std::memory_order_relaxed); }

  // Of so many rows, so many were ruled out, and so many were read although they were not near enough.
  void note(size_t rows, size_t ruled_out, size_t in_vain);
  // Whether that is worth while: not if too many are read in vain again and again, but for another try now and then.
  bool are_worth_reading() const;
  // The same of making more of them.
  bool are_worth_making() const { return trust_.load(std::memory_order_relaxed) > 0; }
  // Rows that codes were read of so far, and those of them that were ruled out.
  uint64_t rows_judged() const { return judged_.load(std::memory_order_relaxed); }
  uint64_t rows_ruled_out() const { return ruled_out_.load(std::memory_order_relaxed); }

 private:
  struct Place {
    std::atomic<const hnsw::BoundedCodes*> codes;
    std::atomic<bool> is_taken;  // by whoever makes them
  };

  uint64_t block_bytes() const;
  Place& place_of(size_t block);
  const hnsw::Encoder* encoder_from(const float* rows);
  bool make_at(Place& place, const float* rows);

  const Schema schema_;
  const size_t block_rows_;
  MemoryBudget& budget_;
  std::atomic<const hnsw::Encoder*> encoder_ = nullptr;
  std::atomic<bool> is_learning_ = false;
  std::atomic<size_t> blocks_made_ = 0;
  std::atomic<uint64_t> judged_ = 0;
  std::atomic<uint64_t> ruled_out_ = 0;
  std::atomic<int> trust_;
  mutable std::atomic<uint32_t> refusals_ = 0;

  std::mutex mutex_;  // of what follows, but for the places themselves
  ChunkedArray<Place> places_;
  std::unique_ptr<const hnsw::Encoder> learned_;
  std::vector<std::unique_ptr<const hnsw::BoundedCodes>> made_;
};

// Where a segment keeps them. Whoever scans holds them himself.
class CoarseRowsPlace {
 public:
  // Null: none.
  std::shared_ptr<CoarseRows> load() const;
  // Made if there are none. Null if there is no memory.
  std::shared_ptr<CoarseRows> load_or_make(const Schema& schema);
  void store(std::shared_ptr<CoarseRows> rows);
  void drop() {
    if (is_taken_.load(std::memory_order_relaxed)) store(nullptr);
  }

 private:
  mutable std::mutex mutex_;
  std::atomic<bool> is_taken_ = false;
  std::shared_ptr<CoarseRows> rows_;
};

// The memory of all of them in the process.
MemoryBudget& coarse_memory();

}  // namespace ehub
