// How often something was done and how long it took: counts by duration.
//
// Thread-safety: all calls from any thread. What read() gives is not of one moment, but each number is right by itself.

#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace ehub {

struct DurationCounts {
  // How many took at most so many seconds, and longer than the bound before. The last bound is infinity.
  std::vector<std::pair<double, uint64_t>> counts;
  double seconds = 0;  // all together
};

class Durations {
 public:
  // What `work()` gives; its time is counted, whatever it ends with.
  template <typename Work>
  auto of(Work&& work) {
    const Timer timer(*this);
    return work();
  }

  DurationCounts read() const {
    DurationCounts read;
    for (size_t i = 0; i < kBounds.size(); ++i) {
      read.counts.emplace_back(kBounds[i], counts_[i].load(std::memory_order_relaxed));
    }
    read.seconds = 1e-9 * static_cast<double>(nanoseconds_.load(std::memory_order_relaxed));
    return read;
  }

 private:
  using Clock = std::chrono::steady_clock;

  // Seconds, each four times the one before: from what a fast disk needs for a sync to what is an outage.
  static constexpr double kUnbounded = std::numeric_limits<double>::infinity();
  static constexpr std::array kBounds = {64e-6,      256e-6,   1.024e-3, 4.096e-3,  16.384e-3, 65.536e-3,
                                         262.144e-3, 1.048576, 4.194304, 16.777216, kUnbounded};

  struct Timer {
    explicit Timer(Durations& durations) : to(durations) {}
    ~Timer() { to.add(Clock::now() - began); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    Durations& to;
    const Clock::time_point began = Clock::now();
  };

  void add(Clock::duration taken) {
    const double seconds = std::chrono::duration<double>(taken).count();
    const auto place = std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin();
    counts_[static_cast<size_t>(place)].fetch_add(1, std::memory_order_relaxed);
    const auto count = std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count();
    nanoseconds_.fetch_add(static_cast<uint64_t>(count), std::memory_order_relaxed);
  }

  std::array<std::atomic<uint64_t>, kBounds.size()> counts_ = {};
  std::atomic<uint64_t> nanoseconds_ = 0;
};

}  // namespace ehub
