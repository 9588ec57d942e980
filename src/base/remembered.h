// Values that take a while to make and are asked for again and again: the ones that were asked for last.
//
// Thread-safety: all calls from any thread. Nobody waits while a value is made, so two threads may make the same.

#pragma once

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "base/status.h"

namespace ehub {

template <typename Key, typename Value, size_t kKept>
class Remembered {
 public:
  // The value of `key`, made by make(), which gives a Result<Value>, if it is not remembered.
  template <typename Make>
  Result<Value> of(const Key& key, const Make& make) {
    {
      const std::lock_guard lock(mutex_);
      const auto found =
          std::find_if(kept_.begin(), kept_.end(), [&](const auto& entry) { return entry.first == key; });
      if (found != kept_.end()) {
        std::rotate(kept_.begin(), found, found + 1);
        return kept_.front().second;
      }
    }
    Result<Value> made = make();
    if (!made.ok()) return made;
    const std::lock_guard lock(mutex_);
    if (kept_.size() == kKept) kept_.pop_back();
    kept_.emplace(kept_.begin(), key, made.value());
    return made;
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<Key, Value>> kept_;  // the last one first
};

}  // namespace ehub
