// A sub-index: the rows of one table whose keys are in a set, which is the keys of another table, so that it is as
// durable as rows are.
//
// Which rows of a segment have such keys does not change as rows die or are written over, so it is kept like the labels
// of partitions: found once, carried on as a fresh segment grows, and changed by the keys that came and went since the
// last time (a lease holds that time). A write to the table costs nothing here, and the search after it looks at the
// rows that are new.
//
// Thread-safety: all calls from any thread.
// Failure: that of reading keys; what is there stays.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "hnsw/graph_file.h"
#include "store/row_set.h"
#include "store/snapshot.h"
#include "store/view.h"

namespace ehub {

// The rows of one segment that have keys of a set, dead ones too.
class MemberRows {
 public:
  explicit MemberRows(std::shared_ptr<const Segment> segment) : segment_(std::move(segment)) {}

  const std::shared_ptr<const Segment>& segment() const { return segment_; }
  // Looks at those of the first `rows` rows that were not looked at yet. Always the same keys.
  Status cover(const View& keys, uint64_t hash_seed, Row rows);
  // The same rows after some keys came and others went.
  Result<std::shared_ptr<MemberRows>> changed(const std::vector<Key>& come, const std::vector<Key>& gone) const;

  void mark(Row limit, std::vector<uint64_t>& bitmap) const;
  bool has(Row row) const;
  uint64_t count() const;

  // What a graph over the rows of a set as it was once has of them as they are now.
  struct Coverage {
    std::shared_ptr<const hnsw::GraphFile> graph;
    std::vector<uint64_t> covered;  // rows that the graph has
    std::vector<uint64_t> extra;    // rows of the set that it lacks; empty if there are none
    uint64_t extra_count = 0;
    uint64_t gone_count = 0;  // rows of the graph that are not in the set
  };
  // Requires: a sealed segment, all of whose rows were looked at.
  std::shared_ptr<const Coverage> coverage(const std::shared_ptr<const hnsw::GraphFile>& graph) const;

 private:
  Status cover_by_keys(const View& keys, uint64_t hash_seed, Row rows);
  Status cover_by_rows(const View& keys, Row rows);

  const std::shared_ptr<const Segment> segment_;
  mutable std::shared_mutex mutex_;
  Row covered_ = 0;
  RowSet rows_;
  mutable std::mutex coverage_mutex_;
  mutable std::shared_ptr<const Coverage> coverage_;
};

// The rows of a sub-index in each segment of a state of its table.
struct SubIndexRows {
  TableId keys = 0;
  std::shared_ptr<const TableState> state;
  Seq seq = 0;    // up to which rows were looked at
  Seq since = 0;  // ... and from when on: of segments that are gone then nothing was
  std::vector<std::shared_ptr<const MemberRows>> segments;
};

class SubIndex {
 public:
  // `keys`: the table whose keys are the set.
  SubIndex(std::shared_ptr<const Table> keys, uint64_t hash_seed) : keys_(std::move(keys)), hash_seed_(hash_seed) {}

  const Table& keys() const { return *keys_; }

  // The rows of `view` that are in it as of now. kNotFound if it was deleted. `now`: the hub's visible seq. Requires:
  // in a reader process, no refresh meanwhile.
  Result<std::shared_ptr<const View>> over(const View& view, const std::function<Seq()>& now, bool read_only);
  // Its rows in one sealed segment.
  Result<std::shared_ptr<const MemberRows>> rows_in(const std::shared_ptr<const Segment>& segment,
                                                    const std::function<Seq()>& now);
  // Holds nothing, and no time of the table of keys, until it is asked again.
  void forget();

 private:
  Status follow(const std::function<Seq()>& now, bool read_only);
  Status change(const View& before, const View& after);
  Result<std::shared_ptr<MemberRows>> covered(const std::shared_ptr<const Segment>& segment, Row rows);
  void forget_gone();

  const std::shared_ptr<const Table> keys_;
  const uint64_t hash_seed_;
  std::mutex mutex_;
  std::optional<Lease> lease_;  // of the time of the keys below
  std::shared_ptr<const View> set_;
  std::unordered_map<const Segment*, std::shared_ptr<MemberRows>> segments_;
  std::shared_ptr<const SubIndexRows> last_;
};

}  // namespace ehub
