// The graph of one sealed segment, as far as there is one.
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
  // `graph` is damaged: does without from now on.
  void reject(const hnsw::GraphFile* graph);

  const hnsw::GraphStamp& stamp() const { return stamp_; }
  const std::string& directory() const { return directory_; }

 private:
  void open();

  FileSystem& fs_;
  const std::string directory_;
  const hnsw::GraphStamp stamp_;
  std::mutex mutex_;
  State state_ = State::kUnknown;
  std::shared_ptr<const hnsw::GraphFile> graph_;
};

}  // namespace ehub
