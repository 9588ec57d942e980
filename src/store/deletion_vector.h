// Which rows of a segment are dead, and since which sequence number.
//
// One writer kills rows in the order of the hub's batches; readers ask at their own sequence number and see a death
// only from its batch on, whole or not at all. Memory is taken only for regions in which rows died.
//
// A restore makes rows live again that had died: it makes a new vector, which knows the time that such a row was dead
// as a gap, and leaves the old one to the views that have it. So gaps never change, and a view of any time that is
// still wanted finds in the newest vector what was visible then. Gaps that no such time lies in are left out by the
// next restore, and of what goes to the disk.
//
// A segment of which every row is dead is one of history: only times before its last death see anything of it, so all
// others pass it by without a look at its rows.
//
// On disk (in the manifest), as varints: count, then per dead row, ascending: how many living rows lie between it and
// the previous dead row (or the start), and the death's seq as zigzag difference from the previous one's (0 at first).
// Beside it, if the rows are layered: the number of gaps, and per gap, in order, the row minus that of the gap before,
// the seq of the death, and for how many seqs it lasted.
//
// Thread-safety: kill() from one thread; the rest from any.

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/chunked.h"
#include "base/remembered.h"
#include "base/status.h"
#include "store/types.h"

namespace ehub {

class Segment;

// Which gaps somebody may still ask about: those that a pinned time lies in, and those that were not over when it was
// asked what is pinned.
struct WantedGaps {
  std::vector<Seq> times = {};  // pinned, ascending
  Seq asked_at = 0;

  bool has(Seq died, Seq revived) const;
};

// What was found out about a segment of history, where nothing changes any more: how many of so many rows some times
// need, and which rows a time sees, as a bitmap.
struct HistoryMemory {
  Remembered<std::pair<Row, std::vector<Seq>>, uint64_t, 1> needed;
  Remembered<Seq, std::shared_ptr<const std::vector<uint64_t>>, 2> visible;
};

class DeletionVector {
 public:
  // The vector of the same rows from `seq` on when they become again what they were at `then`: rows that live now and
  // did not then die at `seq`, and those that lived then and are dead now are so no more. Requires: then < seq.
  // `wanted`: of the gaps of before only those that it is true for are kept; null: all.
  static Result<std::shared_ptr<DeletionVector>> restored(const DeletionVector& now, const Segment& segment, Seq then,
                                                          Seq seq, const WantedGaps* wanted);
  // The vector by which another table begins at `seq` with the rows that were visible at `then`.
  static Result<std::shared_ptr<DeletionVector>> forked(const DeletionVector& now, const Segment& segment, Seq then,
                                                        Seq seq);

  // Takes the memory for deaths of this row, or of all below `rows`: kill() of them throws nothing. Throws bad_alloc.
  void reserve_row(Row row) { deaths_.grow(row); }
  void reserve(Row rows) { deaths_.reserve(rows); }
  // Marks `row` dead from `seq` on. False, and nothing changes, if it was dead before. Requires: seq > 0.
  bool kill(Row row, Seq seq);
  // The seq of the row's last death, 0 while it lives.
  Seq death(Row row) const {
    const std::atomic<Seq>* seq = deaths_.peek(row);
    return seq == nullptr ? 0 : seq->load(std::memory_order_acquire);
  }
  // Whether the row, born at `born`, is visible at one of these times, ascending.
  bool lives_at_any(Row row, Seq born, const std::vector<Seq>& times) const;
  bool dead_at(Row row, Seq seq) const {
    const Seq death_seq = death(row);
    return (death_seq != 0 && death_seq <= seq) || (!gaps_.empty() && in_gap(row, seq));
  }
  // Whether every row of the segment is dead. One that was so stays so, unless rows are added.
  bool is_history(const Segment& segment) const;
  // Whether no row of it is visible at `seq` or later, by that alone: constant time, and no row is looked at.
  bool is_gone(const Segment& segment, Seq seq) const { return is_history(segment) && last_death() <= seq; }
  // The seq of the last of all deaths, 0 if there was none.
  Seq last_death() const { return last_death_.load(std::memory_order_acquire); }
  // Part of the vector in use, not of its value.
  HistoryMemory& memory() const { return memory_; }
  // Rows that are dead now.
  uint32_t dead_count() const { return dead_count_.load(std::memory_order_acquire); }
  // Whether a row may live, or have lived, although a younger one of its key was dead: else the youngest row of a key
  // decides.
  bool is_layered() const { return layered_; }
  // Whether a row was dead that lived again.
  bool has_gaps() const { return !gaps_.empty(); }
  // Whether a row is dead, or was at some time.
  bool any() const { return dead_count() != 0 || has_gaps(); }

  // As this one says of `from`'s row `source`, for a copy of that row.
  void copy_row(const DeletionVector& from, Row source, Row row);

  // Appends the deaths up to and including `seq` among the first `rows` rows.
  void encode(Row rows, Seq seq, ByteWriter& out) const;
  // Adds what encode() wrote for a segment of `rows` rows. False if it is malformed; then discard this object.
  bool decode(Row rows, ByteReader& in);
  // The same of the gaps that are over at `seq` and wanted; nothing if the rows are not layered. The deaths are decoded
  // first.
  void encode_gaps(Seq seq, const WantedGaps& wanted, ByteWriter& out) const;
  bool decode_gaps(Row rows, ByteReader& in);

 private:
  // A time at which a row was dead that lived again later.
  struct Gap {
    Row row;
    Seq died;
    Seq revived;
  };
  bool in_gap(Row row, Seq seq) const;
  // Of one row, in order of time.
  std::pair<const Gap*, const Gap*> gaps_of(Row row) const;
  // The death by which a row is dead at `seq`, 0 if it lives then; `death_seq`: its last one.
  Seq death_by(Row row, Seq death_seq, Seq seq) const;

  ChunkedArray<std::atomic<Seq>> deaths_;
  std::atomic<uint32_t> dead_count_ = 0;
  std::atomic<Seq> last_death_ = 0;
  bool layered_ = false;
  std::vector<Gap> gaps_;  // by row, then by time; does not change once others see this object
  mutable HistoryMemory memory_;
};

}  // namespace ehub
