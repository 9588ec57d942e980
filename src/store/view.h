// A version at one sequence number, and the one place where reading is written.
//
// A view is a table and a set of rows: it pins the segments that it was made over and sees a row iff the row was born
// at or before its seq, is not dead at it, and is in one of the view's partitions and in its sub-index, if it has any.
// So it shows whole batches, never changes, and needs no lock.
//
// Thread-safety: const calls from any thread.
// Failure: kCorruption where a damaged block is touched; nothing is returned then.

#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/stop.h"
#include "hnsw/graph_file.h"
#include "kernels/scan.h"
#include "store/deletion_vector.h"
#include "store/probe.h"
#include "store/segment.h"
#include "store/types.h"

namespace ehub {

// A segment as part of a table: its rows, and which of them are dead.
struct SegmentRef {
  std::shared_ptr<const Segment> segment;
  std::shared_ptr<DeletionVector> deaths;

  bool is_history() const { return deaths->is_history(*segment); }
  bool is_gone(Seq seq) const { return deaths->is_gone(*segment, seq); }
};

// The segments of a table at some time, oldest first; replaced as a whole, never changed.
struct TableState {
  std::vector<SegmentRef> segments;
};

// A set of rows of one view: a bitmap per segment.
struct Selection {
  std::vector<std::vector<uint64_t>> bitmaps;
  uint64_t row_count = 0;
};

struct SearchOptions {
  size_t k = 10;
  size_t ef = 0;                        // candidates that a walk over a graph keeps; 0: what suits the space
  bool exact = false;                   // scan all rows
  uint64_t scan_rows_max = 4096;        // so few rows of a segment are scanned: as fast as a walk, and exact
  uint64_t coarse_bytes_min = 4 << 20;  // a scan of fewer bytes of a segment's vectors does without coarse rows
  float distance_max = std::numeric_limits<float>::infinity();
  const Selection* filter = nullptr;  // only these rows
  const Ordinal* excluded = nullptr;  // per query, a row that is not an answer (or kNoOrdinal)
  unsigned threads = 0;               // 0: as many as the work and the machine are worth
  StopFlag stopped = nullptr;         // once it is wanted, the search ends with kDeadline
};

struct Search;
struct Walk;
struct SubIndexRows;

class View {
 public:
  View(std::shared_ptr<const TableState> state, Seq seq, Schema schema, uint64_t hash_seed);

  // The rows of this view that are in one of these partitions (numbers of the table). Of all reads, a search and a scan
  // of a partition with few rows do not look at the labels of others: partition_index.h.
  std::shared_ptr<const View> within(std::vector<uint32_t> partitions) const;

  // The rows of this view that are in a sub-index. Requires: `members` is of this view's state, and covers its rows but
  // those of segments that are gone.
  std::shared_ptr<const View> of(std::shared_ptr<const SubIndexRows> members) const;

  Seq seq() const { return seq_; }
  const Schema& schema() const { return schema_; }
  // How many rows are visible. Linear in the number of segments for those that no row died in.
  Result<uint64_t> row_count() const;

  // The visible row of each of `n` keys, or kNoOrdinal; on all cores where there are many.
  Status locate(const std::string_view* keys, size_t n, Ordinal* out) const;
  // The same in the caller's thread, for callers that share the keys out among theirs. `order`: of probing_order().
  Status locate_range(const KeyList& keys, size_t n, const std::vector<size_t>& order, Ordinal* out) const;
  // In which order lookups ask the segments, those that are gone left out. A key has one visible row at most, so it may
  // be any: that with most living rows first.
  std::vector<size_t> probing_order() const;
  // Copies the vector of one key to out[dims]; false if there is none.
  Result<bool> get(std::string_view key, float* out) const;
  // Copies the vectors of `n` located rows to out[n][dims]; rows of kNoOrdinal become zeros. On as many threads as it
  // is worth, at most `threads` (0: the cores).
  Status gather(const Ordinal* rows, size_t n, float* out, unsigned threads = 0) const;
  // Where the vector of a row lies, good while the view lives; for a loop over many rows.
  Result<const float*> vector(Ordinal row) const {
    const Segment& segment = *state_->segments[row >> 32].segment;
    if (const float* known = segment.known_vector(static_cast<Row>(row))) return known;
    Row run = 0;
    return segment.vectors(static_cast<Row>(row), 1, &run);
  }
  // The key of a row that this view gave out; good while the view lives.
  Result<std::string_view> key(Ordinal row) const;
  Result<uint32_t> partition(Ordinal row) const;
  // The seq at which each of `n` located rows was born, 0 for kNoOrdinal.
  Status births(const Ordinal* rows, size_t n, Seq* out) const;
  // How many visible rows each partition has, by number; up to `partitions`, number 0 being no partition.
  Result<std::vector<uint64_t>> partition_counts(uint32_t partitions) const;

  // All visible rows, and the same as a list in the order of a scan.
  Result<Selection> visible() const;
  Result<std::vector<Ordinal>> visible_rows() const;
  // Those of the located rows that exist.
  Selection select(const Ordinal* rows, size_t n) const;

  // The same time over another state of the table. Requires: the time is pinned, so that no row that is visible at it
  // is missing there.
  std::shared_ptr<const View> over(std::shared_ptr<const TableState> state) const;
  // The rows that are visible here and not in `other`, which is over the same state.
  Result<std::vector<Ordinal>> rows_not_in(const View& other) const;

  // The k nearest visible rows of each of `m` queries (float32[m][dims], finite), nearest first. Neighbor::row is an
  // Ordinal. Segments that have a graph are walked, unless few of their rows are asked for; all others are scanned, so
  // that their part of the answer is exact. Fewer than k only if fewer rows are visible, selected and near enough.
  Result<std::vector<std::vector<Neighbor>>> nearest(const float* queries, size_t m,
                                                     const SearchOptions& options) const;

  // The graph that has this view's rows and no others, in the order of a scan, all of it checked; null if there is
  // none.
  std::shared_ptr<const hnsw::GraphFile> sole_graph() const;

  const std::shared_ptr<const TableState>& state() const { return state_; }

 private:
  friend class ScanCursor;
  // The visible row of segment `s` with the key of `youngest`, its youngest row with it; or kNoRow.
  Result<Row> visible_of(size_t s, Row youngest) const;
  Result<Ordinal> find(const Key& key) const;
  Status gather_range(const Ordinal* rows, size_t n, float* out) const;
  // Whether it has the rows of some partitions or of a sub-index alone.
  bool selects() const { return partitions_ != nullptr || members_ != nullptr; }
  // Those of the first `rows` rows of segment `s` that are in the view's partitions and sub-index, dead ones too.
  Result<std::vector<uint64_t>> labelled_in(size_t s, Row rows) const;
  // A bitmap of the rows of segment `s` that it sees; empty if the segment is gone.
  Result<std::vector<uint64_t>> visible_in(size_t s) const;
  // The same, looked up.
  Result<std::vector<uint64_t>> look_in(size_t s) const;
  // Clears the bits of rows of segment `s` that are not visible; `rows` of them are born.
  void keep_visible(size_t s, Row rows, std::vector<uint64_t>& bitmap) const;

  // nearest.cpp
  Status select_in(size_t s, Row rows, const Selection* filter, std::vector<uint64_t>& wanted) const;
  struct WantedRows {
    uint64_t at_least = 0;
    uint64_t at_most = 0;
  };
  Status plan_segment(Search& search, size_t s, WantedRows& all) const;
  void note_old_search(const Search& search, size_t s, uint64_t wanted_count) const;
  // A graph over rows of segment `s` among which all are, or all but a few, that the view has there.
  struct SubsetGraph;
  Result<SubsetGraph> subset_graph(const Search& search, size_t s) const;
  std::unique_ptr<Walk> walk_of(const SearchOptions& options, size_t s, Row rows, uint64_t wanted_count,
                                const SubsetGraph& subset) const;
  bool plan_subset(Search& search, size_t s, Row rows, const SubsetGraph& subset, WantedRows& all) const;
  void plan_among(Search& search, size_t s, std::unique_ptr<Walk> walk, const SubsetGraph& subset) const;
  Status plan_scan(Search& search, size_t s, Row rows) const;
  Result<std::vector<std::vector<Neighbor>>> scan_all(const float* queries, size_t m,
                                                      const SearchOptions& options) const;
  Status scan_instead(const Search& search, size_t q, TopK& heap) const;

  std::shared_ptr<const TableState> state_;
  Seq seq_;
  Schema schema_;
  uint64_t hash_seed_;
  std::shared_ptr<const std::vector<uint32_t>> partitions_;  // ascending; null: rows of all and of none
  std::shared_ptr<const SubIndexRows> members_;              // null: rows of no sub-index
};

// Visible rows in storage order, a batch at a time.
//
// Thread-safety: one thread at a time.
class ScanCursor {
 public:
  explicit ScanCursor(std::shared_ptr<const View> view) : view_(std::move(view)) {}

  struct Batch {
    std::vector<Ordinal> rows;
    const float* vectors = nullptr;     // rows.size() contiguous vectors in the store, or null: gather() them
    std::shared_ptr<const void> owner;  // what keeps `vectors` alive
  };
  // The next at most `rows_max` visible rows; none at the end. Rows that are neighbours in a file are handed out where
  // they lie, unless the run would be so short that copying is cheaper.
  Result<Batch> next(size_t rows_max);

 private:
  Status load_segment();

  std::shared_ptr<const View> view_;
  size_t segment_ = 0;
  Row row_ = 0;
  bool loaded_ = false;
  std::vector<uint64_t> visible_;
};

}  // namespace ehub
