// What a batch says in the log: a list of operations, each on one table. FORMAT.md has every byte.
//
// Records are self-contained: replaying them in order on the state they were made on gives the same state again, and
// operations on tables that are gone by then are skipped.
//
// Thread-safety: values and pure functions.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "store/types.h"

namespace ehub {

// Rows of a batch whose vectors are not in the log but in a segment's .f32.
struct Extent {
  SegmentId segment = 0;
  Row first_row = 0;
  Row rows = 0;
  // VectorFile::block_crcs() after these rows, from the block that holds the first byte of first_row on.
  std::vector<uint32_t> block_crcs;
};

struct LogOp {
  enum class Kind : uint8_t {
    kSet = 1,
    kDelete = 2,
    kDeleteAll = 3,
    kCreateTable = 4,
    kDropTable = 5,
    kTag = 6,
    kUntag = 7,
    kRestore = 8,
    kFreeze = 9,
    kNotes = 10,
    kDeleteWithin = 11,
  };
  Kind kind = Kind::kSet;
  TableId table = 0;

  // kSet, kDelete. The bytes belong to whoever made or decoded the operation.
  std::vector<std::string_view> keys;

  // kSet: vectors in the record (not aligned), or else in extents.
  const uint8_t* vectors = nullptr;
  uint64_t vector_bytes = 0;
  std::vector<Extent> extents;
  std::vector<std::string_view> partition_names;  // and kDeleteWithin: of which all rows are deleted
  std::vector<uint32_t> row_partitions;           // per row 0, or 1 + index into partition_names; empty: all 0
  std::vector<Seq> births;                        // carried rows: per row; empty: the record's seq

  // kCreateTable
  std::string_view space;
  std::string_view version;
  Schema schema;

  std::string_view tag;  // kTag, kUntag
  Seq then = 0;          // kTag, kRestore: the time that is meant

  // kNotes, of the hub: what these names say from now on; nothing if there is no text
  std::vector<std::pair<std::string_view, std::optional<std::string_view>>> notes;
};

// The vectors of a set, if it has any, come last.
void encode_op(const LogOp& op, ByteWriter& out);

// The operations of one payload, their views pointing into it. kCorruption names `path` and `offset`.
Result<std::vector<LogOp>> decode_ops(const std::string& path, uint64_t offset, const std::vector<uint8_t>& payload);

}  // namespace ehub
