// What a Store is made of. Its methods are in the files named for what they do:
//
//   store.cpp       the public calls: checks, then one of the below
//   catalog.cpp     names: spaces and versions made and dropped, tags, notes
//   erasure.cpp     rows removed for good
//   history.cpp     points in time: snapshots, restore, fork
//   commit.cpp      a group of batches: log, memory, disk, visible
//   checkpoint.cpp  folding the log into segments; compaction of segments
//   background.cpp  the thread that does so, and writers that wait for it
//   indexer.cpp     graphs for sealed segments, in a thread of its own
//   cleanup.cpp     files that nothing refers to any more
//   recovery.cpp    open, replay, refresh
//   verify.cpp      reading everything and comparing
//   stored_files.cpp  (Store::files) what a backup copies
//   repair.cpp      (Store::repair) a state from what is undamaged
//
// Thread-safety: "leader" members are touched only in a turn of the commit queue (or while nobody else can: open,
// close); "maintenance" members only under maintenance_mutex_.

#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/durations.h"
#include "base/turn.h"
#include "io/file.h"
#include "store/commit_queue.h"
#include "store/disk_reserve.h"
#include "store/indexer.h"
#include "store/log_file.h"
#include "store/log_record.h"
#include "store/manifest.h"
#include "store/rewrite.h"
#include "store/store.h"
#include "store/table.h"

namespace ehub {

// What LOCK holds behind the text about the writer. A seq whose complement does not match is not known.
inline constexpr uint64_t kLockProgressOffset = 512;
struct LockProgress {
  Seq visible = 0;  // for reader processes; both zero as long as the writer has not come so far
  Seq visible_complement = 0;
  Seq owed = 0;  // for a repair: as Store::Impl::owed_seq
  Seq owed_complement = 0;

  bool is_opening() const { return visible == 0 && visible_complement == 0; }
};
static_assert(sizeof(LockProgress) == 32);

// Rows of a large batch that were written to a file segment, and how it was before.
struct Placed {
  std::shared_ptr<FreshSegment> segment;
  Extent extent;
  uint32_t tail_crc = 0;  // for VectorFile::rollback
};

// Makes the changes in `notes`.
void change_notes(const NoteChanges& changes, Notes& notes);
// kInvalidArgument if a name or a text is too long.
Status check_notes(const NoteChanges& changes);
// What the log says of them. Its views point into `changes`.
LogOp notes_op(const NoteChanges& changes);

// Changes of names that only need to be put in their place: the memory for them is taken before the log has them.
class PreparedNotes {
 public:
  explicit PreparedNotes(const NoteChanges& changes);

 private:
  friend struct Store::Impl;
  const NoteChanges& changes_;
  Notes texts_;  // what the changed names say
};

// A batch on its way through the queue; or the part of one that is for one table, and then the next part.
struct PendingBatch {
  const WriteBatch* batch = nullptr;
  std::vector<Key> keys;
  WriteResult result;
  PendingBatch* next = nullptr;
  // Its vectors go into the log however many they are: what a record has in files cannot be torn in part.
  bool is_part = false;

  // Set by the leader.
  SealedRows located;
  RowBitmaps doomed;                        // of a delete of all rows within partitions
  std::vector<Placed> placed;               // of a large batch
  const uint8_t* logged_vectors = nullptr;  // of a small one: where its record has them
  uint64_t rows_killed = 0;                 // live ones, by all of it
  std::optional<PreparedNotes> notes;
};

class Replay;

// Segments that were merged before a checkpoint puts the result in their place.
struct PreparedMerge {
  std::shared_ptr<Table> table;
  std::vector<SealedRef> sources;
  RewrittenApart rewritten;
  bool was_taken = false;  // set by the checkpoint
};

class PreparedTable {
 public:
  explicit PreparedTable(const std::shared_ptr<Table>& table);

 private:
  friend struct Store::Impl;
  std::string space_;
  std::map<std::string, std::map<std::string, std::shared_ptr<Table>>> by_name_;
  std::map<TableId, std::shared_ptr<Table>> by_id_;
};

// A version to be made of another one's segments, as of a checkpoint's cut.
struct Fork {
  std::shared_ptr<Table> source;
  std::string version;
  Seq then = 0;  // leased
  NoteChanges notes;
  std::shared_ptr<Table> made = nullptr;  // set by the checkpoint
  Status status = {};
  bool is_there = false;  // whatever fails after that
};

// Rows to be erased by a checkpoint.
struct PendingErasure {
  const std::vector<Erasure>& parts;
  const NoteChanges& notes;
  ErasureReport report = {};

  const Erasure* of(const Table& table) const;  // null: none
};

struct CheckpointRequest {
  const Table* compacted = nullptr;   // rewrite this table's segments, too, now
  PreparedMerge* prepared = nullptr;  // use this
  bool recovering = false;            // the logs so far are not proven: make that so
  bool closing = false;               // leave a clean hub and refuse later writes
  Fork* fork = nullptr;               // make this
  PendingErasure* erasure = nullptr;  // erase this
  StopFlag stop = nullptr;            // rewrite no more
  bool one_by_one = false;            // of `compacted`, the segment that makes room for the smallest copy

  bool erases(const Table& table) const { return erasure != nullptr && erasure->of(table) != nullptr; }
  // Whether the table's rows may not stay in the log.
  bool seals(const Table& table) const { return (fork != nullptr && fork->source.get() == &table) || erases(table); }
};

// The engine's own note, which Store::notes() does not show: files of before an erasure are still to be removed.
inline constexpr const char* kErasureMark = "erasing";

// What a checkpoint made of the table that was to be compacted.
struct CompactionOutcome {
  bool found_some = false;  // there was something to rewrite
  bool was_short = false;   // ... but no room for a copy of all that
};

struct CheckpointPlan;
struct TableWork;

struct Store::Impl {
  Impl(FileSystem& fs, const std::string& root, const StoreOptions& options);
  ~Impl();

  FileSystem& fs;
  const std::string root;
  const std::string log_directory;
  const std::string segment_directory;
  const std::string index_files_directory;
  const StoreOptions options;
  const uint64_t fork_generation;
  std::unique_ptr<File> lock_file;
  DiskReserve reserve;
  uint64_t hash_seed = 0;

  std::atomic<bool> closed = false;
  std::atomic<Seq> visible_seq = 0;
  // Readers of a read-only hub share it, refresh() takes it alone: state and seq move together.
  mutable std::shared_mutex refresh_mutex;

  using Versions = std::map<std::string, std::shared_ptr<Table>>;
  mutable std::mutex catalog_mutex;
  std::map<std::string, Versions> spaces;  // none without a version
  std::map<TableId, std::shared_ptr<Table>> tables;
  Notes notes;
  std::atomic<uint64_t> names_changes = 0;

  // --- leader ---
  CommitQueue queue;
  std::unique_ptr<LogWriter> log;  // null until the first write after a clean open
  LogNumber log_number = 0;        // of the newest log
  uint64_t log_end = 0;            // where the newest log ends, while `log` is null
  uint64_t log_base = 0;           // bytes of carried rows at its head: no checkpoint makes them fewer
  bool log_continues = true;       // whether the next log may say that it continues the newest one
  Seq last_seq = 0;
  Seq synced_seq = 0;
  Seq owed_seq = 0;  // the last batch that was acknowledged and not derived: if it is missing, something was lost
  TableId next_table = 1;
  Fork* forking = nullptr;  // since its cut; notes that are changed after it stay so
  bool unsynced = false;
  std::vector<ByteWriter> payloads;  // of the group at work; between groups, memory for the next one
  std::vector<std::shared_ptr<FreshSegment>> unsynced_files;
  bool segment_directory_dirty = false;
  // Opened when they are first needed, so that a sync, which cannot be taken back, wants no descriptor.
  std::unique_ptr<File> opened_log_directory;
  std::unique_ptr<File> opened_segment_directory;
  bool closed_for_writes = false;
  std::string poison;  // why; written before `poisoned` is set

  // Written by the leader, read by anyone.
  std::atomic<bool> poisoned = false;
  std::atomic<SegmentId> next_segment = 1;
  std::atomic<uint64_t> log_growth = 0;   // bytes that a checkpoint would remove from the log
  std::atomic<uint64_t> growth_max = 0;   // ... and from how many on it should
  std::atomic<uint64_t> fresh_rows = 0;   // not sealed yet
  std::atomic<uint64_t> fresh_base = 0;   // carried ones among them: no checkpoint makes them fewer
  std::atomic<uint64_t> fresh_files = 0;  // not sealed yet, each with a descriptor; some may be gone with their space
  std::atomic<uint64_t> log_writes = 0;
  std::atomic<uint64_t> rows_rewritten = 0;
  std::atomic<uint64_t> bytes_checked = 0;
  std::atomic<uint64_t> log_bytes = 0;  // of these
  Durations syncs;
  Durations checkpoints;

  // --- maintenance ---
  Turn maintenance_mutex;
  Manifest manifest;           // as last installed or read, without its tables
  std::string spare_log;       // a file whose blocks the next log may write over, or ""
  bool keeps_garbage = false;  // for repair
  // kErasureMark is set: no log is written over, and manifests and logs before these are to go, with what they alone
  // need.
  bool is_erasing = false;
  uint64_t erasing_manifest = 0;
  LogNumber erasing_log = 0;
  std::mutex unfinished_mutex;
  std::set<SegmentId> unfinished;  // segments that are being made beside all checkpoints
  // Segments in a merge that met damage: not worth trying again while the hub is open.
  std::set<SegmentId> unmergeable;

  // --- the background thread ---
  std::thread background;
  std::mutex background_mutex;
  std::condition_variable background_wakes;  // there is work, or the end
  std::condition_variable background_rests;  // a checkpoint ended
  bool checkpoint_due = false;
  bool stopping = false;
  uint64_t checkpoints_ended = 0;
  Status checkpoint_status;  // of the last one in the background

  Indexer indexer{*this};
  std::atomic<int64_t> last_commit_ms = 0;  // steady clock

  // --- a reader process ---
  std::shared_ptr<File> manifest_lock;  // its pin on the manifest that it reads; snapshots keep theirs
  std::unique_ptr<Replay> replay;       // where it stands in the log

  // store.cpp
  Status check_usable() const;
  Status check_writable() const;
  std::vector<std::shared_ptr<Table>> all_tables() const;
  Result<std::shared_ptr<const View>> view_now(const Table& table) const;
  // The same table, shared; null if it was dropped.
  std::shared_ptr<Table> shared_table(const Table& table) const;
  Status close();
  // Whether closing has to make a checkpoint.
  bool is_to_be_settled();
  void release();

  // commit.cpp
  void commit(const CommitQueue::Group& group);
  // Runs `work` so that an exception in it cannot part the log from memory: once the log has grown, it ends all
  // writing.
  Status whole_or_poisoned(const std::function<Status()>& work);
  void refuse_sets(std::vector<PendingBatch*>& batches, CommitQueue::Group& works, const Status& status);
  Status open_once(std::unique_ptr<File>& opened, const std::string& directory);
  Status commit_batches(const std::vector<PendingBatch*>& batches);
  Status prepare(PendingBatch& pending);
  Status prepare_part(PendingBatch& pending);
  Status place_rows(PendingBatch& pending);
  Status place_some(PendingBatch& pending, size_t row);
  void reserve_memory(const std::vector<PendingBatch*>& batches);
  Status log_and_apply(const std::vector<PendingBatch*>& batches);
  void take_back(PendingBatch& pending);
  void take_back_part(PendingBatch& pending);
  Result<std::shared_ptr<FreshSegment>> file_for(Table& table);
  Row segment_rows_max(const Schema& schema) const;
  // Frees the memory of payloads if it is much.
  void trim_payloads();
  Status append_to_log(std::span<const ByteWriter> records);
  // As log->write(), of what `add` adds.
  Status write_group(const std::function<void()>& add);
  void apply(PendingBatch& pending, Seq seq);
  uint64_t apply_part(PendingBatch& pending, Seq seq);
  // Syncs if the durability asks for it, unless all of the group is derived, and publishes.
  Status acknowledge(bool is_derived);
  Status ensure_log();
  Status sync_files();
  // Lets readers see everything up to last_seq, which is owed from now on, or not yet.
  void publish(bool is_owed = true);
  // What a checkpoint now might have to write.
  uint64_t checkpoint_bytes() const;
  Status poison_with(const Status& status);

  // catalog.cpp; what changes names runs in a turn of its own
  Result<std::shared_ptr<Table>> find_space(const std::string& name) const;
  Result<std::shared_ptr<Table>> find_version(const std::string& space, const std::string& version) const;
  Status check_new_version(const std::string& space, const std::string& version) const;
  Result<std::shared_ptr<Table>> create(const std::string& space, const std::string& version, const Schema& schema,
                                        const NoteChanges& changes);
  Status drop(const std::vector<std::shared_ptr<Table>>& dropped, const NoteChanges& changes);
  // One batch of `op`, if there is one, and changes of notes.
  Status commit_op(const LogOp* op, const NoteChanges& changes);
  Status commit_ops(std::vector<LogOp> ops, const NoteChanges& changes);
  Status set_tag(const Table& table, const std::string& tag, Seq then, const NoteChanges& changes);
  Status remove_tag(const Table& table, const std::string& tag, const NoteChanges& changes);
  Status commit_notes(const NoteChanges& changes);
  void apply_notes(PreparedNotes prepared);  // throws nothing
  Status in_turn(const std::function<Status()>& work);
  void add_table(PreparedTable prepared);  // throws nothing
  void remove_table(const Table& table);

  // history.cpp
  Status restore(Table& table, Seq then, const NoteChanges& changes);
  // In the last turn of a checkpoint: what the new version has.
  Status make_fork(Fork& fork, Seq cut);

  // checkpoint.cpp
  Status checkpoint(const CheckpointRequest& request, CompactionOutcome* outcome = nullptr);
  Status checkpoint_unindexed(const CheckpointRequest& request, CompactionOutcome* outcome);
  Status try_checkpoint(const CheckpointRequest& request, CheckpointPlan& plan);
  Status begin_checkpoint(CheckpointPlan& plan);
  void plan_table(CheckpointPlan& plan, const std::shared_ptr<Table>& table) const;
  void choose_compactions(CheckpointPlan& plan) const;
  void choose_compaction(CheckpointPlan& plan, TableWork& work) const;
  Status rotate_log(CheckpointPlan& plan);
  uint64_t count_fresh_files() const;
  Status merge(CheckpointPlan& plan, TableWork& work);
  Status rewrite_together(const CheckpointPlan& plan, TableWork& work);
  void finish_checkpoint(CheckpointPlan& plan);
  Status finish_fork(CheckpointPlan& plan);
  Status install(CheckpointPlan& plan);
  bool is_installed(uint64_t number);
  struct ForkGuard;
  Manifest describe(const CheckpointPlan& plan) const;

  // erasure.cpp, what a checkpoint does where rows are erased; nothing if none are
  Status begin_erasure(CheckpointPlan& plan);
  Status find_erased(CheckpointPlan& plan) const;
  Status clean(CheckpointPlan& plan, TableWork& work);
  Status finish_erasure(CheckpointPlan& plan);
  void give_up_erasure(const CheckpointPlan& plan);
  void record_written(const CheckpointPlan& plan);
  // kConflict if somebody holds a snapshot of one of the tables; sub-indices let go of theirs.
  Status refuse_snapshots(const std::vector<Erasure>& parts) const;
  // Sub-indices notice changes by their seq, and an erasure has none. Allocates nothing.
  void forget_subindices() const;
  // What the mark says, if it is there.
  void read_erasure_mark();
  // After the removing: whether it is over, and then the mark goes, too.
  bool settle_erasure(const std::vector<std::string>& held);

  // background.cpp
  // kIo with EAGAIN if there are too many threads.
  Status start_background();
  void stop_background();
  void run_background();
  bool over_limit(uint64_t factor) const;
  void after_commit();
  // Soon, in the background.
  void want_checkpoint();
  Status wait_for_room();

  // cleanup.cpp
  // Removes what no manifest that counts or is pinned, and no table, refers to. `kept`: segments in use;
  // `first_new`: segments from this one on are younger than that list. `report`, if given, gets what is removed.
  void collect_garbage(const std::vector<SegmentId>& kept, SegmentId first_new, ErasureReport* report = nullptr);
  // Files of segments and graphs that nothing refers to.
  std::vector<std::string> useless_files(const std::set<SegmentId>& kept, SegmentId first_new) const;
  // Those, manifests and logs of before the erasure that are there: reader processes hold them.
  std::vector<std::string> held_files(const std::set<SegmentId>& kept, SegmentId first_new) const;
  std::vector<SegmentId> segments_in_use() const;

  // recovery.cpp
  Status open_writer();
  Status open_reader();
  // Reads owed_seq as the last writer left it.
  Status lock_for_writing();
  Status create_hub();
  Status recover(const Replay& replayed);
  Status load(Manifest loaded);
  Result<Manifest> pin_manifest();
  Result<Seq> acknowledged_by_writer();
  Status follow();
  Status follow_log();
  Status refresh();

  // verify.cpp
  Result<VerifyReport> verify(StopFlag stop);
};

// Of the clock that never goes back.
int64_t steady_milliseconds();

// kFrozen.
Status check_not_frozen(const Table& table);

// Counts forks that this process is the child of.
uint64_t current_fork_generation();

}  // namespace ehub
