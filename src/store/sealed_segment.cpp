#include <algorithm>
#include <utility>

#include "base/check.h"
#include "store/segment_file.h"
#include "store/segment_reader.h"

namespace ehub {

SealedSegment::SealedSegment(FileSystem& fs, std::string directory, Schema schema, uint64_t hash_seed, SegmentInfo info)
    : fs_(fs),
      directory_(std::move(directory)),
      schema_(schema),
      hash_seed_(hash_seed),
      info_(info),
      graph_(std::make_shared<SegmentGraph>(
          fs, index_directory(directory_),
          hnsw::GraphStamp{info.id, info.footer_crc, info.rows, schema.dims, schema.metric, {}})) {}

std::string index_directory(const std::string& segment_directory) {
  return segment_directory.substr(0, segment_directory.rfind('/') + 1) + "index";
}

std::shared_ptr<SegmentGraph> SealedSegment::graph_over(hnsw::GraphSubset subset) const {
  const std::lock_guard lock(subset_graphs_mutex_);
  std::shared_ptr<SegmentGraph>& graph = subset_graphs_[subset];
  if (graph == nullptr) {
    hnsw::GraphStamp stamp = graph_->stamp();
    stamp.subset = subset;
    graph = std::make_shared<SegmentGraph>(fs_, graph_->directory(), stamp);
  }
  return graph;
}

std::vector<std::shared_ptr<SegmentGraph>> SealedSegment::subset_graphs() const {
  const std::lock_guard lock(subset_graphs_mutex_);
  std::vector<std::shared_ptr<SegmentGraph>> graphs;
  for (const auto& [subset, graph] : subset_graphs_) graphs.push_back(graph);
  return graphs;
}

const float* SealedSegment::vector_memory() const {
  const SegmentReader* reader = opened_.load(std::memory_order_acquire);
  return reader == nullptr ? nullptr : reader->vector_memory();
}

SealedSegment::~SealedSegment() = default;

Result<const SegmentReader*> SealedSegment::open() const {
  const std::lock_guard lock(open_mutex_);
  if (const SegmentReader* reader = opened_.load(std::memory_order_relaxed)) return reader;
  auto reader = SegmentReader::open(fs_, directory_, schema_, hash_seed_, info_);
  if (!reader.ok()) return reader.status();
  opened_owner_ = std::move(reader.value());
  opened_.store(opened_owner_.get(), std::memory_order_release);
  return opened_owner_.get();
}

Result<const float*> SealedSegment::vectors(Row row, Row rows_max, Row* n) const {
  EHUB_ASSERT(row < info_.rows && rows_max > 0);
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  *n = std::min(rows_max, info_.rows - row);
  return reader.value()->vectors(row, *n);
}

const float* SealedSegment::known_vector(Row row) const {
  EHUB_ASSERT(row < info_.rows);
  const SegmentReader* reader = opened_.load(std::memory_order_acquire);
  return reader == nullptr ? nullptr : reader->known_vector(row);
}

Result<std::string_view> SealedSegment::key(Row row) const {
  EHUB_ASSERT(row < info_.rows);
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  return reader.value()->key(row);
}

Result<Seq> SealedSegment::born(Row row) const {
  EHUB_ASSERT(row < info_.rows);
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  return reader.value()->born(row);
}

Result<Row> SealedSegment::rows_at(Seq seq) const {
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  return reader.value()->rows_at(seq);
}

Result<uint32_t> SealedSegment::partition(Row row) const {
  EHUB_ASSERT(row < info_.rows);
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  return reader.value()->partition(row);
}

Status SealedSegment::labels(Row row, Row n, uint32_t* out) const {
  EHUB_ASSERT(n <= info_.rows && row <= info_.rows - n);
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  return reader.value()->labels(row, n, out);
}

Result<Row> SealedSegment::find(const Key& key) const {
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  return reader.value()->find(key);
}

Status SealedSegment::find_many(const Key* keys, size_t n, Row* out) const {
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  return reader.value()->find_many(keys, n, out);
}

Result<Row> SealedSegment::older(Row row) const {
  EHUB_ASSERT(row < info_.rows);
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  return reader.value()->older(row);
}

Status SealedSegment::verify() const {
  const auto reader = opened();
  if (!reader.ok()) return reader.status();
  return reader.value()->verify();
}

std::vector<Finding> SealedSegment::findings(std::atomic<uint64_t>* checked) const {
  const auto reader = opened();
  if (reader.ok()) return reader.value()->findings(checked);
  // A file that cannot be used is named first in what is said of it.
  const std::string vectors = vector_path(directory_, info_.id);
  const bool of_vectors = reader.status().message().starts_with(vectors);
  return {finding_of(of_vectors ? vectors : segment_path(directory_, info_.id), reader.status())};
}

std::shared_ptr<const void> SealedSegment::pin() const {
  const std::lock_guard lock(open_mutex_);
  EHUB_ASSERT(opened_owner_ != nullptr);
  return opened_owner_;
}

}  // namespace ehub
