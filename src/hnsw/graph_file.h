// A graph in a file: written once, then mapped. FORMAT.md, section Index files, has every byte.
//
// A graph file is derived from a sealed segment and says which. Whatever is wrong with it (missing, damaged, cut short,
// of other rows, of another release), the segment's rows are scanned instead and the file is built again: it is never a
// reason to fail. Opening maps it and checks what is small; the rest is checked block by block when a walk first
// touches it, until verify() has seen all of it and a walk need not ask any more. A graph that is searched much is
// walked a third faster in memory of its own, on huge pages: in_memory() copies it there.
//
// Thread-safety: a GraphFile is constant but for what it knows of its blocks; any number of threads search it.

#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "hnsw/buffer.h"
#include "hnsw/build.h"
#include "hnsw/graph.h"
#include "io/checked_mapping.h"
#include "io/file.h"

namespace ehub::hnsw {

// Which of the graphs of a segment is meant: that over all rows, or one over some. The layers above say what the kinds
// and numbers are.
struct GraphSubset {
  char kind = 0;  // 0: all rows; or a small letter
  uint64_t number = 0;
  friend auto operator<=>(const GraphSubset&, const GraphSubset&) = default;
};

// The segment that a graph is of.
struct GraphStamp {
  uint64_t segment = 0;
  uint32_t segment_crc = 0;  // of its footer, under which all of its bytes are
  uint32_t rows = 0;         // of the segment
  uint32_t dims = 0;
  Metric metric = Metric::kL2;
  GraphSubset subset = {};
};

// "<directory>/<segment, 12 digits>.hnsw"; of a subset "<directory>/<segment>-<kind><number>.hnsw".
std::string graph_path(const std::string& directory, uint64_t segment, GraphSubset subset);
inline std::string graph_path(const std::string& directory, uint64_t segment) {
  return graph_path(directory, segment, {});
}
// What it is called until it is whole.
std::string unfinished_graph_path(const std::string& directory, uint64_t segment, GraphSubset subset);

// The segment and the subset that a file of this name, whole or not, is of; nothing if no graph has this name.
struct GraphName {
  uint64_t segment = 0;
  GraphSubset subset;
};
std::optional<GraphName> graph_of_name(const std::string& name);

// Writes the file under another name, syncs and renames it; it is there as a whole or not at all. The caller syncs the
// directory. On failure what was written is removed if that can be done. What is no file in its place (a directory, a
// FIFO, a socket, a device) is not ours: it gets ".foreign" at the end of its name, or ".foreign-2" and so on; where it
// cannot, that is the failure.
Status write_graph(FileSystem& fs, const std::string& directory, const GraphStamp& stamp, const BuiltGraph& graph);

class GraphFile {
 public:
  // kNotFound, kCorruption, kFormat (another release's), kIo.
  static Result<std::shared_ptr<const GraphFile>> open(FileSystem& fs, const std::string& directory,
                                                       const GraphStamp& stamp);

  const Encoder& encoder() const { return encoder_; }
  const GraphView& view() const { return view_; }
  const GraphParameters& parameters() const { return parameters_; }
  uint64_t unreachable() const { return unreachable_; }
  uint64_t file_bytes() const { return file_bytes_; }

  // Reads all of it. Afterwards walks go unchecked.
  Status verify() const;

  // The same graph, verified, with its links and codes in memory_bytes() of memory. kCorruption, kOutOfMemory.
  Result<std::shared_ptr<const GraphFile>> in_memory() const;
  bool is_in_memory() const { return memory_.size() != 0; }
  uint64_t memory_bytes() const;

 private:
  friend class GraphFileReader;
  GraphFile(std::shared_ptr<const CheckedMapping> mapping, Encoder encoder);

  std::shared_ptr<const CheckedMapping> mapping_;
  Encoder encoder_;
  GraphView view_;
  GraphParameters parameters_;
  uint64_t unreachable_ = 0;
  uint64_t file_bytes_ = 0;
  mutable GraphGuard guard_;
  Buffer memory_;  // links, codes and what lies beside these; empty while they are in the mapping
};

}  // namespace ehub::hnsw
