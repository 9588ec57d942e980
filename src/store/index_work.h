// What the indexer works at, for those who watch it: for which table, and how many rows of graphs are built and left.
//
// Thread-safety: all calls from any thread. One job at a time.

#pragma once

#include <cstdint>
#include <mutex>
#include <set>

#include "hnsw/build.h"
#include "store/table.h"

namespace ehub {

class IndexWork {
 public:
  struct Job {
    const Table* table = nullptr;       // which outlives the job; null: there is none
    std::set<SegmentId> segments = {};  // that get a graph, or become one segment that may
    uint64_t rows = 0;                  // of the graph that is to be built next, or is being built
  };

  // `control`: of the builds.
  explicit IndexWork(hnsw::BuildControl& control) : control_(control) {}

  // A job is at work while it lives.
  class Shown {
   public:
    Shown(IndexWork& work, Job job) : work_(work) { work_.set(std::move(job)); }
    ~Shown() { work_.set({}); }
    Shown(const Shown&) = delete;
    Shown& operator=(const Shown&) = delete;

   private:
    IndexWork& work_;
  };

  // Around the build of each graph of the job. `built`: whether it came to its end.
  void begin_graph(uint64_t rows);
  void end_graph(bool built);

  // Rows of the graphs that were built for the table since the hub was opened, the one being built as far as it is.
  uint64_t rows_built(const Table& table) const;
  // The job for that table; a job of none if there is none now. Its rows are those that are left.
  Job job_for(const Table& table) const;

 private:
  void set(Job job);
  uint64_t rows_done() const;  // of the graph at work

  hnsw::BuildControl& control_;
  mutable std::mutex mutex_;
  Job job_;
};

}  // namespace ehub
