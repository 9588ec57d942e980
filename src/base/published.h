// A pointer to an immutable state that one side replaces and the other reads.
//
// load() copies a shared pointer under a mutex that is held for that copy alone: never for I/O, a search or a write, so
// nobody waits for anybody's work. (std::atomic<std::shared_ptr> does the same with a spin lock, which ThreadSanitizer
// does not understand in gcc 12.)
//
// Thread-safety: all calls from any thread.

#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace ehub {

template <typename T>
class Published {
 public:
  explicit Published(std::shared_ptr<const T> value) : value_(std::move(value)) {}

  std::shared_ptr<const T> load() const {
    const std::lock_guard lock(mutex_);
    return value_;
  }
  void store(std::shared_ptr<const T> value) {
    {
      const std::lock_guard lock(mutex_);
      value_.swap(value);
    }
    // The old value dies here, outside the lock: it may unmap files.
  }
  // True if load() would still return `value`.
  bool is(const T* value) const {
    const std::lock_guard lock(mutex_);
    return value_.get() == value;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const T> value_;
};

}  // namespace ehub
