// How much memory things of one kind may take together, in the whole process: a part of what is available.
//
// They are things that make work faster and are done without where there is no room.
//
// Thread-safety: all calls from any thread. No lock, which a fork could leave held.

#pragma once

#include <atomic>
#include <cstdint>

namespace ehub {

class MemoryBudget {
 public:
  // One part in `share` of what would be available if nothing were taken. Looked at anew every second.
  explicit constexpr MemoryBudget(uint64_t share) : share_(share) {}

  // False: there is no room, and nothing is taken. To be followed by give() of as much.
  bool take(uint64_t bytes);
  void give(uint64_t bytes) { taken_.fetch_sub(bytes, std::memory_order_relaxed); }
  uint64_t taken() const { return taken_.load(std::memory_order_relaxed); }

  // From now on `bytes`, whatever is available. For tests.
  void fix(uint64_t bytes);

 private:
  uint64_t limit();

  const uint64_t share_;
  std::atomic<uint64_t> taken_ = 0;
  std::atomic<uint64_t> limit_ = 0;
  std::atomic<int64_t> look_again_ms_ = 0;  // of the steady clock
};

}  // namespace ehub
