// A long random life of a hub with many crashes, each going on with what the one before left.
//
// In each of ten generations the power fails, or the process dies, at a random call, torn or not; sometimes the
// recovery dies, too; sometimes the hub is closed in peace. Whatever is reopened must be as history.h allows, and no
// file may have a vector of a key that was erased. On the way, views that were taken earlier are read again:
// checkpoints and compactions must not have moved a bit beneath them.
//
// A walk is written as "random:<seed>:<operations>".
//
// Thread-safety: one thread.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "child.h"
#include "history.h"
#include "io/fault_file.h"
#include "random_workload.h"
#include "store/compaction.h"
#include "store/table.h"
#include "survivor.h"

namespace ehub::crash {

class RandomWalk {
 public:
  static constexpr size_t kGenerations = 10;
  static constexpr size_t kHeldMax = 3;

  RandomWalk(uint64_t seed, size_t operations)
      : line_("random:" + std::to_string(seed) + ":" + std::to_string(operations)),
        operations_(operations),
        random_(seed),
        steps_(seed ^ 0x5DEECE66D),
        durability_(static_cast<Durability>(seed % 3)),
        history_(durability_, {}) {}

  Report run(Note& note) {
    for (size_t generation = 0; generation < kGenerations && report_.failures.empty(); ++generation) {
      place_ = line_ + " generation " + std::to_string(generation);
      note.set(place_);
      options_ = random_options(random_, durability_);
      live();
      if (report_.failures.empty()) die();
    }
    return report_;
  }

 private:
  // Views and what they must show as long as they are held.
  struct Pinned {
    SeenHub views;
    ModelHub model;
  };

  // A snapshot, and what it shows as long as it is held.
  struct Held {
    std::string table;
    std::shared_ptr<const Snapshot> snapshot;
    std::shared_ptr<const ModelSpace> model;
  };

  // What looks on while the hub is written. Views may outlive the store.
  struct Onlookers {
    std::optional<Pinned> pinned;
    std::unique_ptr<Store> reader;
    std::vector<Held> held;
  };

  void fail(const std::string& what) { report_.failures.push_back(place_ + ": " + what); }

  // Opens the hub as it should be and works until the power fails or the operations are done.
  void live() {
    fs_.crash_at(random_.below(10) == 0 ? ~uint64_t{0} : random_.below(calls_max()), random_.coin());
    Onlookers onlookers;
    auto opened = Store::open(fs_, kRoot, options_);
    if (!opened.ok()) return fs_.powered_off() ? void() : fail("does not open: " + opened.status().message());
    for (size_t i = 0; i < operations_ / kGenerations && !fs_.powered_off() && report_.failures.empty(); ++i) {
      work(*opened.value(), onlookers);
      if (!fs_.powered_off() && random_.below(6) == 0) hold(*opened.value(), onlookers.held);
      if (!fs_.powered_off() && random_.below(8) == 0) glance(*opened.value(), onlookers);
    }
    if (!fs_.powered_off() && random_.below(4) == 0) close(*opened.value());
    if (random_.coin()) onlookers = {};
    // A process that is killed does not close.
    fs_.crash_at(fs_.mutating_calls());
  }

  // So many calls that most lives end before their operations do.
  uint64_t calls_max() const { return 20 + 4 * operations_ / kGenerations; }

  // Takes a snapshot of some table, or lets go of one, after a last look.
  void hold(const Store& store, std::vector<Held>& held) {
    if (held.size() == kHeldMax) {
      if (const std::string wrong = shows_another(held.front()); !wrong.empty()) return fail("snapshot: " + wrong);
      held.erase(held.begin());
    }
    const ModelHub& now = history_.now();
    if (now.empty()) return;
    const auto at = std::next(now.begin(), static_cast<ptrdiff_t>(random_.below(now.size())));
    const auto [space, version] = space_and_version(at->first);
    const auto table = store.version(space, version);
    const auto snapshot = table.ok() ? store.snapshot(*table.value()) : table.status();
    if (!snapshot.ok()) return fail("no snapshot: " + snapshot.status().message());
    held.push_back({at->first, snapshot.value(), at->second});
  }

  // Read anew, and through a view of the table as it is now.
  static std::string shows_another(const Held& held) {
    SeenSpace seen;
    seen.view = held.snapshot->view();
    if (const Status status = scan_space(seen); !status.ok()) return status.message();
    std::string difference = space_differs(seen, *held.model);
    if (difference.empty()) difference = tag_disagrees(seen, *held.model);
    if (!difference.empty() || held.snapshot->table().dropped()) return difference;
    SeenSpace again;
    again.view = std::make_shared<const View>(held.snapshot->table().state(), seen.view->seq(), seen.view->schema(), 0);
    if (const Status status = scan_space(again); !status.ok()) return status.message();
    const std::string other = space_differs(again, *held.model);
    return other.empty() ? "" : "in the newest state: " + other;
  }

  // Some steps go to the time of a snapshot that is held.
  void use_held(Step& step, const std::vector<Held>& held) {
    const bool may =
        step.kind == Step::Kind::kTag || step.kind == Step::Kind::kRestore || step.kind == Step::Kind::kFork;
    if (!may || held.empty() || random_.coin()) return;
    const Held& chosen = held[random_.below(held.size())];
    if (chosen.table != step.space || chosen.snapshot->table().dropped()) return;
    if (step.kind != Step::Kind::kTag) step.tag.clear();
    step.held = chosen.snapshot;
    step.showed = chosen.model;
  }

  void work(Store& store, Onlookers& onlookers) {
    Step step = steps_.next(history_.now());
    use_held(step, onlookers.held);
    const std::vector<std::string> vectors = vectors_of_erased(step);
    history_.begin(step);
    Status status = perform(store, step);
    if (step.kind == Step::Kind::kErase && status.code() == Code::kConflict && holds_any(onlookers)) {
      onlookers.held.clear();
      onlookers.pinned.reset();
      status = perform(store, step);
    }
    if (status.ok()) {
      history_.acknowledge(step);
      erased_.insert(erased_.end(), vectors.begin(), vectors.end());
      if (const std::string wrong = is_left_in_the_way(store, step); !wrong.empty()) fail(wrong);
    } else if (!fs_.powered_off()) {
      fail("a step fails: " + status.message());
    }
  }

  // "" or a sealed segment of the table that was just compacted which has rows that no time needs, or, beside rows that
  // live, more dead ones than may be there.
  static std::string is_left_in_the_way(const Store& store, const Step& step) {
    if (step.kind != Step::Kind::kCompact) return "";
    const auto [space, version] = space_and_version(step.space);
    const auto table = store.version(space, version);
    if (!table.ok()) return "";
    const Times times = {store.visible_seq(), table.value()->pins().all()};
    for (const SealedRef& ref : table.value()->sealed()) {
      const std::string segment = "after a compaction segment " + std::to_string(ref.segment->info().id);
      if (has_many_dead(ref)) return segment + " has many dead rows among those that live";
      if (needed_rows({ref.segment, ref.deaths}, times) != ref.segment->row_count())
        return segment + " has needless rows";
    }
    return "";
  }

  // Whether somebody may hold a snapshot: nothing is erased then.
  static bool holds_any(const Onlookers& onlookers) { return !onlookers.held.empty() || onlookers.pinned.has_value(); }

  // The bytes of all vectors that tables and tags show of the keys of an erasure.
  std::vector<std::string> vectors_of_erased(const Step& step) const {
    std::vector<std::string> vectors;
    if (step.kind != Step::Kind::kErase) return vectors;
    for (const auto& [name, table] : history_.now()) {
      if (!is_of_space(name, step.space)) continue;
      add_vectors(*table, step.keys, vectors);
      for (const auto& [tag, then] : table->tags) add_vectors(*then, step.keys, vectors);
    }
    return vectors;
  }

  static void add_vectors(const ModelSpace& table, const std::vector<std::string>& keys,
                          std::vector<std::string>& vectors) {
    for (const std::string& key : keys) {
      const auto row = table.rows.find(key);
      if (row == table.rows.end()) continue;
      const std::vector<float>& vector = *row->second.vector;
      vectors.emplace_back(reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float));
    }
  }

  // "" or a file that has a vector that was erased. Requires: a writer, and no reader, has opened the hub since.
  std::string keeps_erased() const {
    for (const std::string& path : fs_.paths()) {
      const std::string bytes = fs_.contents(path).value();
      for (const std::string& vector : erased_) {
        if (bytes.find(vector) != std::string::npos) return path + " has a vector that was erased";
      }
    }
    return "";
  }

  void close(Store& store) {
    const Status status = store.close();
    if (status.ok()) {
      history_.settle();
    } else if (!fs_.powered_off()) {
      fail("close fails: " + status.message());
    }
  }

  // Reads the hub as it is, from within and from beside it, and views of some time ago.
  void glance(const Store& store, Onlookers& onlookers) {
    if (const std::string wrong = compare_all(store, history_.now()); !wrong.empty())
      return fail("while open: " + wrong);
    for (const Held& held : onlookers.held) {
      if (const std::string wrong = shows_another(held); !wrong.empty()) return fail("snapshot: " + wrong);
    }
    if (const std::string wrong = read_beside(onlookers.reader); !wrong.empty()) return fail("reader: " + wrong);
    std::optional<Pinned>& pinned = onlookers.pinned;
    if (pinned) {
      if (const std::string wrong = reread(pinned->views, pinned->model); !wrong.empty())
        return fail("pinned: " + wrong);
      pinned.reset();
    } else if (auto views = look(store); views.ok()) {
      pinned = {std::move(views.value()), history_.now()};
    }
  }

  // A reader opens, or follows, and is kept for the next time or not.
  std::string read_beside(std::unique_ptr<Store>& reader) {
    if (reader == nullptr) {
      StoreOptions options = options_;
      options.read_only = true;
      auto opened = Store::open(fs_, kRoot, options);
      if (!opened.ok()) return "does not open: " + opened.status().message();
      reader = std::move(opened.value());
    } else if (const Status status = reader->refresh(); !status.ok()) {
      return "cannot refresh: " + status.message();
    }
    const std::string wrong = compare_all(*reader, history_.now());
    if (random_.below(3) == 0) reader.reset();
    return wrong;
  }

  static std::string reread(const SeenHub& views, const ModelHub& model) {
    SeenHub again;
    for (const auto& [name, space] : views) {
      SeenSpace copy;
      copy.view = space.view;
      if (const Status status = scan_space(copy); !status.ok()) return status.message();
      again.emplace(name, std::move(copy));
    }
    for (const auto& [name, space] : again) again.at(name).table = views.at(name).table;
    again.notes = views.notes;
    for (const SeenHub* seen : {&views, static_cast<const SeenHub*>(&again)}) {
      for (const auto& [name, table] : model) {
        std::string wrong = table_differs(*seen, name, *table);
        for (const auto& [tag, then] : table->tags) {
          if (wrong.empty()) wrong = table_differs(*seen, tag_name(name, tag), *then);
        }
        if (!wrong.empty()) return wrong;
      }
    }
    return "";
  }

  // Crashes, recovers, perhaps dying again meanwhile, and goes on as what came back.
  void die() {
    CrashModel crash = random_crash();
    fs_.crash(crash, random_.next());
    for (uint64_t deaths = random_.below(3); deaths > 0; --deaths) {
      fs_.crash_at(random_.below(12), random_.coin());
      (void)Store::open(fs_, kRoot, options_);
      const CrashModel again = random_crash();
      fs_.crash(again, random_.next());
      if (again != CrashModel::kKillProcess) crash = again;
    }
    come_back(crash);
  }

  CrashModel random_crash() { return static_cast<CrashModel>(random_.below(7)); }

  void come_back(CrashModel crash) {
    ++report_.points;
    ++report_.images;
    Survivor survivor = revive(fs_, options_, history_, history_.first_allowed(crash), RandomSteps::all_keys());
    if (!survivor.wrong.empty()) return fail(survivor.wrong);
    if (durability_ == Durability::kFull) {
      const ModelHub& found = history_.model(survivor.model);
      const std::string wrong = shows_more_than_the_disk_has(fs_, options_, found);
      if (!wrong.empty()) return fail(wrong);
    }
    if (const std::string found = verify_finds(*survivor.store); !found.empty()) return fail(found);
    if (const std::string wrong = keeps_erased(); !wrong.empty()) return fail(wrong);
    erased_.clear();
    history_.come_back(survivor.model, crash);
    fs_.crash_at(fs_.mutating_calls());
    survivor.store.reset();
    fs_.crash(CrashModel::kKillProcess, 0);
  }

  std::string line_;
  size_t operations_;
  FaultRandom random_;
  RandomSteps steps_;
  Durability durability_;
  History history_;
  StoreOptions options_;
  FaultFileSystem fs_;
  std::vector<std::string> erased_;  // bytes that no file may have when the hub is opened again
  std::string place_;
  Report report_;
};

}  // namespace ehub::crash
