// The files that make up a hub at one batch, for whoever copies them: a backup.
//
// A reader process has the manifest that it reads locked, so all that this names stays as it is while that store is
// open. Of files that grow, the bytes up to that batch do not change any more.
//
// Thread-safety: values.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/types.h"

namespace ehub {

struct StoredFile {
  std::string path;        // below the hub's directory
  uint64_t bytes = 0;      // that count; the file may have more
  uint64_t row_bytes = 0;  // of a `.f32`; else 0
  SegmentId segment = 0;   // of a sealed segment's file, and of a graph; else 0
  // Of a sealed segment's file: equal for files of the same path only if they have the same contents. Else "".
  std::string stamp = {};
  bool derived = false;  // a graph: built again if it is missing; it may be replaced or go at any time
};

struct StoredFiles {
  uint64_t manifest = 0;
  Seq seq = 0;
  uint64_t hash_seed = 0;  // tells hubs apart
  std::string current;     // what CURRENT says of the manifest
  std::vector<StoredFile> files;
};

}  // namespace ehub
