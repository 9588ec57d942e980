// A disk that fills up: the write that does not fit fails cleanly, and freeing space lets the hub go on.
//
// A run fills a disk of a given size with batches of all sizes, tries to write on, then frees space in one of three
// ways without reopening: from outside ("grow": the disk becomes larger), by deleting and compacting ("compact"), by
// dropping a space ("drop"). On a disk of an even number of bytes the larger segments have graphs, which must never be
// what fails. Deleting needs a little space itself, so it may fail, cleanly; then the run goes on as
// "grow". Report::images counts the runs that never needed that.
//
// A run is written as "disk:<bytes>:<way>".
//
// Thread-safety: one thread.

#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "child.h"
#include "history.h"
#include "io/fault_file.h"
#include "small_workload.h"
#include "survivor.h"

namespace ehub::crash {

class DiskRun {
 public:
  DiskRun(uint64_t bytes, std::string way)
      : line_("disk:" + std::to_string(bytes) + ":" + way), bytes_(bytes), way_(std::move(way)) {
    options_ = roomy_options();
    options_.large_batch_bytes = 64 << 10;
    options_.log_bytes_max = 128 << 10;
    options_.segment_bytes_max = 300 << 10;
    options_.carry_bytes_max = 8 << 10;
    if (bytes % 2 == 0) options_.graph_rows_min = 16;
  }

  const std::string& line() const { return line_; }
  bool helped_itself() const { return helped_itself_; }

  // "" or what went wrong.
  std::string run() {
    fs_.set_disk_bytes_max(bytes_);
    auto opened = Store::open(fs_, kRoot, options_);
    if (!opened.ok()) return full(opened.status()) ? "" : "open fails otherwise: " + opened.status().message();
    store_ = std::move(opened.value());
    fill();
    if (wrong_.empty()) make_room();
    if (wrong_.empty()) go_on();
    if (wrong_.empty()) reopen();
    return wrong_;
  }

 private:
  static constexpr size_t kStepsMax = 500;

  void fail(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }
  static bool full(const Status& status) { return status.code() == Code::kIo && status.error_number() == ENOSPC; }

  // True if the step was done. If not, the disk must be what was lacking, and the hub as it was.
  bool take(const Step& step) {
    if (step.kind != Step::Kind::kCreate && !step.space.empty() && !history_.now().contains(step.space)) return false;
    history_.begin(step);
    const Status status = perform(*store_, step);
    if (status.ok()) {
      history_.acknowledge(step);
      return true;
    }
    history_.refuse();
    if (!full(status)) fail("fails otherwise: " + status.message());
    if (is_about_index(status)) fail("a graph is in the way: " + status.message());
    if (store_->is_read_only()) fail("is read-only because the disk is full");
    if (const std::string wrong = compare(*store_, history_.now()); !wrong.empty()) fail("when full: " + wrong);
    return false;
  }

  // Until a large batch, a small one and a single row were each refused twice in a row.
  void fill() {
    take(create_step("items", kItemsSchema));
    take(create_step("other", kOtherSchema));
    size_t refused = 0;
    for (size_t i = 0; i < kStepsMax && refused < 6 && wrong_.empty(); ++i) {
      const Step step = step_of("lms"[i % 3], i);
      refused = take(step) ? 0 : refused + 1;
      if (i % 5 == 0) take(make_set("other", kOtherSchema.dims, {integer_key(int64_t(i))}, 70'000 + i));
    }
    if (refused < 6) fail("the disk never became full");
  }

  void make_room() {
    helped_itself_ = way_ == "drop" ? take(plain_step(Step::Kind::kDrop, "items")) : way_ == "compact" && delete_half();
    helped_itself_ = helped_itself_ && take(plain_step(Step::Kind::kCheckpoint)) && take(small_step());
    if (!helped_itself_) fs_.set_disk_bytes_max(bytes_ + (4 << 20));
  }

  Step small_step() const { return make_set("other", kOtherSchema.dims, {integer_key(-5)}, 90'000); }

  bool delete_half() {
    std::vector<std::string> keys;
    if (!history_.now().contains("items")) return false;
    for (const auto& [key, row] : history_.now().at("items")->rows) {
      if (keys.size() % 2 == 0 || key[0] == 'l') keys.push_back(key);
    }
    return take(delete_step("items", keys)) && take(plain_step(Step::Kind::kCompact, "items"));
  }

  void go_on() {
    if (!history_.now().contains("other") && !take(create_step("other", kOtherSchema))) {
      return fail("there is room again, but no space can be made");
    }
    for (int i = 0; i < 5; ++i) {
      if (!take(make_set("other", kOtherSchema.dims, {integer_key(-i)}, 80'000 + i))) {
        return fail("there is room again, but a write fails");
      }
    }
  }

  void reopen() {
    fs_.crash_at(fs_.mutating_calls());
    store_.reset();
    fs_.crash(CrashModel::kDropUnsynced, 0);
    if (const std::string wrong = opens_as(fs_, options_, history_.now()); wrong.empty()) return;
    // A recovery needs a little space, too.
    fs_.set_disk_bytes_max(bytes_ + (8 << 20));
    if (const std::string wrong = opens_as(fs_, options_, history_.now()); !wrong.empty()) fail(wrong);
  }

  std::string line_;
  uint64_t bytes_;
  std::string way_;
  StoreOptions options_;
  FaultFileSystem fs_;
  std::unique_ptr<Store> store_;
  History history_{Durability::kFull, {}};
  bool helped_itself_ = false;
  std::string wrong_;
};

inline Report fill_disks(uint64_t first_bytes, uint64_t last_bytes, uint64_t step_bytes, const std::string& way,
                         Note& note) {
  Report report;
  for (uint64_t bytes = first_bytes; bytes <= last_bytes && report.failures.size() < kFailuresMax;
       bytes += step_bytes) {
    DiskRun run(bytes, way);
    note.set(run.line());
    const std::string wrong = run.run();
    if (!wrong.empty()) report.failures.push_back(run.line() + " " + wrong);
    ++report.points;
    report.images += run.helped_itself() ? 1 : 0;
  }
  return report;
}

}  // namespace ehub::crash
