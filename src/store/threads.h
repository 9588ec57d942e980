// Work that is spread over the cores within one call: the threads live as long as it does.
//
// Thread-safety: all calls from any thread.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/status.h"

namespace ehub {

// Cores that this process may use.
unsigned usable_cores();

// How many threads this many units of work are worth: one for each `per_thread` of them, at most `limit` (0: the cores)
// and at least 1.
unsigned threads_worth(uint64_t work, uint64_t per_thread, unsigned limit = 0);

// Runs work(thread) in so many threads, the caller's among them; fewer if they cannot be had. `work` throws nothing.
void run_threads(unsigned thread_count, const std::function<void(unsigned thread)>& work);

// Calls work(begin, end, thread) for ranges of at most `grain` items that together are [0, items), in so many threads.
// The first failure in the order of the ranges, whichever thread met it; no range is begun after one.
Status run_ranges(size_t items, size_t grain, unsigned thread_count,
                  const std::function<Status(size_t begin, size_t end, unsigned thread)>& work);

}  // namespace ehub
