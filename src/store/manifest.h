// The whole state of a hub between two checkpoints: which spaces, which segments, which rows are dead, which log goes
// on.
//
// `manifest-<number>` is written once and never changed; the file CURRENT names the one that counts and is replaced by
// rename, so the state switches at one instant. FORMAT.md has every byte. The file holds the state twice, each copy
// under a CRC-32C of its own, so damage at one place costs nothing.
//
// Thread-safety: values and pure functions.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/file.h"
#include "store/deletion_vector.h"
#include "store/log_file.h"
#include "store/segment_file.h"
#include "store/types.h"

namespace ehub {

struct ManifestSegment {
  SegmentInfo info;
  std::vector<uint8_t> deaths;  // DeletionVector::encode, of the deaths up to Manifest::seq
  std::vector<uint8_t> gaps;    // DeletionVector::encode_gaps, the same; empty: the rows are not layered
};

// One version of one space.
struct ManifestTable {
  TableId id = 0;
  std::string space;
  std::string version;
  Schema schema;
  Seq created = 0;                      // seq of the batch that created it
  std::vector<std::string> partitions;  // partition number - 1 -> name
  bool frozen = false;
  std::map<std::string, Seq> tags;
  std::vector<ManifestSegment> segments;  // oldest first
};

struct Manifest {
  uint64_t number = 0;
  uint64_t hash_seed = 0;
  Seq seq = 0;                 // batches up to this one are in the segments below or carried at the head of first_log
  LogNumber first_log = 0;     // replay starts here
  uint64_t carried_bytes = 0;  // where the carried rows at the head of first_log end
  // The logs are known to hold all batches up to this one: a log that ends before is damaged, not torn.
  Seq durable_seq = 0;
  bool clean = false;  // written by close(): nothing follows durable_seq, nothing needs recovery
  TableId next_table = 1;
  SegmentId next_segment = 1;
  std::vector<ManifestTable> tables;
  Notes notes;
};

// "<root>/manifest-<number, 12 digits>"
std::string manifest_path(const std::string& root, uint64_t number);

std::vector<uint8_t> encode_manifest(const Manifest& manifest);
// From the first copy that is whole. kCorruption or kFormat name `path`. Every count is bounded before it is allocated
// for.
Result<Manifest> decode_manifest(const std::string& path, const std::vector<uint8_t>& bytes);
// kCorruption if any byte is not as encode_manifest() wrote it, whether decode_manifest() can do without it or not.
Status check_manifest(const std::string& path, const std::vector<uint8_t>& bytes);

// Writes and syncs the file of `manifest`, then makes CURRENT name it, durably.
Status install_manifest(FileSystem& fs, const std::string& root, const Manifest& manifest);
// What CURRENT holds when it names this manifest.
std::string current_text(uint64_t number);
// The number that CURRENT names. kNotFound if there is no CURRENT, kCorruption if it is damaged.
Result<uint64_t> read_current(FileSystem& fs, const std::string& root);
// kCorruption if it is missing or no copy is whole.
Result<Manifest> read_manifest(FileSystem& fs, const std::string& root, uint64_t number);
// Reads it and checks every byte.
Status verify_manifest(FileSystem& fs, const std::string& root, uint64_t number);
// Numbers of the manifest files in the directory, ascending.
Result<std::vector<uint64_t>> list_manifests(FileSystem& fs, const std::string& root);

}  // namespace ehub
