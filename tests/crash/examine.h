// What must be true of a damaged hub; see damage.h.
//
// Thread-safety: one thread.

#pragma once

#include <memory>
#include <string>
#include <utility>

#include "base/limits.h"
#include "child.h"
#include "damage.h"

namespace ehub::crash {

class Examination {
 public:
  Examination(const Patient& patient, Damage damage)
      : patient_(patient), damage_(std::move(damage)), line_("damage:" + patient.name + ":" + damage_.name()) {}

  const std::string& line() const { return line_; }

  // "" or what went wrong.
  std::string run() {
    const std::unique_ptr<FaultFileSystem> damaged = patient_.fs->clone();
    if (!inflict(*damaged, damage_)) return "";
    read_back(*damaged->clone(), false);
    read_back(*damaged->clone(), true);
    const RepairReport report = repair(*damaged);
    if (wrong_.empty()) check_report(report);
    return wrong_;
  }

  // The same for a repair that is cut short, at each third of its calls, and begun again.
  std::string crash_repairs() {
    const std::unique_ptr<FaultFileSystem> damaged = patient_.fs->clone();
    if (!inflict(*damaged, damage_)) return "";
    damaged->crash(CrashModel::kTornTail, 0);
    const std::unique_ptr<FaultFileSystem> whole = damaged->clone();
    (void)Store::repair(*whole, kRoot);
    for (uint64_t call = 0; call < whole->mutating_calls() && wrong_.empty(); call += 3) {
      const std::unique_ptr<FaultFileSystem> cut = damaged->clone();
      cut->crash_at(call, call % 2 == 0);
      (void)Store::repair(*cut, kRoot);
      cut->crash(static_cast<CrashModel>(call / 3 % 7), call);
      repair(*cut);
      if (!wrong_.empty()) wrong_ += ", repaired again after a crash at call " + std::to_string(call);
    }
    return wrong_;
  }

 private:
  void fail(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }

  void check_type(const Status& status, const std::string& call) {
    const Code code = status.code();
    if (is_index_file(damage_.path)) return fail(call + " fails for want of a graph: " + status.message());
    if (code == Code::kCorruption || code == Code::kFormat || code == Code::kNotFound) return;
    fail(call + " fails as code " + std::to_string(int(code)) + ": " + status.message());
  }

  void read_back(FaultFileSystem& fs, bool read_only) {
    StoreOptions options = patient_.options;
    options.read_only = read_only;
    const std::string who = read_only ? "reader: " : "writer: ";
    const auto opened = Store::open(fs, kRoot, options);
    if (!opened.ok()) return check_type(opened.status(), who + "open");
    const Store& store = *opened.value();
    const Result<SeenHub> seen = look(store);
    if (!seen.ok()) return check_type(seen.status(), who + "a read");
    const ModelHub* model = which(seen.value());
    if (model == nullptr) return fail(who + "a wrong answer: " + differs(seen.value(), patient_.model()));
    std::string wrong = disagrees(store, seen.value(), *model, absent_keys());
    if (wrong.empty()) wrong = subindices_disagree(store, seen.value(), *model);
    if (!wrong.empty() && !wrong.starts_with(kFailed)) return fail(who + "a wrong answer: " + wrong);
    if (wrong.empty() && must_be_noticed() && verify_finds(store).empty()) fail(who + "verify() does not notice it");
  }

  // The model that the hub shows, if it may show it; else null.
  const ModelHub* which(const SeenHub& seen) const {
    const size_t last = patient_.models.size() - 1;
    for (size_t i = last + 1; i-- > 0;) {
      if (!differs(seen, patient_.models[i]).empty()) continue;
      return i == last || may_forget(last - i) ? &patient_.models[i] : nullptr;
    }
    return nullptr;
  }

  bool in(std::string_view suffix) const { return damage_.path.ends_with(suffix); }

  // Whether the hub may come back without its last `batches` batches.
  bool may_forget(size_t batches) const {
    if (patient_.was_closed() || !in(".log")) return false;
    return damage_.kind == Damage::Kind::kTruncate || (batches == 1 && damage_.kind != Damage::Kind::kMissing);
  }

  // Of a closed hub, every byte of these files is under a checksum.
  bool must_be_noticed() const {
    if (!patient_.was_closed() || damage_.kind == Damage::Kind::kExtra) return false;
    return in(".f32") || in(".seg") || in("CURRENT") || damage_.path.find("manifest-") != std::string::npos;
  }

  RepairReport repair(FaultFileSystem& fs) {
    const Result<RepairReport> report = Store::repair(fs, kRoot);
    if (report.ok()) {
      check_repaired(fs);
      return report.value();
    }
    if (in_manifest() && !manifest_is_gone()) fail("repair fails although a copy of the manifest is whole");
    check_type(report.status(), "repair");
    return {};
  }

  void check_repaired(FaultFileSystem& fs) {
    const auto opened = Store::open(fs, kRoot, patient_.options);
    if (!opened.ok()) return fail("a repaired hub does not open: " + opened.status().message());
    if (const std::string found = verify_finds(*opened.value()); !found.empty()) return fail("repaired: " + found);
    const Result<SeenHub> seen = look(*opened.value());
    if (!seen.ok()) return fail("a repaired hub cannot be read: " + seen.status().message());
    check_kept(seen.value());
    check_lost(seen.value());
    check_names(seen.value());
    lost_rows_ = count_lost(seen.value());
  }

  // What is gone must be told: by rows, or by batches of which nothing is known.
  void check_report(const RepairReport& report) {
    if (report.batches_dropped == 0 && report.rows_dropped < lost_rows_) {
      fail("repair lost " + std::to_string(lost_rows_) + " rows and tells of " + std::to_string(report.rows_dropped));
    }
    if (report.batches_dropped + report.rows_dropped > 0 && report.dropped.empty()) fail("repair does not say why");
  }

  uint64_t count_lost(const SeenHub& seen) const {
    uint64_t lost = 0;
    for (const auto& [name, space] : patient_.model()) {
      const auto found = seen.find(name);
      for (const auto& [key, row] : space->rows) lost += found == seen.end() || !holds(found->second, key);
    }
    return lost;
  }

  // Every row left must have been written like that.
  void check_kept(const SeenHub& seen) {
    for (const auto& [name, space] : seen) {
      const std::string of = space_and_version(name.substr(0, name.find('#'))).first;
      for (const SeenRow& row : space.rows) {
        const auto written = patient_.written.find({of, row.key});
        if (written == patient_.written.end()) return fail("repair made up " + shown(row.key));
        const auto same = [&](const ModelRow& other) { return other.holds(row.vector); };
        if (std::none_of(written->second.begin(), written->second.end(), same)) {
          return fail("repair changed " + shown(row.key));
        }
      }
    }
  }

  void check_lost(const SeenHub& seen) {
    for (const auto& [name, space] : patient_.model()) {
      check_lost_of(seen, name, *space);
      for (const auto& [tag, then] : space->tags) {
        const bool may_be_gone = in(".log") && !patient_.was_closed();  // it was set in there
        if (!may_be_gone || seen.contains(tag_name(name, tag))) check_lost_of(seen, tag_name(name, tag), *then);
      }
    }
  }

  void check_lost_of(const SeenHub& seen, const std::string& name, const ModelSpace& space) {
    const auto found = seen.find(name);
    for (const auto& [key, row] : space.rows) {
      if (found != seen.end() && holds(found->second, key)) continue;
      if (!touched(patient_.places.at({name, key}), space.schema)) {
        return fail("repair lost " + shown(key) + " of '" + name + "', which was not damaged");
      }
    }
  }

  // Notes, tags and what is frozen are in the manifest and the log.
  void check_names(const SeenHub& seen) {
    if (in_manifest() || in("CURRENT") || (in(".log") && !patient_.was_closed())) return;
    if (seen.notes != patient_.model().notes) return fail("repair changed notes");
    for (const auto& [name, space] : patient_.model()) {
      const auto found = seen.find(name);
      if (found == seen.end()) return;  // of a space in the log
      if (table_frozen(*found->second.table) != space->frozen) return fail("repair froze or thawed '" + name + "'");
      for (const auto& [tag, then] : space->tags) {
        if (!seen.contains(tag_name(name, tag))) return fail("repair lost tag '" + tag + "' of '" + name + "'");
      }
    }
  }

  static bool holds(const SeenSpace& space, const std::string& key) {
    const auto at = std::lower_bound(space.rows.begin(), space.rows.end(), key,
                                     [](const SeenRow& row, const std::string& wanted) { return row.key < wanted; });
    return at != space.rows.end() && at->key == key;
  }

  // Whether the damage may have hit what the row consists of.
  bool touched(const RowPlace& place, const Schema& schema) const {
    if (in_manifest()) return manifest_is_gone();
    if (in(".log")) return place.segment == 0;
    if (!in(".f32") && !in(".seg")) return false;
    const SegmentId damaged = std::stoull(damage_.path.substr(damage_.path.rfind('/') + 1));
    if (place.segment == 0) return !patient_.is_sealed(damaged);
    if (damaged != place.segment) return false;
    if (damage_.kind == Damage::Kind::kAppend) return false;
    return in(".seg") || damage_.kind == Damage::Kind::kMissing || in_damaged_block(place, schema);
  }

  bool in_manifest() const { return damage_.path.find("manifest-") != std::string::npos; }
  // Whether neither copy may be left of it; the second one is on a page of its own.
  bool manifest_is_gone() const {
    return damage_.kind == Damage::Kind::kMissing || (damage_.kind == Damage::Kind::kTruncate && damage_.offset < 4096);
  }

  // Blocks are what a checksum covers. Bytes behind the end damage no row.
  bool in_damaged_block(const RowPlace& place, const Schema& schema) const {
    const uint64_t begin = place.row * schema.row_bytes() / kChecksumBlockBytes;
    const uint64_t end = ((place.row + 1) * schema.row_bytes() - 1) / kChecksumBlockBytes;
    const uint64_t block = damage_.offset / kChecksumBlockBytes;
    return damage_.kind == Damage::Kind::kTruncate ? end >= block : begin <= block && block <= end;
  }

  const Patient& patient_;
  Damage damage_;
  std::string line_;
  std::string wrong_;
  uint64_t lost_rows_ = 0;
};

inline constexpr size_t kRepairsOneIn = 40;  // so many repairs are cut short

// Those damages of the hub whose number is `part` modulo `parts`.
inline Report damage_hub(const std::string& name, size_t part, size_t parts, Note& note) {
  Report report;
  const Patient patient = make_patient(name);
  const std::vector<Damage> damages = all_damages(patient);
  for (size_t i = part; i < damages.size() && report.failures.size() < kFailuresMax; i += parts) {
    Examination examination(patient, damages[i]);
    note.set(examination.line());
    std::string wrong = examination.run();
    if (wrong.empty() && i / parts % kRepairsOneIn == 0) wrong = examination.crash_repairs();
    if (!wrong.empty()) report.failures.push_back(examination.line() + " " + wrong);
    ++report.points;
    ++report.images;
  }
  return report;
}

}  // namespace ehub::crash
