// A graph of one sealed segment, as far as there is one: over all its rows, or over those of a partition or a
// sub-index.
//
// It is looked for when it is first asked for, so that opening a hub costs nothing; what is wrong with it is a reason
// to do without, never to fail.
//
// Thread-safety: all calls from any thread.

#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "hnsw/graph_file.h"
#include "io/file.h"

namespace ehub {

// The kinds of hnsw::GraphSubset: the rows of a partition, by its number in the table, which they keep for ever; and
// those with the keys of a sub-index as they were when the graph was built, by the id of the table that has these keys.
inline constexpr char kPartitionGraph = 'p';
inline constexpr char kSubIndexGraph = 's';

class SegmentGraph {
 public:
  enum class State : uint8_t {
    kUnknown,  // nobody has asked
    kMissing,
    kReady,
    kDamaged,  // there was one, and it may not be used
  };

  // `directory`: of index files.
  SegmentGraph(FileSystem& fs, std::string directory, const hnsw::GraphStamp& stamp)
      : fs_(fs), directory_(std::move(directory)), stamp_(stamp) {}

  // Null if there is none that may be used.
  std::shared_ptr<const hnsw::GraphFile> load();
  State state();
  // Opens the file anew: one that was just written, or that a writer process may have written since.
  void look_again();
  // The same although there is one that may be used, in place of which another was written.
  void look_anew();
  // `graph` is damaged: does without from now on.
  void reject(const hnsw::GraphFile* graph);

  // Whether there is one, in its file alone, and keep_in_memory() was not called for it.
  bool is_only_mapped();
  // Puts a copy in memory in the place of the mapped one, if that takes at most `bytes_max`; searches that are under
  // way keep the mapped one. A damaged one is rejected.
  Status keep_in_memory(uint64_t bytes_max);

  const hnsw::GraphStamp& stamp() const { return stamp_; }
  const std::string& directory() const { return directory_; }

 private:
  void open();

  FileSystem& fs_;
  const std::string directory_;
  const hnsw::GraphStamp stamp_;
  std::mutex mutex_;
  State state_ = State::kUnknown;
  bool tried_memory_ = false;
  std::shared_ptr<const hnsw::GraphFile> graph_;
};

}  // namespace ehub
