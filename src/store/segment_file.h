// A sealed segment: `<id>.f32`, the bare vectors, and `<id>.seg`, everything about them. FORMAT.md has every byte.
//
// SegmentBuilder collects what a `.seg` says about rows and writes it; SealedSegment maps both files and answers from
// them with nothing built in memory. A sealed segment opens on first use, so that a hub with many of them costs nothing
// to open.
//
// Thread-safety: a builder belongs to one thread; a SealedSegment may be used from any.

#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/finding.h"
#include "base/status.h"
#include "base/stop.h"
#include "io/file.h"
#include "store/segment.h"
#include "store/segment_graph.h"
#include "store/types.h"

namespace ehub {

class SegmentReader;

// What the manifest says of a segment: enough to tell whether the files are the ones meant.
struct SegmentInfo {
  SegmentId id = 0;
  Row rows = 0;
  uint64_t seg_bytes = 0;   // size of the .seg file
  uint32_t footer_crc = 0;  // as the footer says; ties the files to the manifest
  Seq seq_min = 0;
  Seq seq_max = 0;
};

// The directory of index files, beside that of segments.
std::string index_directory(const std::string& segment_directory);

// "<directory>/<id, 12 digits>.f32" and ".seg".
std::string vector_path(const std::string& directory, SegmentId id);
std::string segment_path(const std::string& directory, SegmentId id);

class SegmentBuilder {
 public:
  SegmentBuilder(Schema schema, uint64_t hash_seed);

  // The next row. Requires: `born` > 0 and not below the previous row's; key.hash under the hub's seed; a key of at
  // most kKeyBytesMax bytes, 8 for an integer; at most kSegmentRowsMax rows.
  void add(const Key& key, Seq born, uint32_t partition);
  Row rows() const { return rows_; }
  // Writes and syncs the .seg of `id`; the caller syncs the directory. `block_crcs`: of its .f32, complete and final.
  // On failure the file is removed if that can be done. Memory: about 27 bytes a row and the keys. kDeadline once
  // `stop` is wanted.
  Result<SegmentInfo> write(FileSystem& fs, const std::string& directory, SegmentId id,
                            const std::vector<uint32_t>& block_crcs, StopFlag stop = nullptr);

 private:
  class Output;  // the file being written

  std::string_view key(Row row) const;
  void put_keys(Output& out) const;
  void put_births(Output& out) const;
  Result<SegmentInfo> write_file(File& file, SegmentId id, const std::vector<uint32_t>& block_crcs,
                                 StopFlag stop) const;

  Schema schema_;
  uint64_t hash_seed_;
  Row rows_ = 0;
  std::vector<uint64_t> hashes_;
  std::vector<uint64_t> key_ends_;  // per row, the end of its key in key_bytes_ (string keys)
  std::vector<char> key_bytes_;
  std::vector<std::pair<Row, Seq>> births_;  // first row of each run with one seq
  std::vector<uint32_t> partitions_;         // empty while all are 0
};

class SealedSegment final : public Segment {
 public:
  SealedSegment(FileSystem& fs, std::string directory, Schema schema, uint64_t hash_seed, SegmentInfo info);
  ~SealedSegment() override;

  const SegmentInfo& info() const { return info_; }
  // The whole of both files against their checksums, every key against the key table, every count against the others.
  Status verify() const;
  // The same in full: each damaged part of each file; none if all is well. `checked`: CheckedMapping::findings().
  std::vector<Finding> findings(std::atomic<uint64_t>* checked = nullptr) const;

  // The graph over its rows. Part of the segment in use, not of its value.
  SegmentGraph& graph() const { return *graph_; }
  const std::shared_ptr<SegmentGraph>& whole_graph() const { return graph_; }
  // The graph over some of its rows; made known by this call, whether there is a file or not.
  std::shared_ptr<SegmentGraph> graph_over(hnsw::GraphSubset subset) const;
  // Those that were asked for.
  std::vector<std::shared_ptr<SegmentGraph>> subset_graphs() const;
  // Queries of past times, when all its rows were dead already, that had so many of its rows to go through that a graph
  // would have served them. Part of the segment in use, not of its value.
  uint64_t old_searches() const { return old_searches_.load(std::memory_order_relaxed); }
  void add_old_searches(uint64_t queries) const { old_searches_.fetch_add(queries, std::memory_order_relaxed); }
  // Where its vectors are mapped, unchecked: for prefetching alone. Null if it was never opened.
  const float* vector_memory() const;

  Row row_count() const override { return info_.rows; }
  Seq seq_max() const override { return info_.seq_max; }
  Result<const float*> vectors(Row row, Row rows_max, Row* n) const override;
  const float* known_vector(Row row) const override;
  Result<std::string_view> key(Row row) const override;
  Result<Seq> born(Row row) const override;
  Result<Row> rows_at(Seq seq) const override;
  Result<uint32_t> partition(Row row) const override;
  Status labels(Row row, Row n, uint32_t* out) const override;
  Result<Row> find(const Key& key) const override;
  Status find_many(const Key* keys, size_t n, Row* out) const override;
  Result<Row> older(Row row) const override;

  // Keeps both files' mappings alive, for arrays that outlive the hub. Requires: a call that succeeded before.
  std::shared_ptr<const void> pin() const;

 private:
  // The mapped files, opened by the first caller; every caller gets the same failure until one succeeds.
  Result<const SegmentReader*> opened() const {
    if (const SegmentReader* reader = opened_.load(std::memory_order_acquire)) return reader;
    return open();
  }
  Result<const SegmentReader*> open() const;

  FileSystem& fs_;
  std::string directory_;
  Schema schema_;
  uint64_t hash_seed_;
  SegmentInfo info_;
  const std::shared_ptr<SegmentGraph> graph_;
  mutable std::mutex subset_graphs_mutex_;
  mutable std::map<hnsw::GraphSubset, std::shared_ptr<SegmentGraph>> subset_graphs_;
  mutable std::atomic<uint64_t> old_searches_ = 0;
  mutable std::mutex open_mutex_;
  mutable std::shared_ptr<const SegmentReader> opened_owner_;
  mutable std::atomic<const SegmentReader*> opened_ = nullptr;
};

}  // namespace ehub
