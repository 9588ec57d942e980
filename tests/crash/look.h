// Reads all that a hub holds, by every way of reading, and says how it differs from a model.
//
// look() scans each space. differs() compares what it saw, bit for bit. disagrees() then asks the other ways of reading
// (count, key lookup, copies, partitions, nearest neighbours) whether they tell the same.
//
// Thread-safety: one thread. Pointers in a SeenHub are good while it lives, and longer than the store.

#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "model.h"
#include "store/store.h"

namespace ehub::crash {

struct SeenRow {
  std::string key;
  const float* vector = nullptr;
  uint32_t partition = 0;
};

struct SeenSpace {
  std::shared_ptr<Table> table;
  std::shared_ptr<const View> view;
  std::vector<SeenRow> rows;  // sorted by key
  std::vector<std::shared_ptr<const void>> owners;
};

// Tags are seen as tables of their own, called "table#tag".
struct SeenHub : std::map<std::string, SeenSpace> {
  Notes notes;
};
inline std::string tag_name(const std::string& table, const std::string& tag) { return table + "#" + tag; }

inline constexpr size_t kLookRows = 7;  // small and odd, so that batches end everywhere
inline constexpr size_t kLookNeighbors = 3;

// The vectors of a batch, copied if the store did not hand them out in place.
inline Result<const float*> vectors_of(const ScanCursor::Batch& batch, SeenSpace& space) {
  if (batch.vectors != nullptr) {
    space.owners.push_back(batch.owner);
    return batch.vectors;
  }
  auto copy = std::make_shared<std::vector<float>>(batch.rows.size() * space.view->schema().dims);
  EHUB_RETURN_IF_ERROR(space.view->gather(batch.rows.data(), batch.rows.size(), copy->data()));
  space.owners.push_back(copy);
  return copy->data();
}

inline Status look_at_batch(const ScanCursor::Batch& batch, SeenSpace& space) {
  const Result<const float*> vectors = vectors_of(batch, space);
  if (!vectors.ok()) return vectors.status();
  for (size_t i = 0; i < batch.rows.size(); ++i) {
    const Result<std::string_view> key = space.view->key(batch.rows[i]);
    if (!key.ok()) return key.status();
    const Result<uint32_t> partition = space.view->partition(batch.rows[i]);
    if (!partition.ok()) return partition.status();
    const float* vector = vectors.value() + i * space.view->schema().dims;
    space.rows.push_back({std::string(key.value()), vector, partition.value()});
  }
  return {};
}

inline Status scan_space(SeenSpace& space) {
  ScanCursor cursor(space.view);
  while (true) {
    const Result<ScanCursor::Batch> batch = cursor.next(kLookRows);
    if (!batch.ok()) return batch.status();
    if (batch.value().rows.empty()) break;
    EHUB_RETURN_IF_ERROR(look_at_batch(batch.value(), space));
  }
  std::sort(space.rows.begin(), space.rows.end(), [](const SeenRow& a, const SeenRow& b) { return a.key < b.key; });
  return {};
}

inline Result<SeenSpace> look_at_space(const Store& store, const std::shared_ptr<Table>& table) {
  SeenSpace space;
  space.table = table;
  Result<std::shared_ptr<const View>> view = store.view(*space.table);
  if (!view.ok()) return view.status();
  space.view = view.value();
  EHUB_RETURN_IF_ERROR(scan_space(space));
  return space;
}

inline Result<SeenSpace> look_at_tag(const Store& store, const std::shared_ptr<Table>& table, const std::string& tag) {
  SeenSpace space;
  space.table = table;
  const Result<std::shared_ptr<const Snapshot>> snapshot = store.at(*table, tag);
  if (!snapshot.ok()) return snapshot.status();
  space.view = snapshot.value()->view();
  space.owners.push_back(snapshot.value());
  EHUB_RETURN_IF_ERROR(scan_space(space));
  return space;
}

inline Status look_at_version(const Store& store, const std::shared_ptr<Table>& table, SeenHub& hub) {
  const std::string name = table_name(table_space(*table), table_version(*table));
  Result<SeenSpace> space = look_at_space(store, table);
  if (!space.ok()) return space.status();
  hub.emplace(name, std::move(space.value()));
  for (const auto& [tag, seq] : store.tags(*table)) {
    Result<SeenSpace> then = look_at_tag(store, table, tag);
    if (!then.ok()) return then.status();
    hub.emplace(tag_name(name, tag), std::move(then.value()));
  }
  return {};
}

inline Result<SeenHub> look(const Store& store) {
  SeenHub hub;
  hub.notes = store.notes("");
  for (const std::string& name : store.spaces()) {
    for (const auto& table : store.versions(name)) EHUB_RETURN_IF_ERROR(look_at_version(store, table, hub));
  }
  return hub;
}

// A key as a report shows it: an integer as such, and no byte that is not printable.
inline std::string shown(std::string_view key) {
  const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
  if (key.size() == sizeof(int64_t) && !std::all_of(key.begin(), key.end(), printable)) {
    int64_t value = 0;
    std::memcpy(&value, key.data(), sizeof(value));
    return "key " + std::to_string(value);
  }
  std::string text(key);
  std::replace_if(text.begin(), text.end(), [&](char c) { return !printable(c); }, '?');
  return "key '" + text + "'";
}

// How disagrees() tells of a call that failed, as opposed to one that gave a wrong answer.
inline constexpr std::string_view kFailed = "a read fails: ";
inline std::string failed(const Status& status) { return std::string(kFailed) + status.message(); }

// "" or the first difference in words.
inline std::string space_differs(const SeenSpace& seen, const ModelSpace& model) {
  const Schema& schema = seen.view->schema();
  if (schema.dims != model.schema.dims || schema.metric != model.schema.metric ||
      schema.key_type != model.schema.key_type) {
    return "another schema";
  }
  auto expected = model.rows.begin();
  for (const SeenRow& row : seen.rows) {
    if (expected == model.rows.end() || row.key < expected->first) return shown(row.key) + " should not be there";
    if (row.key != expected->first) return shown(expected->first) + " is missing";
    if (!expected->second.holds(row.vector)) return shown(row.key) + " has another vector";
    ++expected;
  }
  return expected == model.rows.end() ? "" : shown(expected->first) + " is missing";
}

inline std::string table_differs(const SeenHub& seen, const std::string& name, const ModelSpace& model) {
  const auto found = seen.find(name);
  if (found == seen.end()) return "table '" + name + "' is missing";
  const std::string difference = space_differs(found->second, model);
  return difference.empty() ? "" : "table '" + name + "': " + difference;
}

inline std::string differs(const SeenHub& seen, const ModelHub& model) {
  size_t tables = 0;
  for (const auto& [name, space] : model) {
    std::string difference = table_differs(seen, name, *space);
    if (difference.empty() && table_frozen(*seen.at(name).table) != space->frozen)
      difference = name + ": frozen or not";
    if (!difference.empty()) return difference;
    tables += 1 + space->tags.size();
    for (const auto& [tag, then] : space->tags) {
      difference = table_differs(seen, tag_name(name, tag), *then);
      if (!difference.empty()) return difference;
    }
  }
  for (const auto& [name, space] : seen) {
    if (tables == seen.size()) break;
    const std::string table = name.substr(0, name.find('#'));
    const bool tagged = table != name && model.contains(table);
    if (tagged ? !model.at(table)->tags.contains(name.substr(table.size() + 1)) : !model.contains(name)) {
      return "table '" + name + "' should not be there";
    }
  }
  return seen.notes == model.notes ? "" : "the notes are others";
}

// The query that every space is searched with.
inline const std::vector<float>& probe(uint32_t dims) {
  static std::map<uint32_t, std::shared_ptr<const std::vector<float>>> probes;
  auto& query = probes[dims];
  if (query == nullptr) query = make_vector(dims, 0x9E3779B97F4A7C15);
  return *query;
}

inline double exact_distance(Metric metric, const std::vector<float>& a, const std::vector<float>& b) {
  double l2 = 0;
  double dot = 0;
  double norms = 0;
  double norm_a = 0;
  double norm_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    l2 += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    dot += double(a[i]) * b[i];
    norm_a += double(a[i]) * a[i];
    norm_b += double(b[i]) * b[i];
  }
  norms = std::sqrt(norm_a * norm_b);
  if (metric == Metric::kL2) return l2;
  return metric == Metric::kInnerProduct ? 1 - dot : 1 - dot / norms;
}

inline const std::vector<ModelNeighbor>& model_neighbors(const ModelSpace& model) {
  if (model.neighbors == nullptr) {
    auto all = std::make_shared<std::vector<ModelNeighbor>>();
    for (const auto& [key, row] : model.rows) {
      all->push_back({exact_distance(model.schema.metric, probe(model.schema.dims), *row.vector), key});
    }
    std::sort(all->begin(), all->end(), [](const auto& a, const auto& b) { return a.distance < b.distance; });
    model.neighbors = all;
  }
  return *model.neighbors;
}

inline bool near_enough(double a, double b) { return std::abs(a - b) <= 1e-4 * (1 + std::abs(a)); }

// Rows at about the same distance may come in either order, so distances are compared by rank and by key.
inline std::string search_disagrees(const SeenSpace& seen, const ModelSpace& model) {
  const std::vector<ModelNeighbor>& expected = model_neighbors(model);
  // Where there is a graph, it is walked: over so few rows, with such an ef, it misses none.
  const SearchOptions options = {.k = kLookNeighbors, .ef = 1000, .scan_rows_max = 0, .threads = 1};
  const auto answer = seen.view->nearest(probe(model.schema.dims).data(), 1, options);
  if (!answer.ok()) return failed(answer.status());
  const std::vector<Neighbor>& found = answer.value()[0];
  if (found.size() != std::min(kLookNeighbors, expected.size())) return "nearest: wrong number of neighbours";
  for (size_t i = 0; i < found.size(); ++i) {
    const Result<std::string_view> key = seen.view->key(found[i].row);
    if (!key.ok()) return failed(key.status());
    const auto row = model.rows.find(key.value());
    if (row == model.rows.end()) return "nearest: gave a key that is not there";
    const double distance = exact_distance(model.schema.metric, probe(model.schema.dims), *row->second.vector);
    if (!near_enough(distance, found[i].distance) || !near_enough(distance, expected[i].distance)) {
      return "nearest: wrong neighbour at rank " + std::to_string(i);
    }
  }
  return "";
}

// Looks up `keys`, some of which are in the space.
inline std::string lookup_disagrees(const SeenSpace& seen, const ModelSpace& model, const std::set<std::string>& keys) {
  const std::vector<std::string_view> asked(keys.begin(), keys.end());
  std::vector<Ordinal> rows(asked.size());
  std::vector<float> vectors(asked.size() * model.schema.dims);
  Status status = seen.view->locate(asked.data(), asked.size(), rows.data());
  if (status.ok()) status = seen.view->gather(rows.data(), rows.size(), vectors.data());
  if (!status.ok()) return failed(status);
  for (size_t i = 0; i < asked.size(); ++i) {
    const auto expected = model.rows.find(asked[i]);
    const bool there = expected != model.rows.end();
    if (there != (rows[i] != kNoOrdinal)) return "lookup: " + shown(asked[i]) + " found wrongly or not";
    if (there && !expected->second.holds(vectors.data() + i * model.schema.dims)) return "lookup: another vector";
  }
  return "";
}

inline std::map<std::string, uint64_t> partition_counts(const ModelSpace& model) {
  std::map<std::string, uint64_t> counts;
  for (const auto& [key, row] : model.rows) {
    if (!row.partition.empty()) ++counts[row.partition];
  }
  return counts;
}

// Whether rows of one name have one number, rows of another name another, and rows of no name 0.
inline std::string partition_numbers_disagree(const SeenSpace& seen, const ModelSpace& model) {
  std::map<std::string, uint32_t> number_of = {{"", 0}};
  std::map<uint32_t, std::string> name_of = {{0, ""}};
  for (const SeenRow& row : seen.rows) {
    const std::string& name = model.rows.find(row.key)->second.partition;
    if (number_of.emplace(name, row.partition).first->second != row.partition ||
        name_of.emplace(row.partition, name).first->second != name) {
      return shown(row.key) + " is in another partition";
    }
  }
  return "";
}

inline std::string partitions_disagree(const Store& store, const SeenSpace& seen, const ModelSpace& model) {
  const auto listed = store.partitions(*seen.table);
  if (!listed.ok()) return failed(listed.status());
  std::map<std::string, uint64_t> counts(listed.value().begin(), listed.value().end());
  std::erase_if(counts, [](const auto& partition) { return partition.second == 0 || partition.first.empty(); });
  if (counts != partition_counts(model)) return "partitions: wrong names or counts";
  return partition_numbers_disagree(seen, model);
}

inline std::string space_disagrees(const Store& store, const SeenSpace& seen, const ModelSpace& model,
                                   std::set<std::string> keys) {
  for (const auto& [key, row] : model.rows) keys.insert(key);
  const Result<uint64_t> count = store.row_count(*seen.table);
  if (!count.ok()) return failed(count.status());
  const Result<uint64_t> counted = seen.view->row_count();
  if (!counted.ok()) return failed(counted.status());
  if (counted.value() != model.rows.size()) return "the view's row_count is " + std::to_string(counted.value());
  if (count.value() != model.rows.size()) return "row_count is " + std::to_string(count.value());
  std::string wrong = lookup_disagrees(seen, model, keys);
  if (wrong.empty()) wrong = partitions_disagree(store, seen, model);
  if (wrong.empty()) wrong = search_disagrees(seen, model);
  return wrong;
}

// The same of a tag's view.
inline std::string tag_disagrees(const SeenSpace& seen, const ModelSpace& model) {
  std::set<std::string> keys = {"nobody"};
  for (const auto& [key, row] : model.rows) keys.insert(key);
  for (const SeenRow& row : seen.rows) keys.insert(row.key);
  const Result<uint64_t> counted = seen.view->row_count();
  if (!counted.ok()) return failed(counted.status());
  if (counted.value() != model.rows.size()) return "row_count is " + std::to_string(counted.value());
  std::string wrong = lookup_disagrees(seen, model, keys);
  if (wrong.empty()) wrong = partition_numbers_disagree(seen, model);
  return wrong.empty() ? search_disagrees(seen, model) : wrong;
}

// The rows of a table whose keys another one has, too.
inline ModelSpace common_rows(const ModelSpace& table, const ModelSpace& keys) {
  ModelSpace common{table.schema, {}, {}, {}, false};
  for (const auto& [key, row] : table.rows) {
    if (keys.rows.contains(key)) common.rows.emplace(key, row);
  }
  return common;
}

// `asked`: keys to look up.
inline std::string subindex_disagrees(const Store& store, const Table& table, const Table& keys,
                                      const ModelSpace& model, const std::set<std::string>& asked) {
  const auto subindex = store.subindex(table, keys);
  if (!subindex.ok()) return failed(subindex.status());
  const auto view = store.view_of(table, *subindex.value());
  if (!view.ok()) return failed(view.status());
  SeenSpace seen;
  seen.view = view.value();
  if (const Status status = scan_space(seen); !status.ok()) return failed(status);
  std::string wrong = space_differs(seen, model);
  if (wrong.empty()) wrong = lookup_disagrees(seen, model, asked);
  return wrong.empty() ? tag_disagrees(seen, model) : wrong;
}

// The same where each version of a space is a sub-index of the others. Requires: differs(seen, model) is "".
inline std::string subindices_disagree(const Store& store, const SeenHub& seen, const ModelHub& model) {
  for (const auto& [name, table] : model) {
    for (const auto& [other, keys] : model) {
      if (name == other || !is_of_space(other, space_and_version(name).first)) continue;
      std::set<std::string> asked;
      for (const ModelSpace* some : {table.get(), keys.get()}) {
        for (const auto& [key, row] : some->rows) asked.insert(key);
      }
      const ModelSpace common = common_rows(*table, *keys);
      const std::string wrong = subindex_disagrees(store, *seen.at(name).table, *seen.at(other).table, common, asked);
      if (wrong.starts_with(kFailed)) return wrong;
      if (!wrong.empty()) return "rows of '" + name + "' with keys of '" + other + "': " + wrong;
    }
  }
  return "";
}

// "" or what another way of reading tells differently. `absent` (per space): keys to look up that may not be there.
// Requires: differs(seen, model) is "".
inline std::string disagrees(const Store& store, const SeenHub& seen, const ModelHub& model,
                             const std::map<std::string, std::set<std::string>>& absent = {}) {
  for (const auto& [name, space] : model) {
    const auto keys = absent.find(name);
    const std::string wrong =
        space_disagrees(store, seen.at(name), *space, keys == absent.end() ? std::set<std::string>() : keys->second);
    if (wrong.starts_with(kFailed)) return wrong;
    if (!wrong.empty()) return "table '" + name + "': " + wrong;
    for (const auto& [tag, then] : space->tags) {
      const std::string other = tag_disagrees(seen.at(tag_name(name, tag)), *then);
      if (other.starts_with(kFailed)) return other;
      if (!other.empty()) return "tag '" + tag + "' of '" + name + "': " + other;
    }
  }
  return "";
}

}  // namespace ehub::crash
