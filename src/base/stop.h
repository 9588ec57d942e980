// A wish of the caller that a long call ends soon, whatever it has done by then; another thread makes it.

#pragma once

#include <atomic>

#include "base/status.h"

namespace ehub {

using StopFlag = const std::atomic<bool>*;  // null: nobody can wish it

// Asked between pieces of work of some hundred milliseconds at most.
inline bool is_wanted(StopFlag stop) { return stop != nullptr && stop->load(std::memory_order_relaxed); }

inline Status stopped(const char* what) {
  return {Code::kDeadline, std::string(what) + " was stopped before it was done"};
}

}  // namespace ehub
