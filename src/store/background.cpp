// The thread that checkpoints, and syncs at durability "normal"; and the writers that wait for it when it falls behind.

#include <algorithm>
#include <chrono>

#include "base/thread.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

// How far the disk may be behind at durability "normal"; also the pause after a checkpoint that failed.
constexpr auto kInterval = std::chrono::milliseconds(100);

// Writers wait when the log or the rows in memory are this many times what starts a checkpoint.
constexpr uint64_t kBackPressureFactor = 2;

}  // namespace

Status Store::Impl::start_background() {
  if (!options.background) return {};
  return guarded([this]() -> Status {
    background = std::thread([this, start = ThreadStart()]() mutable {
      start.enter();
      run_background();
    });
    return {};
  });
}

void Store::Impl::stop_background() {
  {
    const std::lock_guard lock(background_mutex);
    stopping = true;
  }
  background_wakes.notify_all();
  background_rests.notify_all();
  if (background.joinable()) background.join();
}

void Store::Impl::run_background() {
  std::unique_lock lock(background_mutex);
  while (!stopping) {
    if (!checkpoint_due) {
      const auto woken = [this] { return checkpoint_due || stopping; };
      if (options.durability != Durability::kNormal) {
        background_wakes.wait(lock, woken);
      } else if (!background_wakes.wait_for(lock, kInterval, woken)) {
        lock.unlock();
        (void)guarded([this] { return queue.run_alone([this] { return sync_files(); }); });
        lock.lock();
      }
      continue;
    }
    checkpoint_due = false;
    lock.unlock();
    Status status = checkpoint({});
    lock.lock();
    const bool failed = !status.ok();
    checkpoint_status = std::move(status);
    ++checkpoints_ended;
    background_rests.notify_all();
    if (failed) background_wakes.wait_for(lock, kInterval, [this] { return stopping; });
  }
}

bool Store::Impl::over_limit(uint64_t factor) const {
  const uint64_t base = fresh_base.load();
  const uint64_t rows = fresh_rows.load();
  const uint64_t rows_growth = rows - std::min(rows, base);
  return log_growth.load() > factor * growth_max.load() || fresh_files.load() > factor * options.fresh_files_max ||
         rows_growth > factor * std::max(options.fresh_rows_max, base);
}

void Store::Impl::after_commit() {
  if (!over_limit(1)) return;
  if (!options.background) {
    // The batch is durable; if its checkpoint fails, the next one that is due will say so.
    (void)guarded([&] { return checkpoint({}); });
    return;
  }
  want_checkpoint();
}

void Store::Impl::want_checkpoint() {
  const std::lock_guard lock(background_mutex);
  checkpoint_due = true;
  background_wakes.notify_one();
}

Status Store::Impl::wait_for_room() {
  if (!over_limit(kBackPressureFactor)) return {};
  if (!options.background) return checkpoint({});
  std::unique_lock lock(background_mutex);
  while (over_limit(kBackPressureFactor) && !stopping && !poisoned) {
    const uint64_t ended = checkpoints_ended;
    checkpoint_due = true;
    background_wakes.notify_one();
    background_rests.wait(lock, [&] { return checkpoints_ended != ended || stopping; });
    if (!checkpoint_status.ok()) return checkpoint_status;
  }
  return {};
}

}  // namespace ehub
