// Files that nothing refers to any more.
//
// A file goes when it is named neither by the manifest that counts, nor by one that a reader process holds locked, nor
// by a table in memory. What cannot be read or removed stays for the next time: cleaning up never fails anything.

#include <algorithm>
#include <functional>
#include <optional>
#include <set>

#include "store/file_record.h"
#include "store/numbered.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

// What manifests that reader processes hold still need.
struct Pinned {
  std::set<SegmentId> segments;
  std::set<SegmentId> later_segments;  // by manifests from `first_later` on
  LogNumber first_log = 0;
  uint64_t first_later = 0;
};

void pin(FileSystem& fs, const std::string& root, uint64_t number, Pinned* pinned) {
  const Result<Manifest> manifest = read_manifest(fs, root, number);
  if (!manifest.ok()) return;
  pinned->first_log = std::min(pinned->first_log, manifest.value().first_log);
  for (const ManifestTable& table : manifest.value().tables) {
    for (const ManifestSegment& segment : table.segments) {
      pinned->segments.insert(segment.info.id);
      if (number >= pinned->first_later) pinned->later_segments.insert(segment.info.id);
    }
  }
}

// Removes files, and notes what they were if somebody wants to know.
class Remover {
 public:
  Remover(FileSystem& fs, const std::string& root, ErasureReport* report) : fs_(fs), root_(root), report_(report) {}

  void operator()(const std::string& path) {
    if (report_ == nullptr) {
      (void)fs_.remove(path);
      return;
    }
    Result<FileRecord> record = record_of(fs_, root_, path);
    if (!fs_.remove(path).ok()) return;
    report_->removed.push_back(record.ok() ? std::move(record.value()) : FileRecord{path.substr(root_.size() + 1)});
  }

 private:
  FileSystem& fs_;
  const std::string& root_;
  ErasureReport* report_;
};

// Removes an old manifest unless a reader holds it. The lock is held while it goes: a reader that comes too late finds
// it locked, or no longer linked.
bool remove_unless_pinned(FileSystem& fs, const std::string& path, Remover& remove) {
  auto file = fs.open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return true;
  const Result<bool> ours = file.value()->try_lock(true);
  if (ours.ok() && !ours.value()) return false;
  remove(path);
  return true;
}

// Removes old manifests but those that are pinned; says what these need.
Pinned remove_manifests(FileSystem& fs, const std::string& root, const Manifest& current, uint64_t first_later,
                        Remover& remove) {
  Pinned pinned{{}, {}, current.first_log, first_later};
  const Result<std::vector<uint64_t>> numbers = list_manifests(fs, root);
  if (!numbers.ok()) return pinned;
  for (const uint64_t number : numbers.value()) {
    if (number == current.number) continue;
    if (!remove_unless_pinned(fs, manifest_path(root, number), remove)) pin(fs, root, number, &pinned);
  }
  return pinned;
}

// Files of segments before `first_new` but of the kept ones.
void add_useless_segments(FileSystem& fs, const std::string& directory, const std::set<SegmentId>& kept,
                          SegmentId first_new, std::vector<std::string>& useless) {
  const Result<std::vector<std::string>> names = fs.list(directory);
  if (!names.ok()) return;
  for (const std::string& name : names.value()) {
    std::optional<uint64_t> id = number_of(name, vector_path);
    if (!id) id = number_of(name, segment_path);
    if (id && *id < first_new && !kept.contains(*id)) useless.push_back(directory + "/" + name);
  }
}

// The same of graphs, and those over the rows of sub-indices that are gone: whose keys are in no table.
void add_useless_graphs(FileSystem& fs, const std::string& directory, const std::set<SegmentId>& kept,
                        SegmentId first_new, const std::function<bool(TableId)>& has_table,
                        std::vector<std::string>& useless) {
  const Result<std::vector<std::string>> names = fs.list(directory);
  if (!names.ok()) return;
  for (const std::string& name : names.value()) {
    const std::optional<hnsw::GraphName> graph = hnsw::graph_of_name(name);
    if (!graph || graph->segment >= first_new) continue;
    const bool orphan = graph->subset.kind == kSubIndexGraph && !has_table(graph->subset.number);
    if (!orphan && kept.contains(graph->segment)) continue;
    const std::string path = directory + "/" + name;
    const bool is_foreign = is_no_file(fs.open(path, FileSystem::Mode::kRead).status());
    if (!is_foreign) useless.push_back(path);
  }
}

// Removes logs before `first` and after `last`, but, if it may, one of the former, whose path it returns, to be written
// over.
std::string remove_logs(FileSystem& fs, const std::string& directory, LogNumber first, LogNumber last, bool keeps_one,
                        Remover& remove) {
  std::string spare;
  const Result<std::vector<std::string>> names = fs.list(directory);
  if (!names.ok()) return spare;
  for (const std::string& name : names.value()) {
    const std::optional<uint64_t> number = number_of(name, log_path);
    if (!number || (*number >= first && *number <= last)) continue;
    const std::string path = directory + "/" + name;
    if (keeps_one && *number < first && spare.empty()) {
      spare = path;
    } else {
      remove(path);
    }
  }
  return spare;
}

}  // namespace

std::vector<SegmentId> Store::Impl::segments_in_use() const {
  std::vector<SegmentId> ids;
  for (const auto& table : all_tables()) {
    for (const SealedRef& ref : table->sealed()) ids.push_back(ref.segment->info().id);
    for (const FreshRef& ref : table->fresh()) ids.push_back(ref.segment->id());
  }
  return ids;
}

void Store::Impl::collect_garbage(const std::vector<SegmentId>& kept, SegmentId first_new, ErasureReport* report) {
  if (keeps_garbage) return;
  Remover remove(fs, root, report);
  Pinned pinned = remove_manifests(fs, root, manifest, erasing_manifest, remove);
  std::set<SegmentId> used(kept.begin(), kept.end());
  {
    const std::lock_guard lock(unfinished_mutex);
    used.insert(unfinished.begin(), unfinished.end());
  }
  pinned.segments.insert(used.begin(), used.end());
  for (const std::string& path : useless_files(pinned.segments, first_new)) remove(path);
  spare_log = remove_logs(fs, log_directory, pinned.first_log, log_number, !is_erasing, remove);
  if (!is_erasing) return;
  used.insert(pinned.later_segments.begin(), pinned.later_segments.end());
  std::vector<std::string> held = held_files(used, first_new);
  const bool done = settle_erasure(held);
  if (report == nullptr) return;
  report->done = done;
  report->held = std::move(held);
}

std::vector<std::string> Store::Impl::useless_files(const std::set<SegmentId>& kept, SegmentId first_new) const {
  std::vector<std::string> useless;
  add_useless_segments(fs, segment_directory, kept, first_new, useless);
  const auto has_table = [this](TableId id) {
    const std::lock_guard lock(catalog_mutex);
    return tables.contains(id);
  };
  add_useless_graphs(fs, index_files_directory, kept, first_new, has_table, useless);
  return useless;
}

std::vector<std::string> Store::Impl::held_files(const std::set<SegmentId>& kept, SegmentId first_new) const {
  std::vector<std::string> held;
  const auto add = [&](const std::string& path) { held.push_back(path.substr(root.size() + 1)); };
  const auto manifests = list_manifests(fs, root);
  const auto logs = list_numbered(fs, log_directory, log_path);
  // What cannot be listed may have anything in it.
  if (!manifests.ok() || !logs.ok()) held.emplace_back(".");
  for (const uint64_t number : manifests.ok() ? manifests.value() : std::vector<uint64_t>()) {
    if (number < erasing_manifest) add(manifest_path(root, number));
  }
  for (const LogNumber number : logs.ok() ? logs.value() : std::vector<uint64_t>()) {
    if (number < erasing_log) add(log_path(log_directory, number));
  }
  for (const std::string& path : useless_files(kept, first_new)) add(path);
  return held;
}

}  // namespace ehub
