// What a hub should hold: the oracle of the crash tests. Slow, obvious, and with no file beneath it.
//
// A ModelHub is a value: a map of spaces, each a map of rows. A Step is one atomic change of a hub, or a call that must
// not change what it holds (checkpoint, compact, sync). after() says what a model holds after a step; perform() does
// the same to a Store. Spaces that a step leaves alone are shared between models, so that a history of hundreds of them
// is cheap.
//
// Thread-safety: values; one thread.

#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/fault_disk.h"
#include "store/store.h"

namespace ehub::crash {

struct ModelRow {
  std::shared_ptr<const std::vector<float>> vector;
  std::string partition;  // "": none

  // Bit for bit.
  bool holds(const float* other) const { return std::memcmp(vector->data(), other, vector->size() * 4) == 0; }
};

// Of one query, nearest first.
struct ModelNeighbor {
  double distance;
  std::string key;
};

struct ModelSpace {
  Schema schema;
  std::map<std::string, ModelRow, std::less<>> rows;
  // Filled by the first search; the rows do not change afterwards.
  mutable std::shared_ptr<const std::vector<ModelNeighbor>> neighbors;
};

using ModelHub = std::map<std::string, std::shared_ptr<const ModelSpace>>;

struct Step {
  enum class Kind : uint8_t { kCreate, kDrop, kSet, kDelete, kDeleteAll, kCheckpoint, kCompact, kSync };

  Kind kind = Kind::kSync;
  std::string space;
  Schema schema;                                                   // kCreate
  std::vector<std::string> keys;                                   // kSet, kDelete
  std::vector<std::shared_ptr<const std::vector<float>>> vectors;  // kSet
  std::vector<std::string> partitions;                             // kSet: none, or one per row
  std::shared_ptr<const std::vector<float>> flat;                  // kSet: `vectors` one after the other

  // Whether the step is over with all that was before it durable, at any durability.
  bool settles() const { return kind == Kind::kCheckpoint || kind == Kind::kSync; }
};

inline Step plain_step(Step::Kind kind, const std::string& space = "") {
  Step step;
  step.kind = kind;
  step.space = space;
  return step;
}

inline Step create_step(const std::string& space, const Schema& schema) {
  Step step = plain_step(Step::Kind::kCreate, space);
  step.schema = schema;
  return step;
}

inline Step delete_step(const std::string& space, std::vector<std::string> keys) {
  Step step = plain_step(Step::Kind::kDelete, space);
  step.keys = std::move(keys);
  return step;
}

// A vector that no other number gives: uniform in [-1, 1), fit for every metric.
inline std::shared_ptr<const std::vector<float>> make_vector(uint32_t dims, uint64_t number) {
  FaultRandom random(number);
  auto vector = std::make_shared<std::vector<float>>(dims);
  for (float& value : *vector) value = static_cast<float>(random.next() >> 40) / float(1 << 23) - 1.0F;
  return vector;
}

inline std::shared_ptr<const std::vector<float>> flatten(const Step& step) {
  auto flat = std::make_shared<std::vector<float>>();
  for (const auto& vector : step.vectors) flat->insert(flat->end(), vector->begin(), vector->end());
  return flat;
}

// A set of `keys` with vectors numbered from `number` on.
inline Step make_set(const std::string& space, uint32_t dims, std::vector<std::string> keys, uint64_t number,
                     std::vector<std::string> partitions = {}) {
  Step step = plain_step(Step::Kind::kSet, space);
  for (size_t i = 0; i < keys.size(); ++i) step.vectors.push_back(make_vector(dims, number + i));
  step.keys = std::move(keys);
  step.partitions = std::move(partitions);
  step.flat = flatten(step);
  return step;
}

inline void advance_rows(ModelSpace& space, const Step& step) {
  if (step.kind == Step::Kind::kDeleteAll) space.rows.clear();
  for (size_t i = 0; i < step.keys.size(); ++i) {
    if (step.kind == Step::Kind::kDelete) {
      space.rows.erase(step.keys[i]);
    } else {
      space.rows[step.keys[i]] = {step.vectors[i], step.partitions.empty() ? "" : step.partitions[i]};
    }
  }
}

// What a hub that held `hub` holds after `step`. Requires: the step is possible.
inline ModelHub after(const ModelHub& hub, const Step& step) {
  ModelHub next = hub;
  switch (step.kind) {
    case Step::Kind::kCreate:
      next[step.space] = std::make_shared<ModelSpace>(ModelSpace{step.schema, {}, {}});
      break;
    case Step::Kind::kDrop:
      next.erase(step.space);
      break;
    case Step::Kind::kSet:
    case Step::Kind::kDelete:
    case Step::Kind::kDeleteAll: {
      const ModelSpace& before = *hub.at(step.space);
      auto changed = std::make_shared<ModelSpace>(ModelSpace{before.schema, before.rows, {}});
      advance_rows(*changed, step);
      next[step.space] = changed;
      break;
    }
    case Step::Kind::kCheckpoint:
    case Step::Kind::kCompact:
    case Step::Kind::kSync:
      break;
  }
  return next;
}

// The partitions of a step as a WriteBatch wants them: distinct names, and per row the number of its name.
struct PackedPartitions {
  explicit PackedPartitions(const std::vector<std::string>& partitions) {
    for (const std::string& partition : partitions) {
      size_t i = 0;
      while (i < names.size() && names[i] != partition) ++i;
      if (i == names.size()) names.push_back(partition);
      rows.push_back(static_cast<uint32_t>(i));
    }
  }
  std::vector<std::string_view> names;
  std::vector<uint32_t> rows;
};

inline Status write_step(Store& store, const Step& step, const std::shared_ptr<Table>& table) {
  const PackedPartitions partitions(step.partitions);
  WriteBatch batch;
  batch.table = table;
  batch.keys.assign(step.keys.begin(), step.keys.end());
  if (step.kind == Step::Kind::kSet) {
    batch.kind = WriteBatch::Kind::kSet;
    batch.vectors = step.flat->data();
    batch.partition_names = partitions.names;
    batch.row_partitions = partitions.rows.empty() ? nullptr : partitions.rows.data();
  } else {
    batch.kind = step.kind == Step::Kind::kDelete ? WriteBatch::Kind::kDelete : WriteBatch::Kind::kDeleteAll;
  }
  return store.write(batch).status();
}

inline Status perform(Store& store, const Step& step) {
  switch (step.kind) {
    case Step::Kind::kCreate:
      return store.create_space(step.space, step.schema).status();
    case Step::Kind::kDrop:
      return store.drop_space(step.space);
    case Step::Kind::kCheckpoint:
      return store.checkpoint();
    case Step::Kind::kSync:
      return store.sync();
    default:
      break;
  }
  const Result<std::shared_ptr<Table>> table = store.space(step.space);
  if (!table.ok()) return table.status();
  return step.kind == Step::Kind::kCompact ? store.compact(*table.value()) : write_step(store, step, table.value());
}

}  // namespace ehub::crash
