// What a hub should hold: the oracle of the crash tests. Slow, obvious, and with no file beneath it.
//
// A ModelHub is a value: a map of tables, each a map of rows and, by tag, of rows of the past; and the notes. A table
// is called like its space, or "space@version" if it is not the version "initial". A Step is one atomic change of a
// hub, or a call that must not change what it holds (checkpoint, compact, sync). after() says what a model holds after
// a step; perform() does the same to a Store. Tables that a step leaves alone are shared between models, so that a
// history of hundreds of them is cheap.
//
// Thread-safety: values; one thread.

#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <optional>
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
  std::map<std::string, std::shared_ptr<const ModelSpace>> tags;  // what each shows
  bool frozen = false;
};

struct ModelHub : std::map<std::string, std::shared_ptr<const ModelSpace>> {
  Notes notes;
};

inline constexpr std::string_view kFirstVersion = "initial";

// "space" or "space@version", and back.
inline std::string table_name(const std::string& space, const std::string& version) {
  return version == kFirstVersion ? space : space + "@" + version;
}
inline std::pair<std::string, std::string> space_and_version(const std::string& table) {
  const size_t at = table.find('@');
  if (at == std::string::npos) return {table, std::string(kFirstVersion)};
  return {table.substr(0, at), table.substr(at + 1)};
}
inline bool is_of_space(const std::string& table, const std::string& space) {
  return space_and_version(table).first == space;
}

struct Step {
  enum class Kind : uint8_t {
    kCreate,
    kDrop,  // the space with all versions
    kSet,   // and a delete of `gone`
    kDelete,
    kDeleteAll,
    kDropPartition,
    kCheckpoint,
    kCompact,
    kSync,
    kTag,
    kUntag,
    kRestore,
    kFork,
    kFreeze,
    kDropVersion,
    kErase,  // the keys, from all versions of the space
    kNotes
  };

  Kind kind = Kind::kSync;
  std::string space;
  Schema schema;                                                   // kCreate
  std::vector<std::string> keys;                                   // kSet, kDelete, kErase
  std::vector<std::string> gone;                                   // kSet: of which none is among `keys`
  std::vector<std::shared_ptr<const std::vector<float>>> vectors;  // kSet
  std::vector<std::string> partitions;             // kSet: none, or one per row; kDropPartition: the one
  std::shared_ptr<const std::vector<float>> flat;  // kSet: `vectors` one after the other
  std::string tag;                           // kTag, kUntag; kRestore, kFork: to it; "": to `held`, or else to now
  std::string version;                       // kFork
  std::shared_ptr<const Snapshot> held;      // kTag, kRestore, kFork
  std::shared_ptr<const ModelSpace> showed;  // ... and what it shows
  NoteChanges notes;                         // of the same batch
  bool is_derived = false;                   // kSet, kDelete: need not be durable when it is acknowledged

  // Whether the step is over with all that was before it durable, at any durability.
  bool settles() const {
    return kind == Kind::kCheckpoint || kind == Kind::kSync || kind == Kind::kFork || kind == Kind::kErase;
  }
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

inline Step erase_step(const std::string& space, std::vector<std::string> keys) {
  Step step = delete_step(space, std::move(keys));
  step.kind = Step::Kind::kErase;
  return step;
}

inline Step drop_partition_step(const std::string& space, const std::string& partition) {
  Step step = plain_step(Step::Kind::kDropPartition, space);
  step.partitions = {partition};
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

inline Step history_step(Step::Kind kind, const std::string& table, const std::string& tag, NoteChanges notes = {}) {
  Step step = plain_step(kind, table);
  step.tag = tag;
  step.notes = std::move(notes);
  return step;
}

inline Step fork_step(const std::string& table, const std::string& version, const std::string& tag,
                      NoteChanges notes = {}) {
  Step step = history_step(Step::Kind::kFork, table, tag, std::move(notes));
  step.version = version;
  return step;
}

inline void advance_rows(ModelSpace& space, const Step& step) {
  if (step.kind == Step::Kind::kDeleteAll) space.rows.clear();
  if (step.kind == Step::Kind::kDropPartition) {
    std::erase_if(space.rows, [&](const auto& row) { return row.second.partition == step.partitions.front(); });
  }
  for (const std::string& key : step.gone) space.rows.erase(key);
  for (size_t i = 0; i < step.keys.size(); ++i) {
    if (step.kind == Step::Kind::kDelete) {
      space.rows.erase(step.keys[i]);
    } else {
      space.rows[step.keys[i]] = {step.vectors[i], step.partitions.empty() ? "" : step.partitions[i]};
    }
  }
}

// What the time that a step goes back to shows.
inline std::shared_ptr<const ModelSpace> meant(const ModelHub& hub, const Step& step) {
  if (step.held != nullptr) return step.showed;
  const std::shared_ptr<const ModelSpace> now = hub.at(step.space);
  return step.tag.empty() || step.kind == Step::Kind::kTag ? now : now->tags.at(step.tag);
}

inline void advance_history(ModelSpace& space, const ModelHub& hub, const Step& step) {
  if (step.kind == Step::Kind::kTag) space.tags[step.tag] = meant(hub, step);
  if (step.kind == Step::Kind::kUntag) space.tags.erase(step.tag);
  if (step.kind == Step::Kind::kFreeze) space.frozen = true;
  if (step.kind == Step::Kind::kRestore) {
    space.rows = meant(hub, step)->rows;
    space.neighbors = nullptr;
  }
}

// The table and what its tags show, without these keys.
inline std::shared_ptr<const ModelSpace> without_keys(const ModelSpace& space, const std::vector<std::string>& keys) {
  auto changed = std::make_shared<ModelSpace>(ModelSpace{space.schema, space.rows, {}, {}, space.frozen});
  for (const std::string& key : keys) changed->rows.erase(key);
  for (const auto& [name, tagged] : space.tags) changed->tags[name] = without_keys(*tagged, keys);
  return changed;
}

// What a hub that held `hub` holds after `step`. Requires: the step is possible.
inline ModelHub after(const ModelHub& hub, const Step& step) {
  ModelHub next = hub;
  for (const NoteChange& change : step.notes) {
    next.notes.erase(change.name);
    if (change.text) next.notes[change.name] = *change.text;
  }
  switch (step.kind) {
    case Step::Kind::kCreate:
      next[step.space] = std::make_shared<ModelSpace>(ModelSpace{step.schema, {}, {}, {}, false});
      break;
    case Step::Kind::kDrop:
      std::erase_if(next, [&](const auto& table) { return is_of_space(table.first, step.space); });
      break;
    case Step::Kind::kDropVersion:
      next.erase(step.space);
      break;
    case Step::Kind::kErase:
      for (auto& [name, table] : next) {
        if (is_of_space(name, step.space)) table = without_keys(*table, step.keys);
      }
      break;
    case Step::Kind::kFork: {
      const std::shared_ptr<const ModelSpace> then = meant(hub, step);
      next[table_name(space_and_version(step.space).first, step.version)] =
          std::make_shared<ModelSpace>(ModelSpace{then->schema, then->rows, {}, {}, false});
      break;
    }
    case Step::Kind::kTag:
    case Step::Kind::kUntag:
    case Step::Kind::kRestore:
    case Step::Kind::kFreeze: {
      auto changed = std::make_shared<ModelSpace>(*hub.at(step.space));
      advance_history(*changed, hub, step);
      next[step.space] = changed;
      break;
    }
    case Step::Kind::kSet:
    case Step::Kind::kDelete:
    case Step::Kind::kDeleteAll:
    case Step::Kind::kDropPartition: {
      const ModelSpace& before = *hub.at(step.space);
      auto changed =
          std::make_shared<ModelSpace>(ModelSpace{before.schema, before.rows, {}, before.tags, before.frozen});
      advance_rows(*changed, step);
      next[step.space] = changed;
      break;
    }
    case Step::Kind::kCheckpoint:
    case Step::Kind::kCompact:
    case Step::Kind::kSync:
    case Step::Kind::kNotes:
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
  batch.is_derived = step.is_derived;
  if (step.gone.empty()) return store.write(batch).status();
  return store.replace(batch, {step.gone.begin(), step.gone.end()}).status();
}

inline Status drop_partition(Store& store, const Step& step, const std::shared_ptr<Table>& table) {
  WriteBatch batch;
  batch.kind = WriteBatch::Kind::kDeleteAll;
  batch.table = table;
  const uint32_t number = find_partition(*table, step.partitions.front());
  return number == 0 ? Status() : store.delete_within(batch, {number}).status();
}

inline Result<std::shared_ptr<const Snapshot>> snapshot_for(const Store& store, const Table& table, const Step& step) {
  if (step.held != nullptr) return step.held;
  return step.tag.empty() ? store.snapshot(table) : store.at(table, step.tag);
}

inline Status perform_history(Store& store, const Step& step, const Table& table) {
  if (step.kind == Step::Kind::kTag) return store.set_tag(table, step.tag, step.held.get(), step.notes);
  if (step.kind == Step::Kind::kUntag) return store.remove_tag(table, step.tag, step.notes);
  if (step.kind == Step::Kind::kFreeze) return store.freeze(table, step.notes);
  if (step.kind == Step::Kind::kDropVersion) return store.drop_version(table, step.notes);
  const Result<std::shared_ptr<const Snapshot>> snapshot = snapshot_for(store, table, step);
  if (!snapshot.ok()) return snapshot.status();
  if (step.kind == Step::Kind::kRestore) return store.restore(table, *snapshot.value(), step.notes);
  return store.fork(*snapshot.value(), step.version, step.notes).status();
}

// Done, unless a reader holds files: there is none.
inline Status perform_erase(Store& store, const Step& step) {
  std::vector<Erasure> parts;
  const std::vector<std::string_view> keys(step.keys.begin(), step.keys.end());
  for (const auto& table : store.versions(step.space)) parts.push_back({table, keys, false});
  return store.erase(parts).status();
}

inline Status perform(Store& store, const Step& step) {
  const auto [space, version] = space_and_version(step.space);
  switch (step.kind) {
    case Step::Kind::kCreate:
      return store.create_version(space, version, step.schema, step.notes).status();
    case Step::Kind::kNotes:
      return store.set_notes(step.notes);
    case Step::Kind::kDrop:
      return store.drop_space(step.space);
    case Step::Kind::kErase:
      return perform_erase(store, step);
    case Step::Kind::kCheckpoint:
      return store.checkpoint();
    case Step::Kind::kSync:
      return store.sync();
    default:
      break;
  }
  const Result<std::shared_ptr<Table>> table = store.version(space, version);
  if (!table.ok()) return table.status();
  switch (step.kind) {
    case Step::Kind::kCompact:
      return store.compact(*table.value());
    case Step::Kind::kSet:
    case Step::Kind::kDelete:
    case Step::Kind::kDeleteAll:
      return write_step(store, step, table.value());
    case Step::Kind::kDropPartition:
      return drop_partition(store, step, table.value());
    default:
      return perform_history(store, step, *table.value());
  }
}

}  // namespace ehub::crash
