// The only way from the engine to the disk.
//
// Everything above this layer names files by path and talks to a FileSystem; posix_file.h is the real one and
// fault_file.h a simulated one that forgets, tears and fails on request. The rules they share are the rules of POSIX at
// their weakest: written bytes are durable only after sync() of their file, names only after sync_directory() of their
// directory, and a failed sync() means that the bytes may be lost although later calls succeed.
//
// Thread-safety: a FileSystem may be used from any thread. A File may be read and mapped from any thread; calls that
// change it are ordered by the caller.
// Failure: Status kIo with the errno of the call, kNotFound if a path does not exist, kOutOfMemory for ENOMEM. What is
// no file is kIo at once, whatever the mode and its rights: EISDIR for a directory, ENXIO for a FIFO, a socket or a
// device.

#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace ehub {

// Read-only bytes of a file, as they are now and as later writes make them. Copies share the mapping; it ends with the
// last of them. Bytes at and beyond the end of the file must not be touched.
struct Mapping {
  const uint8_t* data = nullptr;
  size_t size_bytes = 0;
  std::shared_ptr<const void> owner;
};

// What is written to a file in one call of this size, at a multiple of it, a file system with large folios (ext4, XFS)
// keeps in one piece of memory, and a processor maps that as one page.
inline constexpr uint64_t kHugePageBytes = 2 << 20;

class File {
 public:
  virtual ~File() = default;
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Reads exactly `size` bytes; kCorruption if the file ends before.
  virtual Status read(uint64_t offset, void* buffer, size_t size) = 0;
  // Writes all bytes, growing the file as needed. On failure any part may have been written.
  virtual Status write(uint64_t offset, const void* data, size_t size) = 0;
  // Returns when all bytes written so far, and the size, are durable. After a failure nothing written since the last
  // success may be believed, and calling again proves nothing.
  virtual Status sync() = 0;
  // A hint: begin moving these bytes to the disk and return at once. Never fails, promises nothing.
  virtual void start_writeback(uint64_t offset, uint64_t size) = 0;
  virtual Status truncate(uint64_t size) = 0;
  // Allocates blocks so that writes below `size` need no more of them; the file grows to `size`, new bytes read as
  // zeros. After a failure it has the size and the blocks that it had before.
  virtual Status reserve(uint64_t size) { return truncate_up(size); }
  virtual Result<uint64_t> size() = 0;
  // Maps the first `size` bytes, which may reach beyond the present end so that a growing file is mapped once.
  virtual Result<Mapping> map(size_t size) = 0;

  // Advisory lock, held until unlock() or the end of this object, dropped by the kernel if the process dies. Does not
  // wait: false if another open file holds a conflicting one.
  virtual Result<bool> try_lock(bool exclusive) = 0;
  virtual void unlock() = 0;
  // False once the name has been removed or replaced since open: what is locked is no longer what others will open.
  virtual Result<bool> linked() = 0;

 private:
  Status truncate_up(uint64_t size) {
    Result<uint64_t> now = this->size();
    if (!now.ok()) return now.status();
    return now.value() < size ? truncate(size) : Status();
  }
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  enum class Mode : uint8_t {
    kRead,          // an existing file, for reading
    kWrite,         // an existing file, for reading and writing
    kCreate,        // for reading and writing; made empty, or emptied if it exists
    kOpenOrCreate,  // for reading and writing; made if missing, kept as it is otherwise
  };
  virtual Result<std::unique_ptr<File>> open(const std::string& path, Mode mode) = 0;
  // A directory as something to sync, which needs no further descriptor: its sync() is sync_directory(). Of the other
  // calls none is of use.
  virtual Result<std::unique_ptr<File>> open_directory(const std::string& directory) = 0;
  // Makes the directory, and its parents, if missing; existing ones are fine. Durable after the parents are synced,
  // which this call does.
  virtual Status make_directory(const std::string& path) = 0;
  // Names in a directory, sorted, without "." and "..".
  virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
  // Atomic: `to` names either its old file or the one that `from` named.
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status remove(const std::string& path) = 0;
  virtual Status sync_directory(const std::string& directory) = 0;
};

// Whether open() says by `status` that there is something, and that it is no file.
inline bool is_no_file(const Status& status) {
  return status.error_number() == EISDIR || status.error_number() == ENXIO;
}

}  // namespace ehub
