// The n-th call fails: for n = 0, 1, 2, ... until a run passes untouched. (The shape of SQLite's I/O error tests.)
//
// A run is a workload of the alphabet of small_workload.h on a base, while call n meets a fault, once or from then on
// for ever. A step that fails must say so with a typed Status, and the hub must then hold what it held before it, by
// every way of reading. A hub that became read-only must refuse every write as kReadOnly. Afterwards the process dies,
// or the power fails, and everything acknowledged must be there; of what failed, at most the step that made the hub
// read-only.
//
// A run is written as "failure:<base>:<letters>:<fault>:<forever>:<reads counted>:<n>".
//
// Thread-safety: one thread.

#pragma once

#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "child.h"
#include "history.h"
#include "io/fault_file.h"
#include "small_workload.h"
#include "survivor.h"

namespace ehub::crash {

// Which faults a run meets.
struct FaultPlan {
  Fault fault = Fault::kEio;
  bool forever = false;
  bool reads_too = false;
};

class FailureRun {
 public:
  // `n` may be beyond the last call.
  FailureRun(const Base& base, std::string base_name, std::string letters, FaultPlan plan, uint64_t n)
      : line_("failure:" + base_name + ":" + letters + ":" + std::to_string(static_cast<int>(plan.fault)) + ":" +
              std::to_string(plan.forever) + ":" + std::to_string(plan.reads_too) + ":" + std::to_string(n)),
        n_(n),
        letters_(std::move(letters)),
        options_(base.options),
        fs_(base.fs->clone()),
        history_(Durability::kFull, base.model) {
    fs_->count_reads(plan.reads_too);
    fs_->fail_at(n, plan.fault, plan.forever);
  }

  const std::string& line() const { return line_; }
  // Whether call n was reached.
  bool met() const { return met_; }

  // "" or what went wrong.
  std::string run() {
    live();
    met_ = fs_->calls() > n_;
    fs_->clear_plan();
    if (!wrong_.empty()) return wrong_;
    const std::unique_ptr<FaultFileSystem> cut = fs_->clone();
    fs_->crash(CrashModel::kKillProcess, 0);
    check(*fs_, "after a kill: ");
    cut->crash(CrashModel::kDropUnsynced, 0);
    check(*cut, "after a power cut: ");
    return wrong_;
  }

 private:
  void fail(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }

  void live() {
    auto opened = Store::open(*fs_, kRoot, options_);
    if (!opened.ok()) return check_type(opened.status(), "open");
    for (size_t i = 0; i < letters_.size() && wrong_.empty(); ++i) {
      for (const Step& step : steps_of(letters_[i], i, history_.now())) {
        if (!take(*opened.value(), step)) break;
      }
    }
    if (const Status status = opened.value()->close(); !status.ok()) check_type(status, "close");
  }

  // What a fault may become.
  void check_type(const Status& status, const std::string& call) {
    const bool typed = status.code() == Code::kIo || status.code() == Code::kReadOnly;
    if (!typed) fail(call + " fails as code " + std::to_string(int(status.code())) + ": " + status.message());
  }

  // False if the step failed.
  bool take(Store& store, const Step& step) {
    if (!refusing_) history_.begin(step);
    const Status status = perform(store, step);
    if (status.ok()) {
      if (refusing_ && writes(step)) fail("a read-only hub took a write");
      if (!refusing_) history_.acknowledge(step);
    } else {
      refused(step, status);
    }
    look_around(store);
    return status.ok();
  }

  static bool writes(const Step& step) {
    return step.kind != Step::Kind::kSync && step.kind != Step::Kind::kCheckpoint && step.kind != Step::Kind::kCompact;
  }

  void refused(const Step& step, const Status& status) {
    check_type(status, "step " + std::to_string(int(step.kind)));
    if (is_about_index(status)) fail("a graph is in the way: " + status.message());
    const bool now_read_only = status.code() == Code::kReadOnly;
    if (refusing_ && writes(step) && !now_read_only) fail("a read-only hub fails otherwise: " + status.message());
    // Whether a step that made the hub read-only has happened is known after the next open.
    if (!refusing_ && !now_read_only) history_.refuse();
    refusing_ |= now_read_only;
  }

  // The hub reads as it did before, unless reading itself is what fails.
  void look_around(const Store& store) {
    const Result<SeenHub> seen = look(store);
    if (!seen.ok()) return check_type(seen.status(), "a read");
    const std::string difference = differs(seen.value(), history_.now());
    if (!difference.empty()) return fail("while open: " + difference);
    if (fs_->faults_injected() > 0) return;
    if (const std::string wrong = disagrees(store, seen.value(), history_.now()); !wrong.empty()) fail(wrong);
  }

  void check(FaultFileSystem& fs, const std::string& when) {
    Survivor survivor =
        revive(fs, options_, history_, history_.first_allowed(CrashModel::kDropUnsynced), absent_keys());
    if (!survivor.wrong.empty()) return fail(when + survivor.wrong);
    const ModelHub& found = history_.model(survivor.model);
    if (const std::string wrong = shows_more_than_the_disk_has(fs, options_, found); !wrong.empty()) {
      return fail(when + wrong);
    }
    const std::string wrong = cannot_go_on(fs, options_, std::move(survivor.store), found);
    if (!wrong.empty()) fail(when + wrong);
  }

  std::string line_;
  uint64_t n_;
  std::string letters_;
  StoreOptions options_;
  std::unique_ptr<FaultFileSystem> fs_;
  History history_;
  bool refusing_ = false;  // a failed step made the hub read-only
  bool met_ = false;
  std::string wrong_;
};

inline Report fail_each_call(const std::string& base_name, const std::string& letters, const FaultPlan& plan,
                             Note& note) {
  Report report;
  const Base base = make_base(base_name);
  for (uint64_t n = 0; report.failures.size() < kFailuresMax; ++n) {
    FailureRun run(base, base_name, letters, plan, n);
    note.set(run.line());
    const std::string wrong = run.run();
    if (!wrong.empty()) report.failures.push_back(run.line() + " " + wrong);
    if (!run.met() && wrong.empty()) break;
    ++report.points;
    ++report.images;
  }
  return report;
}

}  // namespace ehub::crash
