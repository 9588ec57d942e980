// Opening a hub: find the manifest that counts, load what it says, replay the log behind it, and, if the last writer
// did not close, write a state that needs no such work again. Reader processes do the same without writing, and follow.

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "store/replay.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

// A reader that looks whether there is a writer holds the lock for a moment: that is no reason to refuse.
constexpr int kLockAttempts = 20;
constexpr auto kLockPause = std::chrono::milliseconds(5);

// A reader starts anew when the writer switches manifests under it; more often than this in a row is not that.
constexpr int kFollowAttempts = 1000;

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

// What a writer says about itself in LOCK.
std::string self() { return "pid " + std::to_string(getpid()) + " on host " + host_name(); }

// What the holder of the lock wrote about itself.
std::string lock_holder(File& file) {
  const Result<uint64_t> size = file.size();
  if (!size.ok()) return "an unknown process";
  std::string text(std::min<uint64_t>(size.value(), kLockProgressOffset), '\0');
  if (text.empty() || !file.read(0, text.data(), text.size()).ok()) return "an unknown process";
  text.resize(std::min(text.find('\n'), text.size()));
  return text.empty() || text[0] == '\0' ? "an unknown process" : text;
}

Result<bool> is_empty_hub(FileSystem& fs, const std::string& root) {
  // A hub's creation ends with CURRENT; before it there are the first manifest and the first log and nothing else.
  const Result<std::vector<uint64_t>> manifests = list_manifests(fs, root);
  if (!manifests.ok()) return manifests.status();
  for (const uint64_t number : manifests.value()) {
    if (number > 1) return false;
  }
  for (const char* directory : {"/wal", "/segments"}) {
    const Result<std::vector<std::string>> names = fs.list(root + directory);
    if (!names.ok()) return names.status();
    for (const std::string& name : names.value()) {
      if (name != "000000000001.log") return false;
    }
  }
  return true;
}

// Where a backup is restored, until it is whole and proven (ehub/backup/restoring.py).
constexpr const char* kRestoreDirectory = "restoring";

Status check_no_restore(FileSystem& fs, const std::string& root) {
  const Result<std::vector<std::string>> names = fs.list(root);
  if (!names.ok()) return names.status();
  if (std::ranges::find(names.value(), kRestoreDirectory) == names.value().end()) return {};
  return {Code::kConflict, "a backup is being restored to '" + root +
                               "', or that was cut short: restore it again, or remove the directory"};
}

}  // namespace

Status Store::Impl::lock_for_writing() {
  auto file = fs.open(root + "/LOCK", FileSystem::Mode::kOpenOrCreate);
  if (!file.ok()) return file.status();
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    const Result<bool> locked = file.value()->try_lock(true);
    if (!locked.ok()) return locked.status();
    if (locked.value()) {
      lock_file = std::move(file.value());
      LockProgress progress;
      const Status known = lock_file->read(kLockProgressOffset, &progress, sizeof(progress));
      owed_seq = known.ok() && progress.owed == ~progress.owed_complement ? progress.owed : 0;
      std::string text = self() + "\n";
      text.resize(kLockProgressOffset + offsetof(LockProgress, owed), '\0');
      return lock_file->write(0, text.data(), text.size());
    }
    std::this_thread::sleep_for(kLockPause);
  }
  const std::string holder = lock_holder(*file.value());
  const std::string where = holder == self() ? "this process (" : "another process (";
  return {Code::kLocked, "hub '" + root + "' is open for writing in " + where + holder +
                             "); open it with read_only=True or close it there"};
}

Status Store::Impl::create_hub() {
  EHUB_RETURN_IF_ERROR(check_no_restore(fs, root));
  const Result<bool> empty = is_empty_hub(fs, root);
  if (!empty.ok()) return empty.status();
  if (!empty.value()) return corruption(root + "/CURRENT", 0, "the file is missing, but the directory holds a hub");
  hash_seed = random_seed();
  EHUB_RETURN_IF_ERROR(ensure_log());
  EHUB_RETURN_IF_ERROR(log->sync());
  Manifest first;
  first.number = 1;
  first.hash_seed = hash_seed;
  first.first_log = log_number;
  EHUB_RETURN_IF_ERROR(install_manifest(fs, root, first));
  manifest = std::move(first);
  publish();
  return {};
}

Status Store::Impl::open_writer() {
  for (const std::string& directory : {root, log_directory, segment_directory}) {
    EHUB_RETURN_IF_ERROR(fs.make_directory(directory));
  }
  EHUB_RETURN_IF_ERROR(lock_for_writing());
  reserve.refill(0);
  const Result<uint64_t> number = read_current(fs, root);
  if (number.status().code() == Code::kNotFound) {
    EHUB_RETURN_IF_ERROR(create_hub());
  } else {
    if (!number.ok()) return number.status();
    Result<Manifest> current = read_manifest(fs, root, number.value());
    if (!current.ok()) return current.status();
    EHUB_RETURN_IF_ERROR(load(std::move(current.value())));
    Replay replayed(*this, true);
    EHUB_RETURN_IF_ERROR(replayed.run(kSeqMax));
    read_erasure_mark();
    EHUB_RETURN_IF_ERROR(recover(replayed));
    // A recovery that was needed has tried already.
    if (is_erasing && manifest.clean) EHUB_RETURN_IF_ERROR(checkpoint({}));
  }
  EHUB_RETURN_IF_ERROR(start_background());
  indexer.wake();
  return {};
}

// What was only in memory or in a log's doubtful tail becomes a checkpoint. The log that begins with it continues
// nothing: until the manifest names it, the old logs say what counts.
Status Store::Impl::recover(const Replay& replayed) {
  last_seq = synced_seq = replayed.seq();
  log_number = replayed.log_number();
  log_end = replayed.log_end();
  if (manifest.clean && !replayed.found_more()) {
    publish();
    return {};
  }
  const Result<std::vector<std::string>> names = fs.list(segment_directory);
  if (!names.ok()) return names.status();
  if (!names.value().empty()) {
    const SegmentId last = std::strtoull(names.value().back().c_str(), nullptr, 10);
    next_segment = std::max<SegmentId>(next_segment, last + 1);
  }
  EHUB_RETURN_IF_ERROR(checkpoint({.recovering = true}));
  return queue.run_alone([this] {
    publish();
    return Status();
  });
}

Status Store::Impl::load(Manifest loaded) {
  hash_seed = loaded.hash_seed;
  next_table = loaded.next_table;
  next_segment = loaded.next_segment;
  std::map<SegmentId, std::shared_ptr<const SealedSegment>> known;
  for (const auto& table : all_tables()) {
    for (const SealedRef& ref : table->sealed()) known[ref.segment->info().id] = ref.segment;
  }
  std::map<TableId, std::shared_ptr<Table>> old = std::move(tables);
  std::map<std::string, Versions> loaded_spaces;
  std::map<TableId, std::shared_ptr<Table>> loaded_tables;
  for (ManifestTable& described : loaded.tables) {
    std::shared_ptr<Table>& table = loaded_tables[described.id];
    table = old.contains(described.id) ? old[described.id]
                                       : std::make_shared<Table>(described.id, described.space, described.version,
                                                                 described.schema, described.created);
    loaded_spaces[table->space][table->version] = table;
    table->set_partition_names(std::move(described.partitions));
    table->pins().set_tags(std::move(described.tags));
    table->set_frozen(described.frozen);
    std::vector<SealedRef> sealed;
    uint64_t rows = 0;
    for (const ManifestSegment& segment : described.segments) {
      std::shared_ptr<const SealedSegment>& file = known[segment.info.id];
      if (file == nullptr) {
        file = std::make_shared<const SealedSegment>(fs, segment_directory, table->schema, hash_seed, segment.info);
      }
      auto deaths = std::make_shared<DeletionVector>();
      ByteReader in(segment.deaths.data(), segment.deaths.size());
      ByteReader gaps(segment.gaps.data(), segment.gaps.size());
      const bool sound =
          deaths->decode(segment.info.rows, in) && (gaps.left() == 0 || deaths->decode_gaps(segment.info.rows, gaps));
      if (!sound || in.left() != 0 || gaps.left() != 0) {
        return corruption(manifest_path(root, loaded.number), 0, "a deletion vector is malformed");
      }
      rows += segment.info.rows - deaths->dead_count();
      sealed.push_back({file, std::move(deaths)});
    }
    table->replace(std::move(sealed), {});
    table->set_row_count(rows);
    table->note_change(loaded.seq);
  }
  for (auto& [id, table] : old) {
    if (!loaded_tables.contains(id)) table->set_dropped();
  }
  {
    const std::lock_guard lock(catalog_mutex);
    spaces = std::move(loaded_spaces);
    tables = std::move(loaded_tables);
    notes = std::move(loaded.notes);
    ++names_changes;
  }
  forget_subindices();
  fresh_rows = 0;
  loaded.tables.clear();
  manifest = std::move(loaded);
  return {};
}

// --- reader processes ---

Status Store::Impl::open_reader() {
  auto file = fs.open(root + "/LOCK", FileSystem::Mode::kRead);
  if (!file.ok()) {
    return file.status().code() == Code::kNotFound ? not_found("there is no hub in '" + root + "'") : file.status();
  }
  lock_file = std::move(file.value());
  return follow();
}

// The manifest that counts, locked so that the writer keeps all that it names.
Result<Manifest> Store::Impl::pin_manifest() {
  for (int attempt = 0; attempt < kFollowAttempts; ++attempt) {
    const Result<uint64_t> number = read_current(fs, root);
    if (!number.ok()) return number.status();
    auto file = fs.open(manifest_path(root, number.value()), FileSystem::Mode::kRead);
    if (!file.ok() && file.status().code() != Code::kNotFound) return file.status();
    if (!file.ok()) continue;
    const Result<bool> locked = file.value()->try_lock(false);
    if (!locked.ok()) return locked.status();
    const Result<bool> linked = file.value()->linked();
    if (!linked.ok()) return linked.status();
    if (!locked.value() || !linked.value()) continue;
    manifest_lock = std::move(file.value());
    return read_manifest(fs, root, number.value());
  }
  return corruption(root + "/CURRENT", 0, "the manifest that it names is missing");
}

// Up to which batch the writer has acknowledged; kSeqMax if there is none, or one that has yet to find out what the
// last one left: the logs are to be judged then, as it does.
Result<Seq> Store::Impl::acknowledged_by_writer() {
  const Result<bool> alone = lock_file->try_lock(false);
  if (!alone.ok()) return alone.status();
  if (alone.value()) {
    lock_file->unlock();
    return kSeqMax;
  }
  LockProgress progress;
  if (!lock_file->read(kLockProgressOffset, &progress, sizeof(progress)).ok()) return manifest.seq;
  if (progress.is_opening()) return kSeqMax;
  return progress.visible == ~progress.visible_complement ? std::max(progress.visible, manifest.seq)
                                                          : visible_seq.load();
}

Status Store::Impl::follow() {
  for (int attempt = 0; attempt < kFollowAttempts; ++attempt) {
    Result<Manifest> current = pin_manifest();
    if (!current.ok()) {
      return current.status().code() == Code::kNotFound ? not_found("there is no hub in '" + root + "'")
                                                        : current.status();
    }
    EHUB_RETURN_IF_ERROR(load(std::move(current.value())));
    const Result<Seq> acknowledged = acknowledged_by_writer();
    if (!acknowledged.ok()) return acknowledged.status();
    replay = std::make_unique<Replay>(*this, false);
    const Status status = replay->run(acknowledged.value());
    const Result<uint64_t> number = read_current(fs, root);
    if (!number.ok()) return number.status();
    // What was read while the writer switched manifests proves nothing, neither success nor damage.
    if (number.value() != manifest.number) continue;
    if (acknowledged.value() == kSeqMax || !status.ok()) {
      // Nor what was read while a writer came or went.
      const Result<Seq> afterwards = acknowledged_by_writer();
      if (!afterwards.ok()) return afterwards.status();
      if ((afterwards.value() == kSeqMax) != (acknowledged.value() == kSeqMax)) continue;
    }
    EHUB_RETURN_IF_ERROR(status);
    last_seq = replay->seq();
    visible_seq.store(last_seq, std::memory_order_release);
    return {};
  }
  return corruption(root + "/CURRENT", 0, "it changes faster than it can be followed");
}

Status Store::Impl::refresh() {
  const std::unique_lock lock(refresh_mutex);
  EHUB_RETURN_IF_ERROR(follow_log());
  // Graphs come without a new manifest.
  for (const auto& table : all_tables()) {
    for (const SealedRef& ref : table->sealed()) {
      if (ref.segment->row_count() < options.graph_rows_min) continue;
      ref.segment->graph().look_again();
      for (const auto& graph : ref.segment->subset_graphs()) graph->look_again();
    }
  }
  return {};
}

Status Store::Impl::follow_log() {
  const Result<uint64_t> number = read_current(fs, root);
  if (!number.ok()) return number.status();
  if (number.value() == manifest.number) {
    const Result<Seq> acknowledged = acknowledged_by_writer();
    if (!acknowledged.ok()) return acknowledged.status();
    if (acknowledged.value() == last_seq) return {};
    if (acknowledged.value() != kSeqMax && replay->run(acknowledged.value()).ok()) {
      last_seq = replay->seq();
      visible_seq.store(last_seq, std::memory_order_release);
      return {};
    }
  }
  return follow();
}

}  // namespace ehub
