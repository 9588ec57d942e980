// Files that nothing refers to any more.
//
// A file goes when it is named neither by the manifest that counts, nor by one that a reader process holds locked, nor
// by a table in memory. What cannot be read or removed stays for the next time: cleaning up never fails anything.

#include <algorithm>
#include <optional>
#include <set>

#include "store/numbered.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

// What manifests that reader processes hold still need.
struct Pinned {
  std::set<SegmentId> segments;
  LogNumber first_log = 0;
};

void pin(FileSystem& fs, const std::string& root, uint64_t number, Pinned* pinned) {
  const Result<Manifest> manifest = read_manifest(fs, root, number);
  if (!manifest.ok()) return;
  pinned->first_log = std::min(pinned->first_log, manifest.value().first_log);
  for (const ManifestTable& table : manifest.value().tables) {
    for (const ManifestSegment& segment : table.segments) pinned->segments.insert(segment.info.id);
  }
}

// Removes an old manifest unless a reader holds it. The lock is held while it goes: a reader that comes too late finds
// it locked, or no longer linked.
bool remove_unless_pinned(FileSystem& fs, const std::string& path) {
  auto file = fs.open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return true;
  const Result<bool> ours = file.value()->try_lock(true);
  if (ours.ok() && !ours.value()) return false;
  (void)fs.remove(path);
  return true;
}

// Removes old manifests but those that are pinned; says what these need.
Pinned remove_manifests(FileSystem& fs, const std::string& root, const Manifest& current) {
  Pinned pinned{{}, current.first_log};
  const Result<std::vector<uint64_t>> numbers = list_manifests(fs, root);
  if (!numbers.ok()) return pinned;
  for (const uint64_t number : numbers.value()) {
    if (number == current.number) continue;
    if (!remove_unless_pinned(fs, manifest_path(root, number))) pin(fs, root, number, &pinned);
  }
  return pinned;
}

// Files named for segments, in either directory.
void remove_segments(FileSystem& fs, const std::string& directory, const std::set<SegmentId>& kept,
                     SegmentId first_new) {
  const Result<std::vector<std::string>> names = fs.list(directory);
  if (!names.ok()) return;
  for (const std::string& name : names.value()) {
    std::optional<uint64_t> id = number_of(name, vector_path);
    if (!id) id = number_of(name, segment_path);
    if (!id) id = number_of(name, hnsw::graph_path);
    if (!id) id = number_of(name, hnsw::unfinished_graph_path);
    if (id && *id < first_new && !kept.contains(*id)) (void)fs.remove(directory + "/" + name);
  }
}

// Removes logs before `first` and after `last`, but one of the former, whose path it returns, to be written over.
std::string remove_logs(FileSystem& fs, const std::string& directory, LogNumber first, LogNumber last) {
  std::string spare;
  const Result<std::vector<std::string>> names = fs.list(directory);
  if (!names.ok()) return spare;
  for (const std::string& name : names.value()) {
    const std::optional<uint64_t> number = number_of(name, log_path);
    if (!number || (*number >= first && *number <= last)) continue;
    const std::string path = directory + "/" + name;
    if (*number < first && spare.empty()) {
      spare = path;
    } else {
      (void)fs.remove(path);
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

void Store::Impl::collect_garbage(const std::vector<SegmentId>& kept, SegmentId first_new) {
  if (keeps_garbage) return;
  Pinned pinned = remove_manifests(fs, root, manifest);
  pinned.segments.insert(kept.begin(), kept.end());
  {
    const std::lock_guard lock(unfinished_mutex);
    pinned.segments.insert(unfinished.begin(), unfinished.end());
  }
  remove_segments(fs, segment_directory, pinned.segments, first_new);
  remove_segments(fs, index_files_directory, pinned.segments, first_new);
  spare_log = remove_logs(fs, log_directory, pinned.first_log, log_number);
}

}  // namespace ehub
