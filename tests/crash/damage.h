// Damage done to the files of a hub, one place at a time: a wrong answer is the only thing that may not come of it.
//
// Each file is truncated at many sizes, has one bit flipped at many places, a sector zeroed, bytes added to its end, or
// is missing; and files that do not belong there appear. Then the hub is opened, as writer and as reader, and read in
// every way: the answer is right, or a typed error. What verify() calls clean must be so. At last repair() is run on
// the damaged files: the hub opens again, every row left is bit for bit one that was written, and no row is missing
// whose bytes were not touched.
//
// Five hubs are damaged: "clean", which was closed, "indexed", which was closed with graphs and of which only the
// index files are damaged, and "killed", whose last batches are in the log; "past" and "killed past" are the same with
// tags, a restore, forks and erased keys, which no repair may bring back. Damaged index files are no reason for an
// error of any kind. Of a killed hub, the last batch may be missing if its own record was hit, and any number of the
// last ones if the log ends early: then nothing says that there was more.
//
// A damage is written as "damage:<hub>:<path>:<kind>:<offset>".
//
// Thread-safety: one thread.

#pragma once

#include <algorithm>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "child.h"
#include "io/fault_file.h"
#include "look.h"
#include "small_workload.h"
#include "survivor.h"

namespace ehub::crash {

struct Damage {
  enum class Kind : char {
    kTruncate = 't',
    kFlip = 'f',
    kZeroSector = 'z',
    kAppend = 'a',
    kMissing = 'm',
    kExtra = 'x'
  };
  std::string path;
  Kind kind = Kind::kFlip;
  uint64_t offset = 0;

  std::string name() const { return path + ":" + static_cast<char>(kind) + ":" + std::to_string(offset); }
};

// Where a row of the undamaged hub lies.
struct RowPlace {
  SegmentId segment = 0;  // 0: in the log
  Row row = 0;
};

// An undamaged hub.
struct Patient {
  std::string name;
  std::unique_ptr<FaultFileSystem> fs;
  StoreOptions options;
  std::vector<ModelHub> models;  // after each step since the last checkpoint; the last one is what it holds
  // Of each space and key, all vectors that were ever written to any version and not erased.
  std::map<std::pair<std::string, std::string>, std::vector<ModelRow>> written;
  std::map<std::pair<std::string, std::string>, RowPlace> places;  // of the rows of tables and tags

  const ModelHub& model() const { return models.back(); }
  bool was_closed() const { return !name.starts_with("killed"); }
  bool has_past() const { return name == "indexed" || name.ends_with("past"); }
  bool is_sealed(SegmentId segment) const {
    return std::any_of(places.begin(), places.end(), [&](const auto& at) { return at.second.segment == segment; });
  }
};

inline void remember(Patient& patient, const Step& step) {
  const std::string space = space_and_version(step.space).first;
  for (size_t i = 0; step.kind == Step::Kind::kSet && i < step.keys.size(); ++i) {
    patient.written[{space, step.keys[i]}].push_back({step.vectors[i], ""});
  }
  for (const std::string& key : step.keys) {
    if (step.kind == Step::Kind::kErase) patient.written.erase({space, key});
  }
  patient.models.push_back(after(patient.models.back(), step));
  const bool begins_log =
      step.kind == Step::Kind::kCheckpoint || step.kind == Step::Kind::kFork || step.kind == Step::Kind::kErase;
  if (begins_log) patient.models.erase(patient.models.begin(), patient.models.end() - 1);
}

inline void note_places(Patient& patient, const Store& store) {
  const Result<SeenHub> seen = look(store);
  for (const auto& [name, space] : seen.value()) {
    const std::vector<SegmentStats> segments = store.stats(*space.table).segments;
    for (const SeenRow& row : space.rows) {
      const std::string_view key = row.key;
      Ordinal ordinal = kNoOrdinal;
      EHUB_ASSERT(space.view->locate(&key, 1, &ordinal).ok());
      patient.places[{name, row.key}] = {segments.at(ordinal >> 32).id, static_cast<Row>(ordinal)};
    }
  }
}

// What happens to a patient with a past after past_history(): an erasure, and more of each kind.
inline std::vector<Step> later_history() {
  return {erase_step("items", {"base1", "sealed5", "past", "nobody"}),
          history_step(Step::Kind::kTag, "items@branch", "of the fork", {{"fork", "tagged"}}),
          delete_step("items@branch", {"sealed6", "branch"}),
          history_step(Step::Kind::kRestore, "items", "after"),
          history_step(Step::Kind::kUntag, "items", "base"),
          make_set("items", kItemsSchema.dims, {"base1", "sealed7"}, 1100),
          fork_step("items", "frozen", ""),
          history_step(Step::Kind::kFreeze, "items@frozen", ""),
          erase_step("items", {"sealed8", "base3"})};
}

inline Patient make_patient(const std::string& name) {
  Patient patient{name, std::make_unique<FaultFileSystem>(), roomy_options(), std::vector<ModelHub>(1), {}, {}};
  if (name == "indexed") {
    patient.options.graph_rows_min = 2;
    patient.options.old_searches_min = 0;  // history has graphs, too, that may be damaged
  }
  auto store = std::move(Store::open(*patient.fs, kRoot, patient.options).value());
  std::vector<Step> steps = sealed_history();
  const auto add = [&](std::vector<Step> more) { steps.insert(steps.end(), more.begin(), more.end()); };
  if (patient.has_past()) add(past_history());
  if (patient.has_past()) add(later_history());
  add(killed_history());
  if (patient.has_past()) add({history_step(Step::Kind::kTag, "items", "last"), delete_step("items", {"killed7"})});
  for (const Step& step : steps) {
    EHUB_ASSERT(perform(*store, step).ok());
    remember(patient, step);
  }
  if (patient.was_closed()) {
    EHUB_ASSERT(store->close().ok());
    patient.fs->crash(CrashModel::kKillProcess, 0);
    store = std::move(Store::open(*patient.fs, kRoot, patient.options).value());
    patient.models.erase(patient.models.begin(), patient.models.end() - 1);
  }
  note_places(patient, *store);
  if (patient.was_closed()) EHUB_ASSERT(store->close().ok());
  patient.fs->crash(CrashModel::kKillProcess, 0);
  return patient;
}

// Every byte near both ends, and 64 places between.
inline std::vector<uint64_t> offsets_in(uint64_t size) {
  std::set<uint64_t> offsets;
  for (uint64_t i = 0; i < std::min<uint64_t>(size, 200); ++i) offsets.insert({i, size - 1 - i});
  for (uint64_t i = 0; i < 64; ++i) offsets.insert(std::min(size - 1, size * i / 64 + i));
  return {offsets.begin(), offsets.end()};
}

inline std::vector<Damage> damages_of(const std::string& path, uint64_t size) {
  std::vector<Damage> damages = {{path, Damage::Kind::kMissing, 0}};
  for (const uint64_t bytes : {1, 8, 511, 4096, 70'000}) damages.push_back({path, Damage::Kind::kAppend, bytes});
  if (size == 0) return damages;
  for (const uint64_t offset : offsets_in(size)) {
    damages.push_back({path, Damage::Kind::kTruncate, offset});
    damages.push_back({path, Damage::Kind::kFlip, offset});
  }
  for (uint64_t sector = 0; sector < std::min<uint64_t>(size / kSectorBytes + 1, 400); sector += 3) {
    damages.push_back({path, Damage::Kind::kZeroSector, sector * kSectorBytes});
  }
  return damages;
}

inline const std::vector<std::string>& extra_paths() {
  static const std::vector<std::string> paths = {"/hub/notes.txt",
                                                 "/hub/manifest-999999",
                                                 "/hub/manifest-000000999999",
                                                 "/hub/CURRENT.tmp",
                                                 "/hub/wal/000000009999.log",
                                                 "/hub/wal/000000000000.log",
                                                 "/hub/wal/stray",
                                                 "/hub/segments/x.seg",
                                                 "/hub/segments/000000009999.f32",
                                                 "/hub/segments/1.f32",
                                                 "/hub/segments/000000009998.seg",
                                                 "/hub/index/000000009999.hnsw",
                                                 "/hub/index/000000000001.hnsw.tmp"};
  return paths;
}

inline std::vector<Damage> all_damages(const Patient& patient) {
  const FaultFileSystem& fs = *patient.fs;
  std::vector<Damage> damages;
  for (const std::string& path : fs.paths()) {
    if (patient.name == "indexed" && !is_index_file(path)) continue;
    const std::vector<Damage> some = damages_of(path, fs.contents(path).value().size());
    damages.insert(damages.end(), some.begin(), some.end());
  }
  for (const std::string& path : extra_paths()) damages.push_back({path, Damage::Kind::kExtra, 100});
  return damages;
}

// False if the damage changed nothing.
inline bool inflict(FaultFileSystem& fs, const Damage& damage) {
  if (damage.kind == Damage::Kind::kExtra) {
    if (fs.contents(damage.path).ok()) return false;
    const auto file = fs.open(damage.path, FileSystem::Mode::kCreate);
    return file.ok() && file.value()->write(0, std::string(damage.offset, 'x').data(), damage.offset).ok();
  }
  if (damage.kind == Damage::Kind::kMissing) return fs.remove(damage.path).ok();
  std::string bytes = fs.contents(damage.path).value();
  const std::string before = bytes;
  if (damage.kind == Damage::Kind::kTruncate) bytes.resize(damage.offset);
  if (damage.kind == Damage::Kind::kFlip) bytes[damage.offset] = char(bytes[damage.offset] ^ (1 << damage.offset % 8));
  if (damage.kind == Damage::Kind::kAppend) bytes.append(damage.offset, char(damage.offset));
  if (damage.kind == Damage::Kind::kZeroSector) {
    const uint64_t end = std::min(bytes.size(), damage.offset + kSectorBytes);
    for (uint64_t i = damage.offset; i < end; ++i) bytes[i] = 0;
  }
  return bytes != before && fs.set_contents(damage.path, bytes).ok();
}

}  // namespace ehub::crash
