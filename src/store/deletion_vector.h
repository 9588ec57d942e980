// Which rows of a segment are dead, and since which sequence number.
//
// One writer kills rows in the order of the hub's batches; readers ask at their own sequence number and see a death
// only from its batch on, whole or not at all. Memory is taken only for regions in which rows died.
//
// On disk (in the manifest), as varints: count, then per dead row, ascending: how many living rows lie between it and
// the previous dead row (or the start), and the death's seq as zigzag difference from the previous one's (0 at first).
//
// Thread-safety: kill() from one thread; the rest from any.

#pragma once

#include <atomic>
#include <cstdint>

#include "base/bytes.h"
#include "base/chunked.h"
#include "store/types.h"

namespace ehub {

class DeletionVector {
 public:
  // Takes the memory for deaths of this row, or of all below `rows`: kill() of them throws nothing. Throws bad_alloc.
  void reserve_row(Row row) { deaths_.grow(row); }
  void reserve(Row rows) { deaths_.reserve(rows); }
  // Marks `row` dead from `seq` on. False, and nothing changes, if it was dead before. Requires: seq > 0.
  bool kill(Row row, Seq seq);
  // The seq of the row's death, 0 while it lives.
  Seq death(Row row) const {
    const std::atomic<Seq>* seq = deaths_.peek(row);
    return seq == nullptr ? 0 : seq->load(std::memory_order_acquire);
  }
  bool dead_at(Row row, Seq seq) const {
    const Seq death_seq = death(row);
    return death_seq != 0 && death_seq <= seq;
  }
  // Rows killed so far, at any seq.
  uint32_t dead_count() const { return dead_count_.load(std::memory_order_acquire); }

  // Appends the deaths up to and including `seq` among the first `rows` rows.
  void encode(Row rows, Seq seq, ByteWriter& out) const;
  // Adds what encode() wrote for a segment of `rows` rows. False if it is malformed; then discard this object.
  bool decode(Row rows, ByteReader& in);

 private:
  ChunkedArray<std::atomic<Seq>> deaths_;
  std::atomic<uint32_t> dead_count_ = 0;
};

}  // namespace ehub
