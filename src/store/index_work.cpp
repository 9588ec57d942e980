#include "store/index_work.h"

#include <algorithm>
#include <utility>

namespace ehub {

void IndexWork::set(Job job) {
  const std::lock_guard lock(mutex_);
  job_ = std::move(job);
  control_.rows_done = 0;  // of a build that an exception has ended
}

void IndexWork::begin_graph(uint64_t rows) {
  const std::lock_guard lock(mutex_);
  control_.rows_done = 0;
  job_.rows = rows;
}

void IndexWork::end_graph(bool built) {
  const std::lock_guard lock(mutex_);
  if (built && job_.table != nullptr) job_.table->add_built(job_.rows);
  job_.rows = 0;
  control_.rows_done = 0;
}

uint64_t IndexWork::rows_built(const Table& table) const {
  const std::lock_guard lock(mutex_);
  return table.rows_built() + (job_.table == &table ? rows_done() : 0);
}

IndexWork::Job IndexWork::job_for(const Table& table) const {
  const std::lock_guard lock(mutex_);
  if (job_.table != &table) return {};
  Job job = job_;
  job.rows -= rows_done();
  return job;
}

uint64_t IndexWork::rows_done() const {
  return std::min(control_.rows_done.load(std::memory_order_relaxed), job_.rows);
}

}  // namespace ehub
