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

void SegmentGraph::reject(const hnsw::GraphFile* graph) {
  const std::lock_guard lock(mutex_);
  if (graph_.get() != graph) return;
  graph_.reset();
  state_ = State::kDamaged;
}

void SegmentGraph::open() {
  auto opened = hnsw::GraphFile::open(fs_, directory_, stamp_);
  if (opened.ok()) {
    graph_ = std::move(opened.value());
    state_ = State::kReady;
    return;
  }
  state_ = opened.status().code() == Code::kNotFound ? State::kMissing : State::kDamaged;
}

}  // namespace ehub
