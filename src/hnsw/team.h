// Threads that work on one thing together, again and again: the stages of a build.
//
// Thread-safety: one thread at a time calls run(). With one thread there is no other than the caller's.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ehub::hnsw {

class Team {
 public:
  // `threads` of them in all, the caller's included; at least 1. Fewer if they cannot be had. `ended`: whether what
  // they work on is not wanted any more, and so from then on; any of them asks. Null: never.
  explicit Team(unsigned threads, std::function<bool()> ended = nullptr);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  unsigned size() const { return static_cast<unsigned>(threads_.size()) + 1; }

  // Calls work(begin, end, worker) for ranges of at most `grain` items that together are [0, items); returns when all
  // are done. `worker` < size() says which thread it is. Which worker gets which range is left to chance. Once `ended`,
  // ranges are left out, and of all later calls all: who calls it asks, too, before what they made is believed.
  using Work = std::function<void(size_t begin, size_t end, unsigned worker)>;
  void run(size_t items, size_t grain, const Work& work);

 private:
  void serve(unsigned worker);
  void take_ranges(unsigned worker);

  const std::function<bool()> ended_;
  std::mutex mutex_;
  std::condition_variable begins_;
  std::condition_variable ends_;
  uint64_t round_ = 0;
  unsigned busy_ = 0;
  bool stopping_ = false;
  const Work* work_ = nullptr;
  size_t items_ = 0;
  size_t grain_ = 1;
  std::atomic<size_t> next_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace ehub::hnsw
