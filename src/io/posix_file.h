// The real file system: file.h on POSIX system calls.
//
// What it adds to the contract of file.h:
// - Files are made with mode 0600 and directories with mode 0700; descriptors are closed on exec.
// - Interrupted calls are made again and short reads and writes continued, so the caller never sees either.
// - sync() is fdatasync (F_FULLFSYNC on macOS): contents, and as much metadata as is needed to read them.
// - A path that is a directory cannot be opened as a file (kIo, EISDIR). remove() removes files and empty directories.
// - linked() looks up the path given to open(), so paths should be absolute if the process may change directory, and a
//   file that is renamed is no longer linked.
// - read() and map() see every write at once; a mapping may be used where the file has grown since.
// - Locks are flock(2): they belong to the open File, not to the process. Requires: a File on which try_lock() is
// called
//   holds no lock. At most kLockedFilesMax files are locked at a time; beyond, try_lock() fails with ENOLCK.
//
// Fork: a lock would live on in a child process that inherits the descriptor, after the parent has died. So a child
// closes every locked descriptor before fork() returns; from then on each call on such a File fails with EBADF in the
// child, and the parent keeps its lock. Files without a lock and mappings are inherited as usual.
//
// Thread-safety: as in file.h. Try_lock() and unlock() of one File are ordered by the caller.

#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "io/file.h"

namespace ehub {

inline constexpr size_t kLockedFilesMax = 1024;

class PosixFileSystem : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, Mode mode) override;
  Result<std::unique_ptr<File>> open_directory(const std::string& directory) override;
  // Makes and syncs one level at a time from the top, so that a process that dies in between leaves at most one
  // directory that is not durable: the deepest. The next call syncs it, too.
  Status make_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status sync_directory(const std::string& directory) override;
};

// The one instance: it has no state of its own.
FileSystem& posix_file_system();

}  // namespace ehub
