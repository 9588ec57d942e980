#include "hnsw/team.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/thread.h"

namespace ehub::hnsw {

Team::Team(unsigned threads, std::function<bool()> ended) : ended_(std::move(ended)) {
  for (unsigned worker = 1; worker < threads; ++worker) {
    try {
      threads_.emplace_back([this, worker, start = ThreadStart()]() mutable {
        start.enter();
        serve(worker);
      });
    } catch (const std::exception&) {
      break;  // no more threads or memory to be had: those that there are do all of it
    }
  }
}

Team::~Team() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  begins_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::take_ranges(unsigned worker) {
  for (size_t begin = next_.fetch_add(grain_); begin < items_; begin = next_.fetch_add(grain_)) {
    if (ended_ && ended_()) return;
    (*work_)(begin, std::min(begin + grain_, items_), worker);
  }
}

void Team::serve(unsigned worker) {
  std::unique_lock lock(mutex_);
  for (uint64_t seen = 0;;) {
    begins_.wait(lock, [&] { return round_ != seen || stopping_; });
    if (stopping_) return;
    seen = round_;
    lock.unlock();
    take_ranges(worker);
    lock.lock();
    if (--busy_ == 0) ends_.notify_one();
  }
}

void Team::run(size_t items, size_t grain, const Work& work) {
  if (threads_.empty() || items <= grain) {
    for (size_t begin = 0; begin < items && !(ended_ && ended_()); begin += grain) {
      work(begin, std::min(begin + grain, items), 0);
    }
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    work_ = &work;
    items_ = items;
    grain_ = grain;
    next_ = 0;
    busy_ = static_cast<unsigned>(threads_.size());
    ++round_;
  }
  begins_.notify_all();
  take_ranges(0);
  std::unique_lock lock(mutex_);
  ends_.wait(lock, [&] { return busy_ == 0; });
}

}  // namespace ehub::hnsw
