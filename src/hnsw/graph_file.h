// A graph in a file: written once, then mapped. FORMAT.md, section Index files, has every byte.
//
// A graph file is derived from a sealed segment and says which. Whatever is wrong with it (missing, damaged, cut short,
// of other rows, of another release), the segment's rows are scanned instead and the file is built again: it is never a
// reason to fail. Opening maps it and checks what is small; the rest is checked block by block when a walk first
// touches it, until verify() has seen all of it and a walk need not ask any more.
//
// Thread-safety: a GraphFile is constant but for what it knows of its blocks; any number of threads search it.

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "hnsw/build.h"
#include "hnsw/graph.h"
#include "io/checked_mapping.h"
#include "io/file.h"

namespace ehub::hnsw {

// The segment that a graph is of.
struct GraphStamp {
  uint64_t segment = 0;
  uint32_t segment_crc = 0;  // of its footer, under which all of its bytes are
  uint32_t rows = 0;
  uint32_t dims = 0;
  Metric metric = Metric::kL2;
};

// "<directory>/<segment, 12 digits>.hnsw"
std::string graph_path(const std::string& directory, uint64_t segment);
// What it is called until it is whole.
std::string unfinished_graph_path(const std::string& directory, uint64_t segment);

// Writes the file under another name, syncs and renames it; it is there as a whole or not at all. The caller syncs the
// directory. On failure what was written is removed if that can be done.
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

 private:
  friend class GraphFileReader;
  GraphFile(std::unique_ptr<CheckedMapping> mapping, Encoder encoder);

  std::unique_ptr<CheckedMapping> mapping_;
  Encoder encoder_;
  GraphView view_;
  GraphParameters parameters_;
  uint64_t unreachable_ = 0;
  uint64_t file_bytes_ = 0;
  mutable GraphGuard guard_;
};

}  // namespace ehub::hnsw
