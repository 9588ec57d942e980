// The small workloads: an alphabet of operations, and the hubs that they begin with.
//
// A workload is a word over the alphabet, for instance "slc": set, large batch, checkpoint. Rows take 4 KiB, so that a
// row is several sectors, a batch of 17 goes straight to a segment file, and a few of them meet every limit of the
// options. Keys depend on the position in the word, but for those that the bases hold, which are overwritten and
// deleted.
//
// Thread-safety: one thread.

#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "history.h"
#include "io/fault_file.h"
#include "model.h"
#include "survivor.h"

namespace ehub::crash {

// s set, o overwrite, d delete, m small batch, l large batch, c checkpoint, k compact, x drop the space, a delete all.
// Of versions and the past: t tag now or remove that tag, r restore to a tag, f fork at a tag, w write to a fork,
// z freeze a fork, v drop a fork, n notes; e erase keys from all versions and tags.
inline constexpr std::string_view kAlphabet = "sodmlckxaptrfwzvne";

inline const Schema kItemsSchema = {.dims = 1024, .metric = Metric::kL2, .key_type = KeyType::kString};
inline const Schema kOtherSchema = {.dims = 3, .metric = Metric::kCosine, .key_type = KeyType::kInteger};

inline std::string key_of(std::string_view prefix, size_t i) { return std::string(prefix) + std::to_string(i); }

inline std::vector<std::string> keys_of(std::string_view prefix, size_t n) {
  std::vector<std::string> keys;
  for (size_t i = 0; i < n; ++i) keys.push_back(key_of(prefix, i));
  return keys;
}

inline std::string integer_key(int64_t value) { return {reinterpret_cast<const char*>(&value), sizeof(value)}; }

// Five rows: new keys, one of the base, one of them twice; in two partitions.
inline Step small_batch(size_t position, uint64_t number) {
  const std::string prefix = "m" + std::to_string(position) + "-";
  return make_set("items", kItemsSchema.dims, {prefix + "0", prefix + "1", "base1", prefix + "0", prefix + "2"}, number,
                  {"us", "eu", "us", "eu", "us"});
}

inline Step large_batch(size_t position, uint64_t number) {
  std::vector<std::string> keys = keys_of("l" + std::to_string(position) + "-", 16);
  keys.push_back("base3");
  return make_set("items", kItemsSchema.dims, std::move(keys), number);
}

// The step of one letter, in a hub where the space exists.
inline Step step_of(char letter, size_t position) {
  const uint64_t number = 1'000'000 + 1000 * position + 10'000 * static_cast<uint64_t>(letter);
  switch (letter) {
    case 's':
      return make_set("items", kItemsSchema.dims, {key_of("s", position)}, number);
    case 'o':
      return make_set("items", kItemsSchema.dims, {"base0"}, number, {"us"});
    case 'd':
      return delete_step("items", {"base2", "base0", "s0", "l0-3", "m1-1", "nobody"});
    case 'm':
      return small_batch(position, number);
    case 'l':
      return large_batch(position, number);
    case 'p':
      return drop_partition_step("items", "us");
    case 'c':
      return plain_step(Step::Kind::kCheckpoint);
    case 'k':
      return plain_step(Step::Kind::kCompact, "items");
    case 'x':
      return plain_step(Step::Kind::kDrop, "items");
    case 'e':
      return erase_step("items", {"base1", "base0", "s0", "l0-3", "m1-1", "sealed2", "nobody"});
    case 'n':
      return history_step(Step::Kind::kNotes, "", "", {{"place", key_of("n", position)}, {"base", std::nullopt}});
    default:
      EHUB_ASSERT(letter == 'a');
      return plain_step(Step::Kind::kDeleteAll, "items");
  }
}

inline NoteChanges place_note(size_t position) { return {{"place", key_of("p", position)}}; }

// A tag of "items", the youngest by name; "": none.
inline std::string some_tag(const ModelHub& now) {
  const auto items = now.find("items");
  return items == now.end() || items->second->tags.empty() ? "" : items->second->tags.rbegin()->first;
}

// A version of "items" beside the first one, of which rows can be written; "": none.
inline std::string some_fork(const ModelHub& now) {
  for (const auto& [name, table] : now) {
    if (name != "items" && is_of_space(name, "items") && !table->frozen) return name;
  }
  return "";
}

// The step on an open fork, which is made if there is none.
inline std::vector<Step> fork_steps_of(char letter, size_t position, const ModelHub& now) {
  const std::string version = key_of("fork", position);
  std::string fork = some_fork(now);
  std::vector<Step> steps;
  if (letter == 'f' || fork.empty()) {
    steps.push_back(fork_step("items", version, some_tag(now), place_note(position)));
    fork = table_name("items", version);
  }
  if (letter == 'w') {
    std::vector<std::string> keys = keys_of("w" + std::to_string(position) + "-", 16);
    keys.push_back("base0");
    steps.push_back(make_set(fork, kItemsSchema.dims, std::move(keys), 2'000'000 + 1000 * position));
    steps.push_back(delete_step(fork, {"base1", "base2"}));
  }
  if (letter == 'z') steps.push_back(history_step(Step::Kind::kFreeze, fork, "", place_note(position)));
  if (letter == 'v') steps.push_back(history_step(Step::Kind::kDropVersion, fork, "", place_note(position)));
  return steps;
}

// A restore of a hub without tags goes to a tag that is set first, with a batch between.
inline std::vector<Step> past_steps_of(char letter, size_t position, const ModelHub& now) {
  std::vector<Step> steps;
  const bool tagged = now.contains("items") && now.at("items")->tags.contains("t");
  if (letter == 't') {
    return {history_step(tagged ? Step::Kind::kUntag : Step::Kind::kTag, "items", "t", place_note(position))};
  }
  std::string tag = some_tag(now);
  if (tag.empty()) {
    steps.push_back(history_step(Step::Kind::kTag, "items", tag = "t"));
    steps.push_back(small_batch(position, 3'000'000 + 1000 * position));
  }
  steps.push_back(history_step(Step::Kind::kRestore, "items", tag, place_note(position)));
  return steps;
}

// The steps of a letter in the hub `now`: a dropped space is made again by the next operation on it.
inline std::vector<Step> steps_of(char letter, size_t position, const ModelHub& now) {
  std::vector<Step> steps;
  const bool there = now.contains("items");
  const auto add = [&](std::vector<Step> more) { steps.insert(steps.end(), more.begin(), more.end()); };
  if (letter == 'c' || letter == 'n') return {step_of(letter, position)};
  if (letter == 'x' && !there) return {};
  if (!there) steps.push_back(create_step("items", kItemsSchema));
  switch (letter) {
    case 't':
    case 'r':
      add(past_steps_of(letter, position, now));
      break;
    case 'f':
    case 'w':
    case 'z':
    case 'v':
      add(fork_steps_of(letter, position, now));
      break;
    default:
      steps.push_back(step_of(letter, position));
  }
  return steps;
}

inline AbsentKeys absent_keys() {
  return {{"items", {"nobody", "base0", "base2", "s0", "s1", "l0-3", "l1-0", "m0-0", "m1-1", ""}},
          {"other", {integer_key(0), integer_key(-1), integer_key(1 << 20)}}};
}

// Small enough that every operation meets one of them.
inline StoreOptions tiny_options() {
  StoreOptions options;
  options.large_batch_bytes = 64 << 10;
  options.log_step_bytes = 8 << 10;
  options.log_bytes_max = 20 << 10;
  options.fresh_rows_max = 12;
  options.segment_bytes_max = 80 << 10;
  options.carry_bytes_max = 6 << 10;
  options.carry_total_bytes_max = 10 << 10;
  options.background = false;
  return options;
}

// The same with a graph for nearly every segment, built within the checkpoint that seals it.
inline StoreOptions graph_options() {
  StoreOptions options = tiny_options();
  options.graph_rows_min = 2;
  options.old_searches_min = 1;
  return options;
}

inline StoreOptions roomy_options() {
  StoreOptions options;
  options.background = false;
  return options;
}

// A hub to begin with.
struct Base {
  std::unique_ptr<FaultFileSystem> fs;
  StoreOptions options;
  ModelHub model;
};

inline constexpr std::string_view kBases[] = {"new", "log", "sealed", "killed", "indexed"};

inline StoreOptions options_of_base(std::string_view name) {
  if (name == "indexed") return graph_options();
  return name == "log" ? roomy_options() : tiny_options();
}

inline void perform_all(Store& store, ModelHub& model, const std::vector<Step>& steps) {
  for (const Step& step : steps) {
    const Status status = perform(store, step);
    if (!status.ok()) std::fprintf(stderr, "base: %s\n", status.message().c_str());
    EHUB_ASSERT(status.ok());
    model = after(model, step);
  }
}

inline std::vector<Step> unsealed_history() {
  return {create_step("items", kItemsSchema),
          make_set("items", kItemsSchema.dims, keys_of("base", 4), 100, {"us", "eu", "us", "eu"}),
          make_set("items", kItemsSchema.dims, {"base1"}, 200), delete_step("items", {"base3"})};
}

// Two sealed segments with dead rows, and a small table that a checkpoint leaves in the log.
inline std::vector<Step> sealed_history() {
  std::vector<Step> steps = unsealed_history();
  steps.push_back(create_step("other", kOtherSchema));
  steps.push_back(make_set("other", kOtherSchema.dims, {integer_key(7), integer_key(-7)}, 300, {"odd", "odd"}));
  steps.push_back(plain_step(Step::Kind::kCheckpoint));
  steps.push_back(make_set("items", kItemsSchema.dims, keys_of("sealed", 17), 400));
  steps.push_back(delete_step("items", {"sealed3", "base2"}));
  steps.push_back(plain_step(Step::Kind::kCheckpoint));
  return steps;
}

// What a process had written, sealed and not, when it was killed.
inline std::vector<Step> killed_history() {
  return {make_set("items", kItemsSchema.dims, keys_of("killed", 17), 500),
          make_set("other", kOtherSchema.dims, {integer_key(8)}, 600), delete_step("items", {"killed5", "sealed4"}),
          make_set("items", kItemsSchema.dims, {"base0", "killed6"}, 700, {"asia", "asia"})};
}

// A past of the sealed rows: two tags, a restore, and a fork with rows of its own.
inline std::vector<Step> past_history() {
  return {history_step(Step::Kind::kTag, "items", "base", {{"base", "tagged"}}),
          make_set("items", kItemsSchema.dims, {"base0", "sealed1", "past"}, 800),
          delete_step("items", {"sealed2"}),
          history_step(Step::Kind::kTag, "items", "after"),
          history_step(Step::Kind::kRestore, "items", "base", {{"restored", "yes"}}),
          make_set("items", kItemsSchema.dims, {"sealed2"}, 900),
          fork_step("items", "branch", "after"),
          make_set("items@branch", kItemsSchema.dims, {"base1", "branch"}, 1000)};
}

inline Base make_base(std::string_view name) {
  Base base{std::make_unique<FaultFileSystem>(), options_of_base(name), {}};
  if (name == "new") return base;
  auto store = std::move(Store::open(*base.fs, kRoot, base.options).value());
  perform_all(*store, base.model, name == "log" ? unsealed_history() : sealed_history());
  if (name == "sealed" || name == "indexed") perform_all(*store, base.model, past_history());
  if (name == "killed" || name == "indexed") perform_all(*store, base.model, killed_history());
  if (name == "sealed") EHUB_ASSERT(store->close().ok());
  base.fs->crash(CrashModel::kKillProcess, 0);
  return base;
}

}  // namespace ehub::crash
