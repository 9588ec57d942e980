// A hub on disk: spaces by name, one total order of batches, one writer process, any number of reader processes.
//
// The way of a write: write() -> queue -> log (durable) -> rows in a fresh segment -> visible. Writers that arrive
// while the disk is busy share one write and one sync (group commit). Everything that changes the hub passes through
// that one queue, a checkpoint's two short critical sections included; reads take a view and never wait for any of it.
//
// Thread-safety: all calls from any thread, but for open() and the end of the object.
// Fork: the child's copy is unusable; every call says so (kClosed).
// Failure: a failed call changes nothing. After a failed sync the hub is read-only (kReadOnly) until it is opened
// again.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/durations.h"
#include "base/finding.h"
#include "base/status.h"
#include "base/stop.h"
#include "hnsw/given_links.h"
#include "io/file.h"
#include "store/erasure.h"
#include "store/snapshot.h"
#include "store/stored_files.h"
#include "store/types.h"
#include "store/view.h"

namespace ehub {

class SubIndex;
class Table;
struct PendingBatch;

struct StoreOptions {
  bool read_only = false;
  Durability durability = Durability::kFull;
  // What follows has the right value for nearly all; tests shrink it to meet every boundary.

  // A batch with at least so many bytes of vectors is written straight to a segment. A smaller one goes whole into the
  // log: one sync, and a copy by the next checkpoint, cost less than two syncs.
  uint64_t large_batch_bytes = 256 << 10;
  uint64_t log_step_bytes = 256 << 10;        // a small log grows by this
  uint64_t log_bytes_max = 32 << 20;          // a checkpoint begins when the log has grown by this much
  uint64_t fresh_rows_max = 1 << 20;          // ... or when so many rows are not sealed yet
  uint64_t fresh_files_max = 256;             // ... or when so many files, each with a descriptor, are not
  uint64_t segment_bytes_max = 1 << 30;       // of vectors in one segment
  uint64_t carry_bytes_max = 256 << 10;       // a table with fewer, and fewer than graph_rows_min, stays in the log
  uint64_t carry_total_bytes_max = 64 << 20;  // ... unless all such tables together have more than this
  Row graph_rows_min = 4096;                  // a segment with fewer rows is scanned, and needs no graph
  // A segment of history gets a graph after so many queries had to go through it: about as many as cost what a graph
  // costs.
  uint64_t old_searches_min = 1000;
  bool background = true;  // checkpoints and graphs in threads of their own; false: within the call that needs them
};

// What a note says from now on; none if there is no text. Changes that a call takes are part of its batch: both happen
// or neither.
struct NoteChange {
  std::string name;
  std::optional<std::string> text;
};
using NoteChanges = std::vector<NoteChange>;

// Of a row in a WriteBatch that has partitions: none.
inline constexpr uint32_t kNoPartition = ~uint32_t{0};

// One atomic batch for one table. Another thread may change the values of `vectors` during write(): then some of the
// new ones are stored and some of the old, possibly unchecked, but readers, the log and the disk agree on which.
struct WriteBatch {
  enum class Kind : uint8_t { kSet, kDelete, kDeleteAll };
  Kind kind = Kind::kSet;
  std::shared_ptr<Table> table;
  std::vector<std::string_view> keys;
  const float* vectors = nullptr;  // kSet: float32[keys.size()][dims]
  // kSet: none, or the names that row_partitions refers to. Of others delete_within() makes use.
  std::vector<std::string_view> partition_names;
  // Per row an index into partition_names, or kNoPartition; null: all rows the first one.
  const uint32_t* row_partitions = nullptr;
  // kSet, in write_all(): if it says so, keys that are there must be in one of these partitions (numbers of the table).
  bool is_bound = false;
  std::vector<uint32_t> bounds;
  NoteChanges notes;  // of the same batch, even if no row is set or deleted
  // What can be made again from other rows: acknowledged before it is on the disk, which is not before the next batch
  // that is not derived, checkpoint or close.
  bool is_derived = false;
  // Once it is wanted while vectors are still on their way to a file, write() ends with kDeadline and nothing is
  // stored.
  StopFlag stop = nullptr;
};

struct WriteResult {
  Seq seq = 0;
  uint64_t rows_set = 0;
  uint64_t rows_deleted = 0;  // by kDelete, kDeleteAll: rows that were there
};

struct SegmentStats {
  SegmentId id = 0;  // 0: in memory
  uint64_t rows = 0;
  uint64_t rows_dead = 0;
  uint64_t bytes = 0;
};

struct TableStats {
  uint64_t rows = 0;
  std::vector<SegmentStats> segments;
};

// How far the index is, and how large.
struct IndexStats {
  uint64_t rows = 0;           // visible ones
  uint64_t rows_indexed = 0;   // of the segments with a graph, dead ones included
  uint64_t rows_scanned = 0;   // of those without, but not of history, which a search of what lives passes by
  uint64_t rows_waiting = 0;   // of those scanned, in segments that have enough rows to get a graph
  uint64_t segments = 0;       // with a graph
  uint64_t subsets = 0;        // graphs over the rows of a partition or a sub-index in a segment
  uint64_t bytes = 0;          // of the graph files
  uint64_t unreachable = 0;    // rows that no walk can come to
  uint64_t rebuilds = 0;       // graphs of the hub built again because they were damaged
  uint64_t rows_building = 0;  // of the graph that is being built for the hub now, so far
  double rows_per_second = 0;  // of the table's last build of a whole graph since the hub was opened; 0: there was none
  uint64_t rows_built = 0;     // of the graphs that were built for the table since the hub was opened; grows in a build
  uint64_t rows_due = 0;       // of graphs that are still to be built for it, as far as is known
  uint32_t ef = 0;             // the largest default of the graphs
  uint32_t code_bits = 0;      // the widest of the graphs
};

// What the hub has written since it was opened, and what waits for a checkpoint.
struct WriteStats {
  uint64_t log_writes = 0;     // groups of batches that went to the log together
  uint64_t log_bytes = 0;      // of them
  uint64_t log_bytes_due = 0;  // that a checkpoint would remove from the log
  uint64_t rows_unsealed = 0;
  uint64_t snapshots = 0;  // held in this process, those that named averages hold among them
  DurationCounts syncs;    // of the log and of vectors, one for each file
  DurationCounts checkpoints;
  bool is_poisoned = false;  // a failure has ended all writing until the hub is opened again
};

// What long calls have done since the hub was opened, for those who watch them.
struct WorkStats {
  uint64_t rows_rewritten = 0;  // into new segments, by checkpoints, compactions and erasures
  uint64_t bytes_checked = 0;   // by verify()
  double build_rate = 0;        // rows a second of the last build of a whole graph, whichever table it was for
};

struct VerifyReport {
  uint64_t files = 0;
  uint64_t bytes = 0;
  uint64_t rows = 0;
  std::vector<Finding> findings;  // empty: all is well
};
struct RepairReport {
  uint64_t rows_kept = 0;
  // Rows that were visible and are gone, as far as they are known: at most, if the keys of some are not, because later
  // batches may have set or deleted those again.
  uint64_t rows_dropped = 0;
  // Batches of which nothing is known: rows they set are gone, and what they overwrote or deleted shows again. A
  // damaged record of carried rows, and a log of which nothing is left, count as one.
  uint64_t batches_dropped = 0;
  std::vector<Finding> dropped;  // what was damaged, and what was done about it
};

class Store {
 public:
  // Opens the hub in directory `root`, made if missing unless read-only. kLocked names the pid of another writer;
  // kNotFound if read-only and there is no hub; kCorruption, kFormat.
  static Result<std::unique_ptr<Store>> open(FileSystem& fs, const std::string& root, const StoreOptions& options);
  ~Store();  // as close(), errors ignored
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // --- names; each change is durable when the call returns ---

  // A space with the version "initial". kExists, kInvalidArgument.
  Result<std::shared_ptr<Table>> create_space(const std::string& name, const Schema& schema,
                                              const NoteChanges& notes = {});
  // A further version of a space, or the first one of a new space. kExists, kInvalidArgument.
  Result<std::shared_ptr<Table>> create_version(const std::string& space, const std::string& version,
                                                const Schema& schema, const NoteChanges& notes = {});
  // The version "initial", or else the oldest. kNotFound.
  Result<std::shared_ptr<Table>> space(const std::string& name) const;
  // kNotFound.
  Result<std::shared_ptr<Table>> version(const std::string& space, const std::string& version) const;
  std::vector<std::string> spaces() const;
  // Oldest first; none if there is no such space.
  std::vector<std::shared_ptr<Table>> versions(const std::string& space) const;
  // With all versions. kNotFound.
  Status drop_space(const std::string& name, const NoteChanges& notes = {});
  Status drop_version(const Table& table, const NoteChanges& notes = {});
  // No write changes the version any more, for ever. Tags can still be made, and the version dropped.
  Status freeze(const Table& table, const NoteChanges& notes = {});

  Notes notes(const std::string& prefix) const;
  std::optional<std::string> note(const std::string& name) const;
  // Another number whenever notes or versions have changed since it was asked for; for caches.
  uint64_t names_changes() const;
  // kInvalidArgument if one is too long.
  Status set_notes(const NoteChanges& notes);

  // --- points in time ---

  // All acknowledged batches, held until the object goes. No write, no copy.
  Result<std::shared_ptr<const Snapshot>> snapshot(const Table& table) const;
  // A name for the snapshot's time, or for now: rows that are visible then are kept as long as the tag is there.
  // kExists, kInvalidArgument.
  Status set_tag(const Table& table, const std::string& tag, const Snapshot* snapshot, const NoteChanges& notes = {});
  // kNotFound.
  Status remove_tag(const Table& table, const std::string& tag, const NoteChanges& notes = {});
  std::map<std::string, Seq> tags(const Table& table) const;
  // kNotFound.
  Result<std::shared_ptr<const Snapshot>> at(const Table& table, const std::string& tag) const;
  // One batch after which the table has the rows of the snapshot's time and no others. Nothing is copied, and what was
  // before stays visible to snapshots and tags. Requires: `snapshot` is of `table`.
  Status restore(const Table& table, const Snapshot& snapshot, const NoteChanges& notes = {});
  // A new version that begins with the rows of the snapshot and shares its segments. kExists, kInvalidArgument.
  Result<std::shared_ptr<Table>> fork(const Snapshot& snapshot, const std::string& version,
                                      const NoteChanges& notes = {});

  // --- erasing ---

  // What the table has of these keys. Changes nothing; what its sub-indices hold, they let go until they are read.
  Result<StoredRows> stored_rows(const Table& table, const std::vector<std::string_view>& keys) const;
  // How many of these keys, which differ, none of the tables has a row of.
  Result<uint64_t> missing_keys(const std::vector<std::shared_ptr<Table>>& tables,
                                const std::vector<std::string_view>& keys) const;
  // Every key of which a row is stored, dead ones included, once.
  Result<std::vector<std::string>> stored_keys(const Table& table) const;
  // Manifests that reader processes hold, which keeps the files that these name.
  Result<std::vector<std::string>> held_manifests() const;
  // Erases all rows of the keys that were written before: one atomic change, durable when the call returns, of frozen
  // versions and tags as well. Then files of before are removed but for those that reader processes hold: as long as
  // there are such, `done` is false, and checkpoints and finish_erasure() go on. Each table at most once. kConflict
  // if a version has open snapshots; kNotFound, kCorruption, kIo (it needs room for the segments that it rewrites).
  // `notes` change in the same step, and not if it fails.
  Result<ErasureReport> erase(const std::vector<Erasure>& parts, const NoteChanges& notes = {});
  // Removes what readers have let go of since.
  Result<ErasureReport> finish_erasure();

  // --- rows ---

  // kNotFound if the table was dropped, kFrozen, kInvalidKey, kInvalidVector (names the row), kReadOnly, kIo (no
  // space).
  Result<WriteResult> write(const WriteBatch& batch);

  // The same for a set, and deletes the keys `gone`, in one atomic batch. kInvalidArgument if a key is in both.
  Result<WriteResult> replace(const WriteBatch& batch, const std::vector<std::string_view>& gone);

  // One batch over several tables, each at most once: all of it or nothing. Its vectors go through the log whole,
  // unless it is over one. kConflict if one of them is bound to partitions and has a key that is in another when its
  // turn comes.
  Status write_all(const std::vector<WriteBatch>& batches);

  // Deletes, of the batch's keys or of all (kDelete, kDeleteAll), the rows that are in one of these partitions when its
  // turn comes: a key that was moved to another partition by then stays. One atomic batch. Of all rows (kDeleteAll),
  // the log is told the names of the partitions alone, however many rows that are.
  Result<WriteResult> delete_within(const WriteBatch& batch, const std::vector<uint32_t>& partitions);

  // The same as write() of rows that come with a graph: `links` are among the batch's rows, by their places in it. The
  // rows are sealed, and the links become the graph of their segment, so that nothing is built. True if they did; else
  // (the table has other rows, too, or too few for a graph) the index follows as it does for any rows. Requires: a
  // batch of Kind::kSet of different keys. If the sealing fails, the rows are there all the same.
  Result<bool> write_linked(const WriteBatch& batch, const hnsw::GivenLinks& links);

  // The table as of now: every acknowledged batch. kNotFound if it was dropped.
  Result<std::shared_ptr<const View>> view(const Table& table) const;
  // The sub-index of `table` that has the keys of `keys`, another table of the hub with keys of the same type. It is
  // given graphs as long as it is known: once this was called.
  Result<std::shared_ptr<SubIndex>> subindex(const Table& table, const Table& keys) const;
  // Its rows as of now: every acknowledged batch of both. kNotFound if either was dropped.
  Result<std::shared_ptr<const View>> view_of(const Table& table, SubIndex& subindex) const;
  Result<uint64_t> row_count(const Table& table) const;
  TableStats stats(const Table& table) const;

  // Partition names and how many visible rows each has.
  Result<std::vector<std::pair<std::string, uint64_t>>> partitions(const Table& table) const;

  // Makes everything acknowledged so far durable, whatever the durability.
  Status sync();
  // Folds the log into segments now. Once `stop` is wanted, segments that were to be rewritten as well stay as they
  // are, and who still waits for another's checkpoint, compaction or verification leaves with kDeadline. The log is
  // folded to the end: what was sealed by then would be sealed again by the next checkpoint, which is due as much.
  Status checkpoint(StopFlag stop = nullptr);
  // Rewrites the table's segments without dead rows, and small ones together. That takes room for a copy of what lives
  // in those that become one; where there is none, those with dead rows are rewritten one by one, and small ones stay.
  // Once `stop` is wanted: kDeadline, and what is not rewritten by then stays as it is.
  Status compact(const Table& table, StopFlag stop = nullptr);
  // Returns when every segment that should have a graph has one. kDeadline once `stop` is wanted; see
  // Indexer::settle().
  Status wait_indexed(const Table& table, StopFlag stop = nullptr);
  // Makes the table's segments as few as can be, each with its graph, on all cores. `stop` as of wait_indexed().
  Status optimize(const Table& table, StopFlag stop = nullptr);
  IndexStats index_stats(const Table& table) const;
  WriteStats write_stats() const;
  WorkStats work_stats() const;
  // Notes that the table is searched: its index is worth being kept close behind the writing.
  void note_search(const Table& table) const;
  // A reader: moves on to what the writer has acknowledged. A writer: nothing to do.
  Status refresh();
  // Reads and checks all files. For a hub with findings, repair() when it is closed. kDeadline if `stop` is wanted
  // before the end.
  Result<VerifyReport> verify(StopFlag stop = nullptr) const;
  // A reader: what it sees, as files, which stay as they are until it is refreshed or closed. kInvalidArgument for a
  // writer.
  Result<StoredFiles> files() const;
  // Reads and checks the manifest and the files of these sealed segments, as verify() does.
  Result<std::vector<Finding>> damage_of(const std::set<SegmentId>& segments) const;
  // Idempotent. Writes a state that opens without recovery.
  Status close();

  bool closed() const;
  bool is_read_only() const;
  // The last batch that readers see.
  Seq visible_seq() const;
  const std::string& root() const;

  // For a closed hub: rebuilds a state from all that is provably undamaged, drops the rest, and opens the result to
  // verify it. Old files are moved to `<root>/lost+found` as they were; what is not the hub's is left alone. kNotFound
  // if there is no hub, kCorruption if no manifest is readable.
  static Result<RepairReport> repair(FileSystem& fs, const std::string& root);

  struct Impl;  // store_impl.h

 private:
  explicit Store(std::unique_ptr<Impl> impl);
  Status commit_bound(PendingBatch& first);

  std::unique_ptr<Impl> impl_;
};

// What the outside may know of a table.
TableId table_id(const Table& table);
const std::string& table_space(const Table& table);
const std::string& table_version(const Table& table);
bool table_frozen(const Table& table);
const Schema& table_schema(const Table& table);
// By number - 1; names stay when the last row of a partition is gone. And the number of a name, 0 if there is none.
std::vector<std::string> partition_names(const Table& table);
uint32_t find_partition(const Table& table, std::string_view name);

}  // namespace ehub
