// One version's rows: the segments that readers see, and the side on which the one writer works.
//
// Writing is in two steps, so that nothing can fail once a batch is in the log: locate_sealed() finds, by reading
// files, the rows that a batch will kill in sealed segments, and reserve_deaths() takes the memory for that; apply_*()
// then changes memory only, and throws bad_alloc at worst where a row that is not sealed dies. Rows and deaths carry
// the seq of their batch and stay invisible until the hub publishes it.
//
// Thread-safety: the const accessors and view states from any thread; everything under "writer side" only from the
// leader of the commit queue (or recovery, before there are other threads).

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/published.h"
#include "store/fresh_segment.h"
#include "store/manifest.h"
#include "store/pins.h"
#include "store/segment_file.h"
#include "store/view.h"

namespace ehub {

struct FreshRef {
  std::shared_ptr<FreshSegment> segment;
  std::shared_ptr<DeletionVector> deaths;
  bool frozen = false;  // no more rows: a checkpoint is sealing it
};

struct SealedRef {
  std::shared_ptr<const SealedSegment> segment;
  std::shared_ptr<DeletionVector> deaths;

  bool is_history() const { return deaths->is_history(*segment); }
};

// Found by a name that is no std::string.
struct NameHash {
  using is_transparent = void;
  size_t operator()(std::string_view name) const { return std::hash<std::string_view>()(name); }
};
using NumbersByName = std::unordered_map<std::string, uint32_t, NameHash, std::equal_to<>>;

// Rows of a table: per segment, sealed ones before fresh ones, a bitmap.
using RowBitmaps = std::vector<std::vector<uint64_t>>;

// Where in the sealed segments a batch's keys live now: per key an index into sealed() and a row, or kNoOrdinal.
using SealedRows = std::vector<Ordinal>;

class SubIndex;

class Table {
 public:
  Table(TableId id, std::string space, std::string version, const Schema& schema, Seq created);

  const TableId id;
  const std::string space;
  const std::string version;
  const Schema schema;
  const Seq created;

  std::shared_ptr<const TableState> state() const { return state_.load(); }
  bool state_is(const TableState* state) const { return state_.is(state); }
  uint64_t row_count() const { return row_count_.load(std::memory_order_acquire); }
  // When somebody last searched, in milliseconds of the steady clock; 0: never.
  int64_t last_search_ms() const { return last_search_ms_.load(std::memory_order_relaxed); }
  void set_last_search(int64_t milliseconds) const { last_search_ms_.store(milliseconds, std::memory_order_relaxed); }
  // Rows of the graphs that were built for it since the hub was opened. Part of the table in use, not of its value.
  uint64_t rows_built() const { return rows_built_.load(std::memory_order_relaxed); }
  void add_built(uint64_t rows) const { rows_built_.fetch_add(rows, std::memory_order_relaxed); }
  // Rows a second of the last build of a graph over all rows of a segment, since the hub was opened; 0: there was none.
  double build_rate() const { return build_rate_.load(std::memory_order_relaxed); }
  void set_build_rate(double rows_per_second) const { build_rate_.store(rows_per_second, std::memory_order_relaxed); }
  // The last batch that changed a row; of what a reader process loaded, at least that. Of one that is not visible yet,
  // too.
  Seq last_change() const { return last_change_.load(std::memory_order_acquire); }
  bool dropped() const { return dropped_.load(std::memory_order_acquire); }
  // No write changes it any more.
  bool frozen() const { return frozen_.load(std::memory_order_acquire); }
  // Partition number - 1 -> name.
  std::vector<std::string> partition_names() const;
  bool has_partitions() const;
  // The sub-index whose keys are those of `keys`, made known by this call. Part of the table in use, not of its value.
  std::shared_ptr<SubIndex> subindex(const std::shared_ptr<const Table>& keys, uint64_t hash_seed) const;
  // Those that were asked for and not dropped.
  std::vector<std::shared_ptr<SubIndex>> subindices() const;
  // What they hold of their keys is made again when they are next asked.
  void forget_subindices() const;
  // Part of the table in use, not of its value.
  Pins& pins() const { return pins_; }
  // The number of a partition, 0 if no row ever had it.
  uint32_t find_partition(std::string_view name) const;

  // --- writer side ---

  const std::vector<SealedRef>& sealed() const { return sealed_; }
  const std::vector<FreshRef>& fresh() const { return fresh_; }

  Result<SealedRows> locate_sealed(const std::vector<Key>& keys) const;
  void reserve_deaths(const SealedRows& located);
  void reserve_all_deaths();
  // The rows of these partitions, dead ones too, but of segments where something lives. Reads labels of sealed
  // segments: kCorruption.
  Result<RowBitmaps> rows_within(const std::vector<std::string_view>& partitions) const;
  void reserve_deaths(const RowBitmaps& rows);
  // The live rows killed, for the count of rows.
  uint64_t apply_delete(const std::vector<Key>& keys, const SealedRows& located, Seq seq);
  uint64_t apply_delete_all(Seq seq);
  uint64_t apply_delete_rows(const RowBitmaps& rows, Seq seq);
  // Appends one row to `target` (an unfrozen fresh segment of this table) and kills what it replaces. True if it did.
  bool apply_set(FreshSegment& target, const Key& key, Ordinal located, Seq seq, uint32_t partition,
                 const void* vector);
  // What restore() will put in place of the deletion vectors, made before the log knows of it.
  struct Restored {
    std::vector<SealedRef> sealed;
    std::vector<FreshRef> fresh;
    uint64_t rows = 0;
    std::shared_ptr<const TableState> state = nullptr;
    Seq seq = 0;  // of the restore
  };
  // The rows from `seq` on as they were at `then`. `wanted`: as of DeletionVector::restored().
  Result<Restored> restored(Seq then, Seq seq, const WantedGaps* wanted) const;
  // Throws nothing.
  void restore(Restored restored);
  uint32_t partition_number(std::string_view name);
  void set_partition_names(std::vector<std::string> names);

  void add_rows(int64_t delta) { row_count_.fetch_add(static_cast<uint64_t>(delta), std::memory_order_acq_rel); }
  void set_row_count(uint64_t rows) { row_count_.store(rows, std::memory_order_release); }
  void note_change(Seq seq) { last_change_.store(std::max(last_change(), seq), std::memory_order_release); }
  // Whoever still has the table keeps no time of another one by it.
  void set_dropped();
  void set_frozen(bool frozen) { frozen_.store(frozen, std::memory_order_release); }

  // The fresh segment for small batches, made on first use.
  FreshSegment& memory();
  // The youngest file segment that is not frozen, or null; add_fresh() gives the table one.
  std::shared_ptr<FreshSegment> active_file() const;
  std::shared_ptr<FreshSegment> find_file(SegmentId segment_id) const;
  void add_fresh(std::shared_ptr<FreshSegment> segment);
  // Replaces the segment lists and publishes them as the new state; both or, if memory runs out, neither.
  void replace(std::vector<SealedRef> sealed, std::vector<FreshRef> fresh);
  // Marks fresh segments as frozen: file segments always, the memory segment if `memory_too`.
  void freeze(bool memory_too);

 private:
  bool kill_fresh(const Key& key, Seq seq);
  bool kill_located(Ordinal located, Seq seq);
  size_t segment_count() const { return sealed_.size() + fresh_.size(); }
  const Segment& segment(size_t s) const;
  DeletionVector& deaths(size_t s) const;

  std::vector<SealedRef> sealed_;
  std::vector<FreshRef> fresh_;
  Published<TableState> state_;
  std::atomic<uint64_t> row_count_ = 0;
  std::atomic<Seq> last_change_ = 0;
  std::atomic<bool> dropped_ = false;
  std::atomic<bool> frozen_ = false;
  mutable Pins pins_;
  mutable std::atomic<int64_t> last_search_ms_ = 0;
  mutable std::atomic<uint64_t> rows_built_ = 0;
  mutable std::atomic<double> build_rate_ = 0;
  mutable std::mutex subindices_mutex_;
  mutable std::map<TableId, std::shared_ptr<SubIndex>> subindices_;
  mutable std::mutex partitions_mutex_;
  std::vector<std::string> partition_names_;
  NumbersByName partition_numbers_;
};

}  // namespace ehub
