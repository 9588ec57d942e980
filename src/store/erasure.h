// Rows removed as if they had never been: from now, from every tag, and from every file of the hub.
//
// An erasure is a checkpoint that rewrites each segment with rows of the keys without them, whatever still wants those
// rows, and whose manifest says that files of before are to go. Until that manifest counts nothing has happened; from
// then on the rows are gone for good, and the mark in it makes the next one to open the hub finish the removing.
//
// Thread-safety: values.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "store/types.h"

namespace ehub {

class Table;

// What is to be erased of one version.
struct Erasure {
  std::shared_ptr<Table> table;
  std::vector<std::string_view> keys;
  bool drops_dead = false;  // also rewrite what has rows of any key that nothing needs any more
};

// What a version has of some keys, rows included that are dead or overwritten and still stored.
struct StoredRows {
  uint64_t rows = 0;
  uint64_t rows_live = 0;
  std::vector<std::string> tags;    // that show some of them
  uint64_t snapshots = 0;           // of the version, held by handles in this process
  std::vector<SegmentId> segments;  // whose files have some of them
};

struct FileRecord {
  std::string path;  // below the hub's directory
  uint64_t bytes = 0;
  uint32_t crc = 0;  // CRC-32C of all bytes, not masked
};

struct ErasureReport {
  std::vector<StoredRows> parts;    // per Erasure, as of the erasing
  std::vector<FileRecord> written;  // the files that say what those of before said, without the rows
  std::vector<FileRecord> removed;
  std::vector<std::string> held;  // files that are still there, for reader processes
  bool done = false;              // nothing is left to be removed
};

}  // namespace ehub
