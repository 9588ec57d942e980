// Room on the disk that a hub keeps for the day on which the disk is full.
//
// What makes room there needs some first: a delete or a drop its record in the log, and the checkpoint after it the
// `.seg` files of rows that are not sealed, a log, a manifest. So the hub holds blocks in a file without meaning,
// RESERVE, gives them up when one of these meets ENOSPC, and takes them again when there is room; until then sets are
// refused, so that they never get them. A hub on a disk that never had room for the reserve works without one.
//
// Thread-safety: all calls from any thread, but release().

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "io/file.h"

namespace ehub {

class DiskReserve {
 public:
  // Holds nothing, and touches no file.
  DiskReserve(FileSystem& fs, const std::string& root) : fs_(fs), path_(root + "/RESERVE") {}

  // Holds what a hub needs at least, and `more` bytes: grows or shrinks to that. If the disk has not as much, nothing.
  void refill(uint64_t more);
  // The same, but only grows, and only if something is held, which then stays so whether there is room for more or not.
  void extend(uint64_t more);
  // True if something was held: what was refused for want of room may fit now.
  bool give_up();
  // Before a set: if what was given up cannot be held again, as by refill(), why not.
  Status regain(uint64_t more);
  bool held() const { return bytes_ != 0; }
  // Closes the file and leaves it as it is, for the next one to open the hub.
  void release();

 private:
  Status refill_locked(uint64_t more);
  Status resize(uint64_t bytes);

  FileSystem& fs_;
  const std::string path_;
  std::mutex mutex_;
  std::unique_ptr<File> file_;
  // Written under the mutex; read without it where nearly always nothing is to be done.
  std::atomic<uint64_t> bytes_ = 0;     // held
  std::atomic<bool> given_up_ = false;  // by give_up(), and not held again since
  bool disk_is_full_ = false;           // extend() has failed: until refill(), no more of that
};

}  // namespace ehub
