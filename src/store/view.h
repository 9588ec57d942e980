// A version at one sequence number, and the one place where reading is written.
//
// A view is a table and a set of rows: it pins the segments that it was made over and sees a row iff the row was born
// at or before its seq and is not dead at it. So it shows whole batches, never changes, and needs no lock.
//
// Thread-safety: const calls from any thread.
// Failure: kCorruption where a damaged block is touched; nothing is returned then.

#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "hnsw/graph_file.h"
#include "kernels/scan.h"
#include "store/deletion_vector.h"
#include "store/segment.h"
#include "store/types.h"

namespace ehub {

// A segment as part of a table: its rows, and which of them are dead.
struct SegmentRef {
  std::shared_ptr<const Segment> segment;
  std::shared_ptr<DeletionVector> deaths;
};

// The segments of a table at some time, oldest first; replaced as a whole, never changed.
struct TableState {
  std::vector<SegmentRef> segments;
};

// Where a row is: an index into TableState::segments in the upper 32 bits, the row below.
using Ordinal = uint64_t;
inline Ordinal make_ordinal(size_t segment, Row row) { return (uint64_t{segment} << 32) | row; }
inline constexpr Ordinal kNoOrdinal = std::numeric_limits<Ordinal>::max();

// A set of rows of one view: a bitmap per segment.
struct Selection {
  std::vector<std::vector<uint64_t>> bitmaps;
  uint64_t row_count = 0;
};

struct SearchOptions {
  size_t k = 10;
  size_t ef = 0;                  // candidates that a walk over a graph keeps; 0: what suits the space
  bool exact = false;             // scan all rows
  uint64_t scan_rows_max = 4096;  // so few rows of a segment are scanned: as fast as a walk, and exact
  float distance_max = std::numeric_limits<float>::infinity();
  const Selection* filter = nullptr;  // only these rows
  const Ordinal* excluded = nullptr;  // per query, a row that is not an answer (or kNoOrdinal)
  unsigned threads = 0;               // 0: as many as the work and the machine are worth
};

struct Search;

class View {
 public:
  View(std::shared_ptr<const TableState> state, Seq seq, Schema schema, uint64_t hash_seed);

  Seq seq() const { return seq_; }
  const Schema& schema() const { return schema_; }
  // How many rows are visible. Linear in the number of segments for those that no row died in.
  Result<uint64_t> row_count() const;

  // The visible row of each of `n` keys, or kNoOrdinal.
  Status locate(const std::string_view* keys, size_t n, Ordinal* out) const;
  // Copies the vector of one key to out[dims]; false if there is none.
  Result<bool> get(std::string_view key, float* out) const;
  // Copies the vectors of `n` located rows to out[n][dims]; rows of kNoOrdinal become zeros.
  Status gather(const Ordinal* rows, size_t n, float* out) const;
  // The key of a row that this view gave out; good while the view lives.
  Result<std::string_view> key(Ordinal row) const;
  Result<uint32_t> partition(Ordinal row) const;

  // All visible rows.
  Result<Selection> visible() const;
  // Those of the located rows that exist.
  Selection select(const Ordinal* rows, size_t n) const;

  // The k nearest visible rows of each of `m` queries (float32[m][dims], finite), nearest first. Neighbor::row is an
  // Ordinal. Segments that have a graph are walked, unless few of their rows are asked for; all others are scanned, so
  // that their part of the answer is exact. Fewer than k only if fewer rows are visible, selected and near enough.
  Result<std::vector<std::vector<Neighbor>>> nearest(const float* queries, size_t m,
                                                     const SearchOptions& options) const;

  // sum over the located rows of weight * vector, in float64, to out[dims]. Null weights are all 1.
  Status weighted_sum(const Ordinal* rows, const double* weights, size_t n, double* out) const;

  // The graph that has this view's rows and no others, in the order of a scan, all of it checked; null if there is
  // none.
  std::shared_ptr<const hnsw::GraphFile> sole_graph() const;

  const std::shared_ptr<const TableState>& state() const { return state_; }

 private:
  friend class ScanCursor;
  // The visible row of `key` in segment `s`, or kNoRow.
  Result<Row> find_in(size_t s, const Key& key) const;
  Result<Ordinal> find(const Key& key) const;
  Status locate_chunk(const Key* keys, size_t n, Ordinal* out) const;
  Result<std::vector<uint64_t>> visible_in(size_t s) const;
  // Clears the bits of rows of segment `s` that are not visible; `rows` of them are born.
  void keep_visible(size_t s, Row rows, std::vector<uint64_t>& bitmap) const;

  // nearest.cpp
  struct WantedRows {
    uint64_t at_least = 0;
    uint64_t at_most = 0;
  };
  Status plan_segment(Search& search, size_t s, WantedRows& all) const;
  Status plan_scan(Search& search, size_t s, Row rows) const;
  Result<std::vector<std::vector<Neighbor>>> scan_all(const float* queries, size_t m,
                                                      const SearchOptions& options) const;
  Status scan_instead(const Search& search, size_t q, TopK& heap) const;

  std::shared_ptr<const TableState> state_;
  Seq seq_;
  Schema schema_;
  uint64_t hash_seed_;
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
