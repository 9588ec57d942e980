// A state from what is undamaged.
//
// Segments that verify stay as they are; of the others, the rows of which every part is readable are written anew. The
// log counts up to its first damage. The result is a checkpoint like any other, and what it does not name goes to
// lost+found.

#include <set>

#include "store/replay.h"
#include "store/rewrite.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

class Repair {
 public:
  Repair(FileSystem& fs, const std::string& root) : impl_(fs, root, options()) {}

  Result<RepairReport> run() {
    EHUB_RETURN_IF_ERROR(impl_.lock_for_writing());
    Result<Manifest> manifest = choose_manifest();
    if (!manifest.ok()) return manifest.status();
    EHUB_RETURN_IF_ERROR(choose_numbers(&manifest.value()));
    EHUB_RETURN_IF_ERROR(impl_.load(std::move(manifest.value())));
    for (const auto& table : impl_.all_tables()) EHUB_RETURN_IF_ERROR(repair_table(*table));
    EHUB_RETURN_IF_ERROR(replay_log());
    return finish();
  }

 private:
  static StoreOptions options() {
    StoreOptions options;
    options.background = false;
    return options;
  }

  void drop(const std::string& path, const std::string& what) { report_.dropped.push_back({path, what}); }

  // The one that CURRENT names, or else the newest that is readable.
  Result<Manifest> choose_manifest() {
    const Result<uint64_t> current = read_current(impl_.fs, impl_.root);
    if (current.ok()) {
      Result<Manifest> manifest = read_manifest(impl_.fs, impl_.root, current.value());
      if (manifest.ok()) return manifest;
      drop(manifest_path(impl_.root, current.value()), manifest.status().message());
    } else {
      drop(impl_.root + "/CURRENT", current.status().message());
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
    const Result<std::vector<uint64_t>> numbers = list_manifests(impl_.fs, impl_.root);
    if (!numbers.ok()) return numbers.status();
    const Result<std::vector<std::string>> names = impl_.fs.list(impl_.segment_directory);
    if (!names.ok()) return names.status();
    manifest->number = std::max(manifest->number, numbers.value().empty() ? 0 : numbers.value().back());
    for (const std::string& name : names.value()) {
      manifest->next_segment =
          std::max<SegmentId>(manifest->next_segment, std::strtoull(name.c_str(), nullptr, 10) + 1);
    }
    return {};
  }

  // A vector file that was cut or lengthened gets its size back: the rows that are there can be told by their
  // checksums.
  Status restore_size(const Table& table, const SealedSegment& segment) {
    const std::string path = vector_path(impl_.segment_directory, segment.info().id);
    auto file = impl_.fs.open(path, FileSystem::Mode::kWrite);
    if (!file.ok()) return file.status().code() == Code::kNotFound ? Status() : file.status();
    const uint64_t bytes = segment.info().rows * table.schema.row_bytes();
    const Result<uint64_t> size = file.value()->size();
    if (!size.ok() || size.value() == bytes) return size.status();
    drop(path, "its size was " + std::to_string(size.value()) + " bytes instead of " + std::to_string(bytes));
    EHUB_RETURN_IF_ERROR(file.value()->truncate(bytes));
    return file.value()->sync();
  }

  Status repair_table(Table& table) {
    std::vector<SealedRef> sealed;
    for (const SealedRef& ref : table.sealed()) {
      EHUB_RETURN_IF_ERROR(restore_size(table, *ref.segment));
      const Status status = ref.segment->verify();
      if (status.ok()) {
        sealed.push_back(ref);
        continue;
      }
      if (status.code() != Code::kCorruption && status.code() != Code::kNotFound) return status;
      EHUB_RETURN_IF_ERROR(salvage_segment(table, ref, status, sealed));
    }
    table.replace(std::move(sealed), {});
    uint64_t rows = 0;
    for (const SealedRef& ref : table.sealed()) rows += ref.segment->row_count() - ref.deaths->dead_count();
    table.set_row_count(rows);
    return {};
  }

  Status salvage_segment(const Table& table, const SealedRef& ref, const Status& damage,
                         std::vector<SealedRef>& sealed) {
    const RewriteTarget target = {impl_.fs, impl_.segment_directory, table.schema, impl_.hash_seed,
                                  impl_.next_segment.fetch_add(1)};
    const auto readable = [&](size_t, Row row) { return ref.segment->readable(row); };
    const Result<Rewritten> rewritten = rewrite_segments(target, {{ref.segment, ref.deaths}}, kSeqMax, readable);
    if (!rewritten.ok() && rewritten.status().code() == Code::kIo) return rewritten.status();
    const bool kept = rewritten.ok() && rewritten.value().segment != nullptr;
    const uint64_t rows = kept ? rewritten.value().segment->row_count() : 0;
    const uint64_t lost = ref.segment->row_count() - ref.deaths->dead_count() - rows;
    if (kept) sealed.push_back({rewritten.value().segment, std::make_shared<DeletionVector>()});
    report_.rows_dropped += lost;
    drop(segment_path(impl_.segment_directory, ref.segment->info().id),
         damage.message() + "; space '" + table.space + "' lost " + std::to_string(lost) + " rows of it and kept " +
             std::to_string(rows));
    return {};
  }

  Status replay_log() {
    Replay replayed(impl_, true);
    Status status = replayed.run(kSeqMax);
    if (!status.ok()) {
      if (status.code() != Code::kCorruption) return status;
      EHUB_RETURN_IF_ERROR(replayed.salvage());
      drop(log_path(impl_.log_directory, replayed.log_number()),
           status.message() + "; batches after " + std::to_string(replayed.seq()) + " were dropped");
    }
    impl_.last_seq = impl_.synced_seq = std::max(replayed.seq(), impl_.manifest.seq);
    impl_.log_number = std::max(replayed.log_number(), newest_log());
    impl_.log_continues = false;
    return {};
  }

  LogNumber newest_log() const {
    const Result<std::vector<std::string>> names = impl_.fs.list(impl_.log_directory);
    return !names.ok() || names.value().empty() ? 0 : std::strtoull(names.value().back().c_str(), nullptr, 10);
  }

  // The checkpoint may not remove anything: what it would is moved instead.
  Result<RepairReport> finish() {
    impl_.keeps_garbage = true;
    EHUB_RETURN_IF_ERROR(impl_.fs.sync_directory(impl_.segment_directory));
    EHUB_RETURN_IF_ERROR(impl_.checkpoint({.closing = true}));
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
    EHUB_RETURN_IF_ERROR(reopened.value()->close());
    return std::move(report_);
  }

  Status move_garbage() {
    const std::string away = impl_.root + "/lost+found";
    std::set<std::string> kept = {"CURRENT",
                                  "LOCK",
                                  "RESERVE",
                                  "lost+found",
                                  "wal",
                                  "segments",
                                  manifest_path("", impl_.manifest.number).substr(1)};
    EHUB_RETURN_IF_ERROR(move_others(impl_.root, kept, away));
    EHUB_RETURN_IF_ERROR(move_others(impl_.log_directory, {log_path("", impl_.log_number).substr(1)}, away));
    kept.clear();
    for (const SegmentId id : impl_.segments_in_use()) {
      kept.insert({vector_path("", id).substr(1), segment_path("", id).substr(1)});
    }
    return move_others(impl_.segment_directory, kept, away);
  }

  Status move_others(const std::string& directory, const std::set<std::string>& kept, const std::string& away) {
    const Result<std::vector<std::string>> names = impl_.fs.list(directory);
    if (!names.ok()) return names.status();
    for (const std::string& name : names.value()) {
      if (kept.contains(name)) continue;
      EHUB_RETURN_IF_ERROR(impl_.fs.make_directory(away));
      EHUB_RETURN_IF_ERROR(impl_.fs.rename(directory + "/" + name, away + "/" + name));
    }
    return {};
  }

  Store::Impl impl_;
  RepairReport report_;
};

}  // namespace

Result<RepairReport> Store::repair(FileSystem& fs, const std::string& root) { return Repair(fs, root).run(); }

}  // namespace ehub
