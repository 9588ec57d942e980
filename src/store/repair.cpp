// A state from what is undamaged.
//
// Segments that verify stay as they are; of the others, the rows that can be proven are written anew. So are those of
// the log, as far as it is whole. The result is a checkpoint like any other, and the files of the hub that it does not
// name go to lost+found, as they were.

#include <algorithm>
#include <set>

#include "store/numbered.h"
#include "store/rewrite.h"
#include "store/salvage.h"
#include "store/salvaged_segment.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

class Repair {
 public:
  Repair(FileSystem& fs, const std::string& root) : impl_(fs, root, options()) {}

  Result<RepairReport> run() {
    EHUB_RETURN_IF_ERROR(check_is_hub());
    EHUB_RETURN_IF_ERROR(impl_.lock_for_writing());
    for (const std::string& directory : {impl_.log_directory, impl_.segment_directory}) {
      EHUB_RETURN_IF_ERROR(impl_.fs.make_directory(directory));
    }
    Result<Manifest> manifest = choose_manifest();
    if (!manifest.ok()) return manifest.status();
    EHUB_RETURN_IF_ERROR(choose_numbers(&manifest.value()));
    EHUB_RETURN_IF_ERROR(impl_.load(std::move(manifest.value())));
    for (const auto& table : impl_.all_tables()) EHUB_RETURN_IF_ERROR(repair_table(*table));
    EHUB_RETURN_IF_ERROR(repair_log());
    return finish();
  }

 private:
  static StoreOptions options() {
    StoreOptions options;
    options.background = false;
    return options;
  }

  // Nothing is made in a directory that is none.
  Status check_is_hub() {
    const auto current = impl_.fs.open(impl_.root + "/CURRENT", FileSystem::Mode::kRead);
    if (current.ok()) return {};
    for (const NumberedPath path : {manifest_path, log_path, vector_path, segment_path}) {
      const std::string directory = directory_of(path);
      const Result<std::vector<uint64_t>> numbers = list_numbered(impl_.fs, directory, path);
      if (numbers.ok() && !numbers.value().empty()) return {};
    }
    return current.status().code() == Code::kNotFound ? not_found("there is no hub in '" + impl_.root + "'")
                                                      : current.status();
  }

  const std::string& directory_of(NumberedPath path) const {
    if (path == manifest_path) return impl_.root;
    return path == log_path ? impl_.log_directory : impl_.segment_directory;
  }

  // The one that CURRENT names, or else the newest that is readable.
  Result<Manifest> choose_manifest() {
    const Result<uint64_t> current = read_current(impl_.fs, impl_.root);
    if (current.ok()) {
      Result<Manifest> manifest = read_manifest(impl_.fs, impl_.root, current.value());
      if (manifest.ok() || manifest.status().code() == Code::kFormat) return manifest;
      report_.dropped.push_back(finding_of(manifest_path(impl_.root, current.value()), manifest.status()));
    } else {
      report_.dropped.push_back(finding_of(impl_.root + "/CURRENT", current.status()));
    }
    const Result<std::vector<uint64_t>> numbers = list_manifests(impl_.fs, impl_.root);
    if (!numbers.ok()) return numbers.status();
    for (auto number = numbers.value().rbegin(); number != numbers.value().rend(); ++number) {
      Result<Manifest> manifest = read_manifest(impl_.fs, impl_.root, *number);
      if (manifest.ok()) return manifest;
    }
    return corruption(impl_.root, 0, "no manifest is readable; without one the segments cannot be told apart");
  }

  // New files must not take the names of files that are there, wanted or not.
  Status choose_numbers(Manifest* manifest) {
    for (const NumberedPath path : {manifest_path, log_path, vector_path, segment_path}) {
      const Result<std::vector<uint64_t>> numbers = list_numbered(impl_.fs, directory_of(path), path);
      if (!numbers.ok()) return numbers.status();
      const uint64_t newest = numbers.value().empty() ? 0 : numbers.value().back();
      if (path == manifest_path) {
        manifest->number = std::max(manifest->number, newest);
      } else if (path == log_path) {
        newest_log_ = std::max(manifest->first_log, newest);
      } else {
        manifest->next_segment = std::max(manifest->next_segment, newest + 1);
      }
    }
    return {};
  }

  Status repair_table(Table& table) {
    std::vector<SealedRef> sealed;
    for (const SealedRef& ref : table.sealed()) {
      const std::vector<Finding> damage = ref.segment->findings();
      if (damage.empty()) {
        sealed.push_back(ref);
        continue;
      }
      report_.dropped.insert(report_.dropped.end(), damage.begin(), damage.end());
      EHUB_RETURN_IF_ERROR(salvage_segment(table, ref, sealed));
    }
    table.replace(std::move(sealed), {});
    uint64_t rows = 0;
    for (const SealedRef& ref : table.sealed()) rows += ref.segment->row_count() - ref.deaths->dead_count();
    table.set_row_count(rows);
    return {};
  }

  Status salvage_segment(const Table& table, const SealedRef& ref, std::vector<SealedRef>& sealed) {
    const SegmentId id = impl_.next_segment.fetch_add(1);
    const SegmentInfo& info = ref.segment->info();
    const auto found =
        SalvagedSegment::open(impl_.fs, impl_.segment_directory, table.schema, impl_.hash_seed, info, id);
    if (!found.ok() && found.status().code() != Code::kCorruption) return found.status();
    SegmentLosses losses;
    if (found.ok()) {
      losses = losses_of(table, *found.value(), *ref.deaths);
      const RewriteTarget target = {impl_.fs, impl_.segment_directory, table.schema, impl_.hash_seed, id};
      // Dead rows, too: the log may have a restore to any time. But for those of which that is not known.
      const auto usable = [&](size_t, Row row) {
        const bool has_past = found.value()->has_birth(row) || ref.deaths->death(row) == 0;
        return found.value()->has_key(row) && found.value()->has_vector(row) && has_past;
      };
      const auto rewritten = rewrite_segments(target, {{found.value(), ref.deaths}}, {.all = true}, usable);
      if (!rewritten.ok()) return rewritten.status();
      if (rewritten.value().segment != nullptr) {
        sealed.push_back({rewritten.value().segment, carry_deaths(rewritten.value(), {{found.value(), ref.deaths}})});
      }
    } else {
      losses.unnamed = ref.segment->row_count() - ref.deaths->dead_count();
      lost_.add_dead_unnamed(table.id, ref.deaths->dead_count());
    }
    lost_.add_unnamed(table.id, losses.unnamed);
    report_.dropped.push_back({segment_path(impl_.segment_directory, info.id), losses.text(table.space)});
    return {};
  }

  // What becomes of the living rows of a damaged segment.
  struct SegmentLosses {
    uint64_t kept = 0;
    uint64_t named = 0;    // rows lost of which the keys are known
    uint64_t unnamed = 0;  // ... and are not
    uint64_t without_partition = 0;
    uint64_t without_birth = 0;

    std::string text(const std::string& space) const {
      std::string text = "space '" + space + "' lost " + std::to_string(named + unnamed) + " rows of it and kept " +
                         std::to_string(kept);
      if (unnamed != 0) text += "; of " + std::to_string(unnamed) + " lost rows the keys are not known";
      if (without_partition != 0) {
        text +=
            "; of " + std::to_string(without_partition) + " kept rows the partition is not known, so they have none";
      }
      if (without_birth != 0) {
        text += "; " + std::to_string(without_birth) + " kept rows count as written by the last batch of the segment";
      }
      return text;
    }
  };

  SegmentLosses losses_of(const Table& table, const SalvagedSegment& segment, const DeletionVector& deaths) {
    SegmentLosses losses;
    for (Row row = 0; row < segment.row_count(); ++row) {
      const Result<std::string_view> key = segment.key(row);
      if (deaths.death(row) != 0) {
        if (key.ok() && !segment.has_vector(row)) {
          lost_.add_dead(table.id, make_key(impl_.hash_seed, key.value()).hash);
        } else if (!key.ok()) {
          lost_.add_dead_unnamed(table.id, 1);
        }
      } else if (!key.ok()) {
        ++losses.unnamed;
      } else if (!segment.has_vector(row)) {
        ++losses.named;
        lost_.add(table.id, make_key(impl_.hash_seed, key.value()).hash);
      } else {
        ++losses.kept;
        losses.without_partition += !segment.has_partition(row);
        losses.without_birth += !segment.has_birth(row);
      }
    }
    return losses;
  }

  Status repair_log() {
    Salvage salvage(impl_, impl_.owed_seq, lost_, report_);
    EHUB_RETURN_IF_ERROR(salvage.run());
    impl_.last_seq = impl_.synced_seq = salvage.seq();
    impl_.log_number = newest_log_;
    return {};
  }

  // The checkpoint may not remove anything: what it would is moved instead.
  Result<RepairReport> finish() {
    impl_.keeps_garbage = true;
    EHUB_RETURN_IF_ERROR(impl_.fs.sync_directory(impl_.segment_directory));
    EHUB_RETURN_IF_ERROR(impl_.checkpoint({.recovering = true, .closing = true}));
    EHUB_RETURN_IF_ERROR(move_garbage());
    const std::string root = impl_.root;
    impl_.release();
    auto reopened = Store::open(impl_.fs, root, options());
    if (!reopened.ok()) return reopened.status();
    const Result<VerifyReport> verified = reopened.value()->verify();
    if (!verified.ok()) return verified.status();
    if (!verified.value().findings.empty()) {
      const Finding& finding = verified.value().findings[0];
      return corruption(finding.path, 0, "still damaged after the repair: " + finding.what);
    }
    report_.rows_kept = verified.value().rows;
    report_.rows_dropped = lost_.count();
    EHUB_RETURN_IF_ERROR(reopened.value()->close());
    return std::move(report_);
  }

  // Only what bears a name that the store gives.
  Status move_garbage() {
    const std::vector<SegmentId> in_use = impl_.segments_in_use();
    const std::set<uint64_t> segments(in_use.begin(), in_use.end());
    EHUB_RETURN_IF_ERROR(move_numbered(manifest_path, {impl_.manifest.number}));
    EHUB_RETURN_IF_ERROR(move_numbered(log_path, {impl_.log_number}));
    EHUB_RETURN_IF_ERROR(move_numbered(vector_path, segments));
    return move_numbered(segment_path, segments);
  }

  Status move_numbered(NumberedPath path, const std::set<uint64_t>& kept) {
    const Result<std::vector<uint64_t>> numbers = list_numbered(impl_.fs, directory_of(path), path);
    if (!numbers.ok()) return numbers.status();
    const std::string away = impl_.root + "/lost+found";
    for (const uint64_t number : numbers.value()) {
      if (kept.contains(number)) continue;
      EHUB_RETURN_IF_ERROR(impl_.fs.make_directory(away));
      EHUB_RETURN_IF_ERROR(impl_.fs.rename(path(directory_of(path), number), path(away, number)));
    }
    return {};
  }

  Store::Impl impl_;
  LogNumber newest_log_ = 0;
  LostRows lost_;
  RepairReport report_;
};

}  // namespace

Result<RepairReport> Store::repair(FileSystem& fs, const std::string& root) { return Repair(fs, root).run(); }

}  // namespace ehub
