#include "store/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "base/thread.h"

namespace ehub {

unsigned usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<unsigned>(CPU_COUNT(&set));
}

unsigned threads_worth(uint64_t work, uint64_t per_thread, unsigned limit) {
  const uint64_t worth = std::max<uint64_t>(1, work / per_thread);
  return worth == 1 ? 1 : static_cast<unsigned>(std::min<uint64_t>(worth, limit != 0 ? limit : usable_cores()));
}

void run_threads(unsigned thread_count, const std::function<void(unsigned thread)>& work) {
  std::vector<std::jthread> threads;
  // If no more threads can be had, those that are there do the work.
  (void)guarded([&]() -> Status {
    threads.reserve(thread_count - 1);
    for (unsigned t = 1; t < thread_count; ++t) {
      threads.emplace_back([&work, t, start = ThreadStart()]() mutable {
        start.enter();
        work(t);
      });
    }
    return {};
  });
  work(0);
}

Status run_ranges(size_t items, size_t grain, unsigned thread_count,
                  const std::function<Status(size_t begin, size_t end, unsigned thread)>& work) {
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  std::mutex mutex;
  Status first;
  size_t first_begin = items;
  run_threads(thread_count, [&](unsigned thread) {
    while (!failed.load(std::memory_order_relaxed)) {
      const size_t begin = next.fetch_add(grain);
      if (begin >= items) return;
      Status status = guarded([&] { return work(begin, std::min(items, begin + grain), thread); });
      if (status.ok()) continue;
      failed = true;
      const std::lock_guard lock(mutex);
      if (begin >= first_begin) continue;
      first_begin = begin;
      first = std::move(status);
    }
  });
  return first;
}

}  // namespace ehub
