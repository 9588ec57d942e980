// What a simulated disk holds, what its page cache shows, and what a power cut may leave: the model behind
// FaultFileSystem.
//
// Each file has a cached image, which reads and mappings show, a durable image, and the ordered changes (writes,
// truncates) since its last sync. Each directory has cached names and durable names; the changes between them are one
// ordered list for the disk. A sync applies changes to the durable side; it never copies the cached side, because a
// change that a failed sync forgot must stay lost although the cache shows it.
//
// Names become durable by sync_directory() of the directory they are in. A rename is one change that belongs to the
// directory of its new name and is made durable whole. Changes of the same name are ordered: none becomes durable
// without the earlier ones.
//
// Files and directories are numbered; a number stays good until crash(). Memory of removed files is given back by
// crash(), too.
//
// Thread-safety: none; FaultFileSystem holds its lock around each call.
// Failure: none; what POSIX would refuse must be refused before.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/fault_image.h"

namespace ehub {

// Disks write this much, aligned, whole or not at all.
inline constexpr uint64_t kSectorBytes = 512;

// What a crash leaves of the changes that were not synced. Synced ones are always kept.
enum class CrashModel : uint8_t {
  kKillProcess,      // only the process died: everything is as it was, and what was not synced still is not
  kDropUnsynced,     // nothing
  kKeepPrefix,       // the first few, names included, of all changes in the order they were made
  kRandomSectors,    // each sector of each write or not, each change of size or not, each change of a name or not
  kTornTail,         // everything, but the last write of each file ends early, at a sector boundary
  kSizeWithoutData,  // names and sizes, but bytes new to the file read as zeros and overwritten ones are old
  kDropNames,        // all bytes and sizes, no names
};

// A small seeded generator (SplitMix64), so that a crash is the same on every machine.
class FaultRandom {
 public:
  explicit FaultRandom(uint64_t seed) : state_(seed) {}
  uint64_t next();
  // Below `limit`. Requires: limit > 0.
  uint64_t below(uint64_t limit) { return next() % limit; }
  bool coin() { return (next() >> 63) != 0; }

 private:
  uint64_t state_;
};

// How much of a write of [offset, offset + size) a disk has done when the power fails: a number of whole sectors, at
// random, never all. Requires: size > 0.
uint64_t torn_write_bytes(FaultRandom& random, uint64_t offset, uint64_t size);

class FaultDisk {
 public:
  using NodeId = uint32_t;
  static constexpr NodeId kRoot = 0;

  using Names = std::map<std::string, NodeId, std::less<>>;

  struct FileChange {
    uint64_t order;  // among all changes of the disk
    bool is_write;
    uint64_t offset;  // of a truncate: the new size
    uint64_t size;    // of a write
    size_t bytes_at;  // of a write: its bytes in Node::unsynced_bytes
  };

  struct Node {
    bool is_directory = false;
    bool linked = true;  // has a cached name
    // A file:
    FileImage cached;
    FileImage durable;
    std::vector<FileChange> unsynced;
    std::vector<uint8_t> unsynced_bytes;
    uint32_t open_handles = 0;
    uint32_t shared_locks = 0;
    bool exclusive_lock = false;
    // A directory:
    Names names;
    Names durable_names;
  };

  FaultDisk();

  Node& node(NodeId id) { return nodes_[id]; }
  const Node& node(NodeId id) const { return nodes_[id]; }

  // Changes of names, cached at once. Requires: directories are directories, `from` and removed names exist, a replaced
  // directory is empty.
  NodeId create(NodeId directory, std::string_view name, bool is_directory);
  void rename(NodeId from_directory, std::string_view from, NodeId to_directory, std::string_view to);
  void remove(NodeId directory, std::string_view name);
  void sync_directory(NodeId directory);

  // Changes of a file, cached at once. Requires: the file stays within kImageBytesMax.
  void write(NodeId file, uint64_t offset, const uint8_t* data, size_t size);
  void truncate(NodeId file, uint64_t size);
  void sync(NodeId file);
  // A failed sync: the changes count as synced but never reach the durable image.
  void forget_unsynced(NodeId file);
  // Both images become these bytes; nothing is left to sync.
  void replace(NodeId file, const uint8_t* data, size_t size);

  // Cached bytes of all files that have a name or are open.
  uint64_t used_bytes() const;

  // Afterwards nothing is unsynced, except after kKillProcess; no file is open or locked; nodes have new numbers.
  void crash(CrashModel model, uint64_t seed);
  // No file is open or locked.
  void drop_handles();

 private:
  struct Name {
    NodeId directory;
    std::string name;
    bool operator==(const Name&) const = default;
  };
  struct NameChange {
    uint64_t order;
    NodeId node;
    std::optional<Name> unset;  // the old name of a rename, or a removed one
    std::optional<Name> set;
  };

  static bool touches(const NameChange& change, const std::vector<Name>& names);
  static void add_names(const NameChange& change, std::vector<Name>& names);
  void apply_durably(const NameChange& change);
  uint64_t random_cut(FaultRandom& random) const;
  void keep_names_before(uint64_t order);
  void keep_random_names(FaultRandom& random);
  void keep_bytes(Node& file, CrashModel model, uint64_t cut, FaultRandom& random);
  void restart_from_durable();
  NodeId copy_durable(const FaultDisk& from, NodeId id);

  std::deque<Node> nodes_;
  std::vector<NameChange> unsynced_names_;
  uint64_t next_order_ = 0;
};

}  // namespace ehub
