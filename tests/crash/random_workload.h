// Random steps over three spaces that differ in all a space can differ in.
//
// Thread-safety: one thread.

#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "io/fault_disk.h"
#include "model.h"
#include "small_workload.h"
#include "survivor.h"

namespace ehub::crash {

struct RandomSpace {
  std::string name;
  Schema schema;
  size_t batch_rows_max;
};

// 33 rows of "wide" and more go straight to a segment file; "narrow" fits into the log of any checkpoint.
inline const std::vector<RandomSpace>& random_spaces() {
  static const std::vector<RandomSpace> spaces = {
      {"wide", {.dims = 512, .metric = Metric::kCosine, .key_type = KeyType::kString}, 70},
      {"narrow", {.dims = 3, .metric = Metric::kL2, .key_type = KeyType::kInteger}, 40},
      {"middle", {.dims = 40, .metric = Metric::kInnerProduct, .key_type = KeyType::kString}, 40}};
  return spaces;
}

class RandomSteps {
 public:
  explicit RandomSteps(uint64_t seed) : random_(seed), derives_(~seed) {}

  // A step that is possible in the hub `now`.
  Step next(const ModelHub& now) {
    const uint64_t dice = random_.below(100);
    if (dice < 4) return plain_step(Step::Kind::kCheckpoint);
    if (dice < 6) return plain_step(Step::Kind::kSync);
    const RandomSpace& space = random_spaces()[random_.below(random_spaces().size())];
    if (!now.contains(space.name)) return create_step(space.name, space.schema);
    if (dice < 10) return plain_step(Step::Kind::kCompact, space.name);
    if (dice < 11) return plain_step(Step::Kind::kDrop, space.name);
    if (dice < 13) return erase_step(space.name, some_keys(space, 1 + random_.below(4)));
    const std::string table = some_version(now, space.name);
    if (dice < 24 || now.at(table)->frozen) return past_step(now, space, table);
    if (dice < 25) return plain_step(Step::Kind::kDeleteAll, table);
    if (dice < 27) return drop_partition_step(table, some_partition());
    const size_t rows = dice < 68 ? 1 : 1 + random_.below(space.batch_rows_max);
    Step step = dice < 43 ? delete_step(table, some_keys(space, 1 + random_.below(6))) : random_set(space, table, rows);
    step.is_derived = step.gone.empty() && derives_.below(4) == 0;
    return step;
  }

  static AbsentKeys all_keys() {
    AbsentKeys keys;
    for (const RandomSpace& space : random_spaces()) {
      for (uint64_t i = 0; i < kKeys; ++i) keys[space.name].insert(key(space, i));
    }
    return keys;
  }

 private:
  static constexpr uint64_t kKeys = 90;

  static std::string key(const RandomSpace& space, uint64_t i) {
    if (space.schema.key_type == KeyType::kInteger) return integer_key(static_cast<int64_t>(i) - 40);
    // Of many lengths, some with bytes that are not ASCII.
    return std::string(i % 30, 'k') + (i % 7 == 0 ? "\xC3\xA9" : "-") + std::to_string(i);
  }

  std::vector<std::string> some_keys(const RandomSpace& space, size_t n) {
    std::vector<std::string> keys;
    for (size_t i = 0; i < n; ++i) keys.push_back(key(space, random_.below(kKeys)));
    return keys;
  }

  // Mostly the first one.
  std::string some_version(const ModelHub& now, const std::string& space) {
    std::vector<std::string> tables;
    for (const auto& [name, table] : now) {
      if (is_of_space(name, space)) tables.push_back(name);
    }
    return random_.coin() ? space : tables[random_.below(tables.size())];
  }

  NoteChanges random_notes() {
    NoteChanges notes;
    for (uint64_t n = random_.below(3); n > 0; --n) {
      notes.push_back({"note " + std::to_string(random_.below(5)), std::nullopt});
      if (random_.below(3) != 0) notes.back().text = std::string(random_.below(40), 'n');
    }
    return notes;
  }

  // Tags, restores, forks and what else does not write rows; of at most four tags and three versions.
  Step past_step(const ModelHub& now, const RandomSpace& space, const std::string& table) {
    const ModelSpace& model = *now.at(table);
    const std::string tag = "tag " + std::to_string(random_.below(4));
    const bool tagged = model.tags.contains(tag);
    const uint64_t dice = random_.below(12);
    if (dice < 4) {
      return history_step(tagged ? Step::Kind::kUntag : Step::Kind::kTag, table, tag, random_notes());
    }
    if (dice < 8 && !model.frozen) {
      return history_step(Step::Kind::kRestore, table, tagged ? tag : "", random_notes());
    }
    const std::string version = "v" + std::to_string(random_.below(3));
    const std::string other = table_name(space.name, version);
    if (dice < 10 && !now.contains(other)) return fork_step(table, version, tagged ? tag : "", random_notes());
    if (dice == 10 && now.contains(other)) return history_step(Step::Kind::kDropVersion, other, "", random_notes());
    if (dice == 11 && table != space.name) return history_step(Step::Kind::kFreeze, table, "", random_notes());
    Step notes = plain_step(Step::Kind::kNotes);
    notes.notes = random_notes();
    return notes;
  }

  const std::string& some_partition() {
    static const std::vector<std::string> names = {"us", "eu", "asia", "a partition with a long name"};
    return names[random_.below(names.size())];
  }

  Step random_set(const RandomSpace& space, const std::string& table, size_t rows) {
    std::vector<std::string> partitions;
    const bool partitioned = random_.coin();
    for (size_t i = 0; partitioned && i < rows; ++i) partitions.push_back(some_partition());
    Step step = make_set(table, space.schema.dims, some_keys(space, rows), random_.next(), std::move(partitions));
    if (random_.below(8) == 0) step.gone = some_keys(space, 1 + random_.below(20));
    std::erase_if(step.gone, [&](const auto& key) { return std::count(step.keys.begin(), step.keys.end(), key) != 0; });
    return step;
  }

  FaultRandom random_;
  FaultRandom derives_;  // of its own, so that walks that found something stay what they are
};

// Limits that some step meets; each from a few sizes.
inline StoreOptions random_options(FaultRandom& random, Durability durability) {
  StoreOptions options;
  options.background = false;
  options.durability = durability;
  options.large_batch_bytes = 64 << 10;
  options.log_bytes_max = uint64_t{8 << 10} << (2 * random.below(4));
  options.log_step_bytes = options.log_bytes_max / 4;
  options.fresh_rows_max = uint64_t{20} << (3 * random.below(3));
  options.segment_bytes_max = uint64_t{100 << 10} << (2 * random.below(4));
  options.carry_bytes_max = uint64_t{1 << 10} << (3 * random.below(3));
  options.carry_total_bytes_max = options.carry_bytes_max << random.below(3);
  // One in three with graphs, of nearly all segments or of the larger ones.
  if (random.below(3) == 0) options.graph_rows_min = static_cast<Row>(2 + random.below(2) * 30);
  options.old_searches_min = 1;  // history has none before it is first looked at, and one after
  return options;
}

}  // namespace ehub::crash
