// Crashes while several threads write: groups of batches in one write of the log, and checkpoints in the background.
//
// Each thread overwrites and deletes its own keys, always all of them with one batch, all rows with one value: the
// number of the batch. After a crash at a random call the keys must show one batch, whole, from the last one
// acknowledged (or settled, if the durability promises no more) to the one that was under way. Which batches form a
// group is up to the scheduler, so a seed does not repeat a run exactly; the survivor is checked all the same.
//
// A run is written as "threaded:<seed>".
//
// Thread-safety: run from one thread.

#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "child.h"
#include "io/fault_file.h"
#include "look.h"
#include "model.h"
#include "random_workload.h"
#include "survivor.h"

namespace ehub::crash {

class ThreadedRun {
 public:
  explicit ThreadedRun(uint64_t seed)
      : random_(seed), durability_(seed % 4 == 3 ? Durability::kOff : Durability::kFull) {
    options_ = random_options(random_, durability_);
    options_.background = true;
  }

  // "" or what went wrong, in some of several lives of one hub.
  std::string run() {
    std::string wrong;
    for (int life = 0; life < 4 && wrong.empty(); ++life) {
      wrong = live();
      if (wrong.empty()) wrong = come_back();
    }
    return wrong;
  }

 private:
  static constexpr size_t kThreads = 4;
  static constexpr uint64_t kBatches = 40;  // of each thread in one life
  static constexpr Schema kSchema = {.dims = 64, .metric = Metric::kL2, .key_type = KeyType::kString};

  struct Writer {
    std::atomic<uint64_t> acknowledged = 0;
    std::atomic<uint64_t> begun = 0;
    uint64_t settled = 0;
  };

  // Small, or large enough to go straight to a segment file.
  static size_t rows_of(size_t writer) { return writer % 2 == 0 ? 4 : 260; }
  static bool deletes(uint64_t batch) { return batch % 7 == 0; }

  static Step step_of(size_t writer, uint64_t batch) {
    std::vector<std::string> keys = keys_of("w" + std::to_string(writer) + "-", rows_of(writer));
    if (deletes(batch)) return delete_step("items", std::move(keys));
    Step step = plain_step(Step::Kind::kSet, "items");
    step.keys = std::move(keys);
    step.flat = std::make_shared<std::vector<float>>(step.keys.size() * kSchema.dims, float(batch));
    return step;
  }

  std::string live() {
    fs_.crash_at(random_.below(400), random_.coin());
    auto opened = Store::open(fs_, kRoot, options_);
    if (!opened.ok()) return fs_.powered_off() ? "" : "does not open: " + opened.status().message();
    Store& store = *opened.value();
    if (!store.space("items").ok()) {
      const Status created = store.create_space("items", kSchema).status();
      if (!created.ok()) return fs_.powered_off() ? "" : "create_space fails: " + created.message();
    }
    std::vector<std::thread> threads;
    for (size_t i = 0; i < kThreads; ++i) threads.emplace_back([&, i] { write_on(store, i); });
    for (std::thread& thread : threads) thread.join();
    if (!fs_.powered_off() && failed_) return "a write fails though the disk does not";
    fs_.crash_at(fs_.mutating_calls());
    return "";
  }

  void write_on(Store& store, size_t i) {
    Writer& writer = writers_[i];
    for (uint64_t n = 0; n < kBatches; ++n) {
      const uint64_t batch = writer.begun.load() + 1;
      writer.begun = batch;
      if (!perform(store, step_of(i, batch)).ok()) {
        failed_ = true;
        return;
      }
      writer.acknowledged = batch;
    }
  }

  std::string come_back() {
    const auto model = static_cast<CrashModel>(random_.below(7));
    fs_.crash(model, random_.next());
    failed_ = false;
    const bool killed = model == CrashModel::kKillProcess;
    auto opened = Store::open(fs_, kRoot, options_);
    if (!opened.ok()) return "does not open: " + opened.status().message();
    std::string wrong = verify_finds(*opened.value());
    for (size_t i = 0; i < kThreads && wrong.empty(); ++i) wrong = check(*opened.value(), i, killed);
    if (wrong.empty() && !opened.value()->close().ok()) wrong = "cannot be closed";
    for (Writer& writer : writers_) writer.settled = writer.acknowledged = writer.begun.load();
    return wrong;
  }

  // Finds which batch the writer's keys show, and takes it as where the writer goes on.
  std::string check(const Store& store, size_t i, bool killed) {
    Writer& writer = writers_[i];
    const bool full = durability_ == Durability::kFull || killed;
    const uint64_t first = full ? writer.acknowledged.load() : writer.settled;
    const auto table = store.space("items");
    if (!table.ok()) {
      writer.begun = 0;
      return first == 0 ? "" : "the space is gone";
    }
    const auto view = store.view(*table.value());
    if (!view.ok()) return "no view: " + view.status().message();
    for (uint64_t batch = writer.begun; batch + 1 > first; --batch) {
      if (!shows(*view.value(), i, batch)) continue;
      writer.begun = batch;
      return "";
    }
    return "writer " + std::to_string(i) + ": shows no batch from " + std::to_string(first) + " to " +
           std::to_string(writer.begun);
  }

  static bool shows(const View& view, size_t writer, uint64_t batch) {
    const Step step = step_of(writer, batch);
    const std::vector<std::string_view> keys(step.keys.begin(), step.keys.end());
    std::vector<Ordinal> rows(keys.size());
    std::vector<float> vectors(keys.size() * kSchema.dims);
    if (!view.locate(keys.data(), keys.size(), rows.data()).ok()) return false;
    if (!view.gather(rows.data(), rows.size(), vectors.data()).ok()) return false;
    const bool there = batch != 0 && !deletes(batch);
    const auto as_expected = [&](Ordinal row) { return (row != kNoOrdinal) == there; };
    return std::all_of(rows.begin(), rows.end(), as_expected) && (!there || vectors == *step.flat);
  }

  FaultRandom random_;
  Durability durability_;
  StoreOptions options_;
  FaultFileSystem fs_;
  Writer writers_[kThreads];
  std::atomic<bool> failed_ = false;
};

inline Report crash_threads(uint64_t first_seed, uint64_t last_seed, Note& note) {
  Report report;
  for (uint64_t seed = first_seed; seed < last_seed && report.failures.size() < kFailuresMax; ++seed) {
    const std::string line = "threaded:" + std::to_string(seed);
    note.set(line);
    const std::string wrong = ThreadedRun(seed).run();
    if (!wrong.empty()) report.failures.push_back(line + " " + wrong);
    report.points += 4;
    report.images += 4;
  }
  return report;
}

}  // namespace ehub::crash
