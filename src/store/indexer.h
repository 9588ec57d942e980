// The thread that gives sealed segments their graphs, and keeps the segments few.
//
// It follows what checkpoints seal: a segment with enough rows gets a graph file, and segments of one size are merged
// when there are many, the merged one coming into use together with its graph. The rows of a large partition or
// sub-index get a graph of their own in each segment where they are many, but not most: a walk over the whole graph
// that keeps to them would take several times as long. It works at once where somebody searches
// or waits, else when no writes come in, because what is written in one go is better indexed in one piece. What it has
// not done yet is scanned; whatever goes wrong in it costs speed and nothing else.
//
// Segments of history get a graph only where times of the past are searched a lot (StoreOptions::old_searches_min).
//
// Where somebody searches it also takes graphs into memory, as long as that is a small part of what is free. That is
// all it does in a reader process.
//
// Thread-safety: all calls from any thread.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <thread>
#include <vector>

#include "base/status.h"
#include "base/stop.h"
#include "base/turn.h"
#include "hnsw/build.h"
#include "store/compaction.h"
#include "store/index_work.h"
#include "store/store.h"
#include "store/table.h"

namespace ehub {

class MemberRows;
class SubIndex;

// Rows that come with the links of their graph.
struct LinkedRows {
  const std::vector<std::string_view>& keys;
  const hnsw::GivenLinks& links;
  bool were_taken = false;  // set by the indexer: there is a graph of these links now
};

class Indexer {
 public:
  explicit Indexer(Store::Impl& store) : store_(store) {}
  ~Indexer() { stop(); }
  Indexer(const Indexer&) = delete;
  Indexer& operator=(const Indexer&) = delete;

  // Segments may have come, or somebody searches. Starts the thread if there is something to do.
  void wake();
  // Ends the thread; a build that is under way is given up.
  void stop();

  // Returns when every sealed segment of the table that should have a graph has one. Works in the caller's thread, with
  // all cores. `merging`: also makes the table's segments as few as they can be. kClosed if the hub is closed
  // meanwhile. kDeadline once `stop` is wanted: the one build of this call that is under way is thrown away, what was
  // done before it stays, and a job of the indexer's thread or of another caller that was waited for goes on.
  Status settle(const std::shared_ptr<Table>& table, bool merging, StopFlag stop = nullptr);

  // Makes one segment of the table's, and the links its graph, if its rows are these in this order. Works like
  // settle().
  Status adopt(const std::shared_ptr<Table>& table, LinkedRows& linked);

  // While it lives, nothing is done for a table but what settle() and adopt() are called for.
  class Hold {
   public:
    Hold(Indexer& indexer, TableId table);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    Indexer& indexer_;
    const TableId table_;
  };

  // Waits for the job at work; while the result lives, there is none.
  std::unique_lock<Turn> pause() { return std::unique_lock(work_turn_); }

  // Rows that are in the graph being built now, and graphs that had to be built again because they were damaged.
  uint64_t rows_done() const { return control_.rows_done.load(std::memory_order_relaxed); }
  uint64_t rebuilds() const { return rebuilds_.load(std::memory_order_relaxed); }
  // Rows a second of the last build, whichever table it was for; 0 if there was none.
  double build_rate() const { return build_rate_.load(std::memory_order_relaxed); }
  const IndexWork& work() const { return work_; }
  // Rows of graphs that are still to be built for the table, as far as that is known: what the job at work has left,
  // and segments that should have one.
  uint64_t rows_due(const Table& table) const;
  // A segment of the table with fewer rows has no graph.
  Row graph_rows_min(const Table& table) const;

 private:
  // What is to be done for one table next.
  struct Job {
    std::shared_ptr<Table> table;
    std::vector<SealedRef> merged = {};                      // to become one segment, or
    std::shared_ptr<const SealedSegment> segment = nullptr;  // to get a graph
    LinkedRows* linked = nullptr;                            // what to make it of, if these are its rows
    std::shared_ptr<SegmentGraph> into_memory = nullptr;     // a graph that is to be kept there
    hnsw::GraphSubset subset = {};                           // of which rows the segment is to get a graph
    std::shared_ptr<SubIndex> subindex = nullptr;            // ... if that is the rows of one
  };

  void run();
  using Tables = std::vector<std::shared_ptr<Table>>;
  bool find_job(Job* job);
  bool find_build(const Tables& tables, Job* job) const;
  // Whether searches of past times have gone through this segment of history so often that a graph would be worth it.
  bool is_asked(const SealedSegment& history) const;
  // Whether the segment should have a graph, if it has none.
  bool wants_graph(const Table& table, const SealedRef& ref) const;
  // What is due for a merge that has not failed before.
  std::vector<SealedRef> mergeable(const Table& table) const;
  // Whether the segment is about to be rewritten because much of it is dead: a graph over it would be for nothing.
  bool is_left_to_merge(const Table& table, const SealedRef& ref) const;
  void merge_before_build(const std::shared_ptr<Table>& table, unsigned threads, StopFlag stop);
  // Whether a graph over some rows of a segment with a graph is wanted and not there.
  bool wants_graph(const SealedSegment& segment, const MemberRows& rows, TableId keys) const;
  bool find_subset(const Tables& tables, Job* job) const;
  std::vector<Job> subset_jobs(const std::shared_ptr<Table>& table,
                               const std::shared_ptr<const SealedSegment>& segment) const;
  bool find_mapped(const Tables& tables, Job* job) const;
  bool find_merge(const Tables& tables, Job* job) const;
  bool is_due(const Table& table) const;
  // `stop`: of the caller who wants the job.
  Status perform(const Job& job, unsigned threads, StopFlag stop = nullptr);
  Status perform_alone(const Job& job, unsigned threads);
  Status merge(const Job& job, unsigned threads);
  Status build_merged(const Job& job, const RewrittenApart& merged, unsigned threads);
  Status build(const Job& job, const SealedSegment& segment, unsigned threads);
  Status build_subset(const Job& job, const SealedSegment& segment, unsigned threads);
  Status build_subsets(const std::shared_ptr<Table>& table, const std::shared_ptr<const SealedSegment>& segment,
                       unsigned threads);
  IndexWork::Job shown(const Job& job) const;
  void remove_unused(const std::set<SegmentId>& ids);
  Status write(const SegmentGraph& graph, const hnsw::BuiltGraph& built);
  std::function<Seq()> visible_seq() const;
  Tables tables_to_index() const;
  bool given_up(SegmentId id) const;
  CompactionLimits limits_for(const Table& table) const;
  // For work in the caller's thread.
  unsigned threads_of_caller() const;

  Store::Impl& store_;
  hnsw::BuildControl control_;
  IndexWork work_ = IndexWork(control_);
  std::atomic<uint64_t> rebuilds_ = 0;
  std::atomic<double> build_rate_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable wakes_;
  std::thread thread_;
  bool stopping_ = false;
  bool woken_ = false;
  std::multiset<TableId> held_;
  std::vector<SegmentId> given_up_;  // whose build failed; tried again when the hub is opened anew

  Turn work_turn_;  // one job at a time
  std::atomic<bool> performing_ = false;
};

}  // namespace ehub
