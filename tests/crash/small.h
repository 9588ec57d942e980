// Every crash of every small workload: the exhaustive half of the crash tests.
//
// A workload of up to three operations runs on a base, its last operation and the close are crashed before each
// mutating call, in the middle of each write, and after the last; earlier operations were the last one of a shorter
// workload. Each crash leaves one disk for each crash model and seed, and each disk must be as survivor.h says. Some
// recoveries are crashed in their turn at each of their own calls.
//
// Disks that are equal, with the same states allowed, are checked once: Report::images counts those that were. What
// costs most, going on with the survivor, is done with each disk of a killed process and with one in three of the
// others.
//
// A point is written as "small:<base>:<durability>:<letters>:<call>:<torn>:<model>:<seed>", and a crash of its recovery
// adds ":<call>:<torn>:<model>:<seed>"; SmallExplorer::reproduce() takes such a line.
//
// Thread-safety: one thread.

#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/hash.h"
#include "child.h"
#include "history.h"
#include "small_workload.h"
#include "survivor.h"

namespace ehub::crash {

// A crash: where, and what it leaves.
struct Crash {
  uint64_t call = 0;
  bool torn = false;
  CrashModel model = CrashModel::kDropUnsynced;
  uint64_t seed = 0;

  std::string name() const {
    return ":" + std::to_string(call) + ":" + std::to_string(torn) + ":" + std::to_string(static_cast<int>(model)) +
           ":" + std::to_string(seed);
  }
};

// Each model, those with chance in them several times.
inline const std::vector<std::pair<CrashModel, uint64_t>>& crash_outcomes() {
  static const std::vector<std::pair<CrashModel, uint64_t>> outcomes = {
      {CrashModel::kKillProcess, 0},   {CrashModel::kDropUnsynced, 0},    {CrashModel::kKeepPrefix, 1},
      {CrashModel::kKeepPrefix, 2},    {CrashModel::kKeepPrefix, 3},      {CrashModel::kRandomSectors, 1},
      {CrashModel::kRandomSectors, 2}, {CrashModel::kRandomSectors, 3},   {CrashModel::kTornTail, 1},
      {CrashModel::kTornTail, 2},      {CrashModel::kSizeWithoutData, 0}, {CrashModel::kDropNames, 0}};
  return outcomes;
}

class SmallExplorer {
 public:
  SmallExplorer(std::string base, Durability durability)
      : base_name_(std::move(base)), durability_(durability), base_(make_base(base_name_)), absent_(absent_keys()) {
    base_.options.durability = durability;
  }

  // All crashes of one workload. `outcomes`: how many of the outcomes of each crash are tried, in turn;
  // `recoveries_one_in`: how many recoveries are crashed.
  Report explore(const std::string& letters, size_t outcomes, uint64_t recoveries_one_in, Note& note) {
    Report report;
    outcomes_ = outcomes;
    turn_ = crc32c(0, letters.data(), letters.size());
    recoveries_one_in_ = recoveries_one_in;
    checked_.clear();
    const auto [first, last] = calls_of(letters);
    uint64_t image_before = 0;
    for (uint64_t call = first; call <= last; ++call) {
      for (const bool torn : {false, true}) {
        Run run = run_until(letters, {.call = call, .torn = torn});
        const uint64_t image = run.fs->fingerprint();
        if (torn && image == image_before) continue;  // not a write, or none of it was done
        image_before = image;
        explore_outcomes(letters, {.call = call, .torn = torn}, run, note, report);
        if (report.failures.size() >= kFailuresMax) return report;
      }
    }
    return report;
  }

  // "" or how the point that this line names fails.
  static std::string reproduce(const std::string& line) {
    std::istringstream in(line);
    std::string kind, base, durability, letters;
    for (std::string* field : {&kind, &base, &durability, &letters}) std::getline(in, *field, ':');
    if (letters == "-") letters.clear();
    SmallExplorer explorer(base, static_cast<Durability>(std::stoi(durability)));
    const std::optional<Crash> crash = read_crash(in);
    if (kind != "small" || !crash) return "cannot be parsed";
    const Run run = explorer.run_until(letters, *crash);
    const std::optional<Crash> second = read_crash(in);
    return second ? explorer.check_second(run, *crash, *second) : explorer.check(run, *crash);
  }

 private:
  // What a workload left when the power failed.
  struct Run {
    std::unique_ptr<FaultFileSystem> fs;
    History history;
  };

  static std::optional<Crash> read_crash(std::istringstream& in) {
    std::string fields[4];
    for (std::string& field : fields) {
      if (!std::getline(in, field, ':')) return std::nullopt;
    }
    return Crash{std::stoull(fields[0]), fields[1] == "1", static_cast<CrashModel>(std::stoi(fields[2])),
                 std::stoull(fields[3])};
  }

  std::string line(const std::string& letters, const Crash& crash) const {
    return "small:" + base_name_ + ":" + std::to_string(static_cast<int>(durability_)) + ":" +
           (letters.empty() ? "-" : letters) + crash.name();
  }

  // The mutating calls of the last operation and the close: the first, and the one after the last. Of the empty
  // workload, those of opening and closing.
  std::pair<uint64_t, uint64_t> calls_of(const std::string& letters) const {
    Run run{base_.fs->clone(), History(durability_, base_.model)};
    const uint64_t before = run.fs->mutating_calls();
    auto opened = Store::open(*run.fs, kRoot, base_.options);
    EHUB_ASSERT(opened.ok());
    const std::string prefix = letters.substr(0, letters.empty() ? 0 : letters.size() - 1);
    if (!letters.empty()) {
      perform_letters(*opened.value(), prefix, 0, run.history);
    }
    const uint64_t first = letters.empty() ? before : run.fs->mutating_calls();
    EHUB_ASSERT(perform_letters(*opened.value(), letters, prefix.size(), run.history));
    EHUB_ASSERT(opened.value()->close().ok());
    return {first, run.fs->mutating_calls()};
  }

  // False if a step failed.
  static bool perform_letters(Store& store, const std::string& letters, size_t from, History& history) {
    for (size_t i = from; i < letters.size(); ++i) {
      for (const Step& step : steps_of(letters[i], i, history.now())) {
        history.begin(step);
        if (!perform(store, step).ok()) return false;
        history.acknowledge(step);
      }
    }
    return true;
  }

  Run run_until(const std::string& letters, const Crash& crash) const {
    Run run{base_.fs->clone(), History(durability_, base_.model)};
    run.fs->crash_at(crash.call, crash.torn);
    auto opened = Store::open(*run.fs, kRoot, base_.options);
    if (!opened.ok()) return run;
    if (perform_letters(*opened.value(), letters, 0, run.history) && opened.value()->close().ok()) run.history.settle();
    return run;
  }

  void explore_outcomes(const std::string& letters, Crash crash, const Run& run, Note& note, Report& report) {
    for (size_t i = 0; i < outcomes_ && report.failures.size() < kFailuresMax; ++i) {
      std::tie(crash.model, crash.seed) = crash_outcomes()[turn_++ % crash_outcomes().size()];
      ++report.points;
      const std::unique_ptr<FaultFileSystem> left = run.fs->clone();
      left->crash(crash.model, crash.seed);
      if (!is_new(*left, run, crash.model)) continue;
      ++report.images;
      note.set(line(letters, crash));
      const bool going_on = crash.model == CrashModel::kKillProcess || report.images % 3 == 0;
      const std::string wrong = check_disk(*left, run, crash.model, going_on);
      if (!wrong.empty()) report.failures.push_back(line(letters, crash) + " " + wrong);
      if (report.images % recoveries_one_in_ == 0) explore_recovery(letters, crash, run, note, report);
    }
  }

  bool is_new(const FaultFileSystem& left, const Run& run, CrashModel model) {
    // What a killed process leaves is not synced, so it is not the same disk as after a power cut.
    const uint64_t allowed = run.history.first_allowed(model) << 8 | run.history.last_allowed();
    const uint64_t killed = model == CrashModel::kKillProcess ? 1 : 0;
    return checked_.insert(fold_product(left.fingerprint() ^ allowed, 0xD1B54A32D192ED03 + killed)).second;
  }

  std::string check(const Run& run, const Crash& crash) const {
    run.fs->crash(crash.model, crash.seed);
    return check_disk(*run.fs, run, crash.model, true);
  }

  // Opens what the crash left, again and again, as survivor.h says. Uses `fs` up.
  std::string check_disk(FaultFileSystem& fs, const Run& run, CrashModel model, bool going_on) const {
    Survivor survivor = revive(fs, base_.options, run.history, run.history.first_allowed(model), absent_);
    if (!survivor.wrong.empty() || !going_on) return survivor.wrong;
    const ModelHub& found = run.history.model(survivor.model);
    std::string wrong;
    if (durability_ == Durability::kFull) wrong = shows_more_than_the_disk_has(fs, base_.options, found);
    return wrong.empty() ? cannot_go_on(fs, base_.options, std::move(survivor.store), found) : wrong;
  }

  // Crashes the recovery at each of its calls, by a power cut and by a kill.
  void explore_recovery(const std::string& letters, const Crash& crash, const Run& run, Note& note, Report& report) {
    const uint64_t calls = recovery_calls(run, crash);
    for (uint64_t call = 0; call <= calls; ++call) {
      for (const bool torn : {false, true}) {
        const auto& [model, seed] = crash_outcomes()[turn_++ % crash_outcomes().size()];
        const Crash second{call, torn, model, seed};
        ++report.points;
        ++report.images;
        note.set(line(letters, crash) + second.name());
        const std::string wrong = check_second(run, crash, second);
        if (!wrong.empty()) report.failures.push_back(line(letters, crash) + second.name() + " " + wrong);
      }
    }
  }

  uint64_t recovery_calls(const Run& run, const Crash& crash) const {
    const std::unique_ptr<FaultFileSystem> left = run.fs->clone();
    left->crash(crash.model, crash.seed);
    const auto opened = Store::open(*left, kRoot, base_.options);
    return left->mutating_calls();
  }

  std::string check_second(const Run& run, const Crash& crash, const Crash& second) const {
    const std::unique_ptr<FaultFileSystem> left = run.fs->clone();
    left->crash(crash.model, crash.seed);
    left->crash_at(second.call, second.torn);
    (void)Store::open(*left, kRoot, base_.options);
    left->crash(second.model, second.seed);
    // The weaker of the two promises holds.
    const bool killed = crash.model == CrashModel::kKillProcess && second.model == CrashModel::kKillProcess;
    return check_disk(*left, run, killed ? CrashModel::kKillProcess : CrashModel::kDropUnsynced, true);
  }

  std::string base_name_;
  Durability durability_;
  Base base_;
  AbsentKeys absent_;
  size_t outcomes_ = 0;
  size_t turn_ = 0;  // which outcome is next
  uint64_t recoveries_one_in_ = 0;
  std::unordered_set<uint64_t> checked_;
};

// Every word of the alphabet of 1 to `letters_max` letters that begins with `first`.
inline std::vector<std::string> words(char first, size_t letters_max) {
  std::vector<std::string> all = {std::string(1, first)};
  for (size_t i = 0; i < all.size() && all[i].size() < letters_max; ++i) {
    for (const char letter : kAlphabet) all.push_back(all[i] + letter);
  }
  return all;
}

}  // namespace ehub::crash
