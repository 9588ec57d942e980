#include "base/memory_budget.h"

#include <chrono>
#include <limits>

#include "base/memory.h"

namespace ehub {
namespace {

constexpr int64_t kPatienceMs = 1000;

int64_t now_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

}  // namespace

bool MemoryBudget::take(uint64_t bytes) {
  const uint64_t most = limit();
  uint64_t taken = taken_.load(std::memory_order_relaxed);
  do {
    if (bytes > most || taken > most - bytes) return false;
  } while (!taken_.compare_exchange_weak(taken, taken + bytes, std::memory_order_relaxed));
  return true;
}

void MemoryBudget::fix(uint64_t bytes) {
  look_again_ms_ = std::numeric_limits<int64_t>::max();
  limit_ = bytes;
}

uint64_t MemoryBudget::limit() {
  int64_t look_again = look_again_ms_.load(std::memory_order_relaxed);
  const int64_t now = now_ms();
  if (now >= look_again &&
      look_again_ms_.compare_exchange_strong(look_again, now + kPatienceMs, std::memory_order_relaxed)) {
    limit_.store((available_memory() + taken()) / share_, std::memory_order_relaxed);
  }
  return limit_.load(std::memory_order_relaxed);
}

}  // namespace ehub
