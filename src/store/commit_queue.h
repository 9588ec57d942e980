// The one line in which everything that changes a hub stands.
//
// Whoever comes first leads: it takes all that stand in line as a group, does their work, and names the next leader. So
// concurrent writers share one log write and one sync, and no thread is needed for it. Work that must be alone (a
// checkpoint's short critical sections, creating and dropping spaces) stands in the same line and is done by itself.
//
// Thread-safety: all calls from any thread. `commit` and exclusive work never run at the same time as each other.
// Failure: an exception that ends the work becomes the status of all that were part of it, and the line moves on.

#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "base/status.h"

namespace ehub {

// One thread's place in the line. Lives on its stack until its call returns.
struct QueuedWork {
  std::function<Status()> exclusive;  // or empty: an item of a group
  void* item = nullptr;
  uint64_t bytes = 0;  // of the item, to bound a group
  Status status;

  enum class Turn : uint32_t { kWaiting, kLeads, kDone };
  std::atomic<Turn> turn = Turn::kWaiting;
};

class CommitQueue {
 public:
  using Group = std::vector<QueuedWork*>;
  // `commit` does the work of a group and sets each one's status. It runs in the thread of one of them.
  explicit CommitQueue(std::function<void(const Group&)> commit) : commit_(std::move(commit)) {}

  // Returns when `item` has been committed, with its status.
  Status submit(void* item, uint64_t bytes);
  // Runs `work` alone in this thread's turn and returns its status.
  Status run_alone(std::function<Status()> work);

 private:
  Status stand_in_line(QueuedWork& work);
  void lead(QueuedWork& leader);
  Group take_group();

  std::function<void(const Group&)> commit_;
  std::mutex mutex_;
  std::deque<QueuedWork*> line_;
  std::atomic<uint32_t> turns_ = 0;  // counts finished groups; waiters sleep on it
};

}  // namespace ehub
