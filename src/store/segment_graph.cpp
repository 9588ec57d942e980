#include "store/segment_graph.h"

namespace ehub {

std::shared_ptr<const hnsw::GraphFile> SegmentGraph::load() {
  const std::lock_guard lock(mutex_);
  if (state_ == State::kUnknown) open();
  return graph_;
}

SegmentGraph::State SegmentGraph::state() {
  const std::lock_guard lock(mutex_);
  if (state_ == State::kUnknown) open();
  return state_;
}

void SegmentGraph::look_again() {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kReady) open();
}

void SegmentGraph::look_anew() {
  const std::lock_guard lock(mutex_);
  open();
}

void SegmentGraph::reject(const hnsw::GraphFile* graph) {
  const std::lock_guard lock(mutex_);
  if (graph_.get() != graph) return;
  graph_.reset();
  state_ = State::kDamaged;
}

bool SegmentGraph::is_only_mapped() {
  const std::lock_guard lock(mutex_);
  return state_ == State::kReady && !tried_memory_;
}

Status SegmentGraph::keep_in_memory(uint64_t bytes_max) {
  std::shared_ptr<const hnsw::GraphFile> mapped;
  {
    const std::lock_guard lock(mutex_);
    if (state_ != State::kReady || tried_memory_) return {};
    tried_memory_ = true;
    mapped = graph_;
  }
  if (mapped->memory_bytes() > bytes_max) return {};
  auto copy = mapped->in_memory();
  if (copy.status().code() == Code::kCorruption) reject(mapped.get());
  if (!copy.ok()) return copy.status();
  const std::lock_guard lock(mutex_);
  if (graph_ == mapped) graph_ = std::move(copy.value());
  return {};
}

void SegmentGraph::open() {
  tried_memory_ = false;
  auto opened = hnsw::GraphFile::open(fs_, directory_, stamp_);
  if (opened.ok()) {
    graph_ = std::move(opened.value());
    state_ = State::kReady;
    return;
  }
  graph_.reset();
  state_ = opened.status().code() == Code::kNotFound ? State::kMissing : State::kDamaged;
}

}  // namespace ehub
