// A mutex for work that takes long: who waits for it may tire.
//
// BasicLockable, so that std::lock_guard and std::unique_lock hold it. Not std::timed_mutex, of whose waits
// ThreadSanitizer knows nothing.

#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/stop.h"

namespace ehub {

class Turn {
 public:
  void lock() { (void)lock_unless(nullptr); }

  // Locked if nobody else has it; does not wait.
  bool try_lock() {
    const std::lock_guard lock(mutex_);
    if (taken_) return false;
    taken_ = true;
    return true;
  }

  // False, and not locked, once `stop` is wanted.
  bool lock_unless(StopFlag stop) {
    std::unique_lock lock(mutex_);
    while (taken_ && !is_wanted(stop)) ends_.wait_for(lock, kPatience);
    if (is_wanted(stop)) return false;
    taken_ = true;
    return true;
  }

  void unlock() {
    {
      const std::lock_guard lock(mutex_);
      taken_ = false;
    }
    // All: the one who is woken may have tired, and would wake no other.
    ends_.notify_all();
  }

 private:
  // How often a wish to stop is looked for.
  static constexpr std::chrono::milliseconds kPatience{50};

  std::mutex mutex_;
  std::condition_variable ends_;
  bool taken_ = false;
};

}  // namespace ehub
