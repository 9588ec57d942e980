#include "store/commit_queue.h"

#include <algorithm>

namespace ehub {
namespace {

// A group's share of the log at most: beyond it, waiting for a larger group costs more than a second sync.
constexpr uint64_t kGroupBytesMax = 8 << 20;

}  // namespace

Status CommitQueue::submit(void* item, uint64_t bytes) {
  QueuedWork work;
  work.item = item;
  work.bytes = bytes;
  return stand_in_line(work);
}

Status CommitQueue::run_alone(std::function<Status()> alone) {
  QueuedWork work;
  work.exclusive = std::move(alone);
  return stand_in_line(work);
}

Status CommitQueue::stand_in_line(QueuedWork& work) {
  {
    const std::lock_guard lock(mutex_);
    line_.push_back(&work);
    if (line_.size() == 1) work.turn.store(QueuedWork::Turn::kLeads, std::memory_order_relaxed);
  }
  while (true) {
    const uint32_t turns = turns_.load(std::memory_order_acquire);
    const QueuedWork::Turn turn = work.turn.load(std::memory_order_acquire);
    if (turn == QueuedWork::Turn::kDone) return std::move(work.status);
    if (turn == QueuedWork::Turn::kLeads) break;
    turns_.wait(turns, std::memory_order_acquire);
  }
  lead(work);
  return std::move(work.status);
}

CommitQueue::Group CommitQueue::take_group() {
  const std::lock_guard lock(mutex_);
  Group group = {line_.front()};
  if (line_.front()->exclusive) return group;
  uint64_t bytes = line_.front()->bytes;
  for (size_t i = 1; i < line_.size() && !line_[i]->exclusive; ++i) {
    bytes += line_[i]->bytes;
    if (bytes > kGroupBytesMax) break;
    group.push_back(line_[i]);
  }
  return group;
}

void CommitQueue::lead(QueuedWork& leader) {
  Group group;
  // Whatever happens, the line must move on: nobody else can make it.
  const Status ended = guarded([&]() -> Status {
    group = take_group();
    if (leader.exclusive) return leader.exclusive();
    commit_(group);
    return {};
  });
  if (leader.exclusive || group.empty()) leader.status = ended;
  if (!ended.ok()) {
    for (QueuedWork* work : group) work->status = ended;
  }
  {
    const std::lock_guard lock(mutex_);
    // If there was not even memory for a group, the leader leaves alone.
    line_.erase(line_.begin(), line_.begin() + static_cast<ptrdiff_t>(std::max<size_t>(1, group.size())));
    if (!line_.empty()) line_.front()->turn.store(QueuedWork::Turn::kLeads, std::memory_order_release);
  }
  // From here on the others may be gone: their turn is the last that is touched of them.
  for (QueuedWork* work : group) {
    if (work != &leader) work->turn.store(QueuedWork::Turn::kDone, std::memory_order_release);
  }
  turns_.fetch_add(1, std::memory_order_release);
  turns_.notify_all();
}

}  // namespace ehub
