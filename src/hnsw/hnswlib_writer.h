// Writes a graph as a file that hnswlib loads and answers from; hnswlib_format.h has its bytes.
//
// What a graph of ours has in place of HNSW's upper layers hnswlib cannot use, so it is given some: every M-th node is
// on the first, every M-th of these on the next, each a small graph of its own. Below them a walk begins at any of
// these nodes, so only those count from which all rows can be reached. Twins, which are no nodes here, are a chain
// there: each has the links of its node and, but for the last, the next twin in place of the farthest.
//
// Thread-safety: pure, but for the team and the file.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/metric.h"
#include "base/status.h"
#include "hnsw/build.h"
#include "hnsw/team.h"
#include "io/file.h"

namespace ehub::hnsw {

// Rows and their graph.
struct HnswlibSource {
  GraphInput rows;                   // none are fine
  const uint64_t* labels = nullptr;  // [rows], all different
  const uint32_t* links = nullptr;   // [rows][link_stride], as a GraphView has them
  size_t link_stride = 0;
  uint32_t M = 0;                // a row's first 2 M links are written
  uint32_t ef_construction = 0;  // what hnswlib inserts further rows with
};

// Writes the file under another name, syncs and renames it: `path` is there as a whole or as it was. Under cosine the
// vectors are written normalised, as hnswlib keeps them. kInvalidArgument if a link leads nowhere; kIo.
Status write_hnswlib(FileSystem& fs, const std::string& path, const HnswlibSource& source, Team& team);

}  // namespace ehub::hnsw
