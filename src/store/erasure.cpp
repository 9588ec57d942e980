// Rows removed for good: what a checkpoint does for that beside its own work.
//
// At its cut it seals all fresh rows of the versions, so that none is in the log; then it rewrites each of their
// segments that has rows of the keys without them, pinned times or not. The last turn puts the results in place, and
// within it the manifest switches: that is the moment of the erasure. Its mark says that files of before are to go, and
// neither keeps a log to be written over; it stays until nothing is left, however often that is cut short.

#include "store/erasure.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "store/checkpoint_plan.h"
#include "store/file_record.h"
#include "store/subindex.h"

namespace ehub {
namespace {

std::vector<Key> hashed(const std::vector<std::string_view>& keys, uint64_t hash_seed) {
  std::vector<Key> made;
  made.reserve(keys.size());
  for (const std::string_view key : keys) made.push_back(make_key(hash_seed, key));
  return made;
}

// All rows with these keys, of any time, ascending.
Result<std::vector<Row>> rows_of(const Segment& segment, const std::vector<Key>& keys) {
  std::vector<Row> rows;
  for (const Key& key : keys) {
    Result<Row> row = segment.find(key);
    while (row.ok() && row.value() != kNoRow) {
      rows.push_back(row.value());
      row = segment.older(row.value());
    }
    if (!row.ok()) return row.status();
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

// Adds to `shown` the tags at which one of the rows is visible.
Status find_tags(const SegmentRef& ref, const std::vector<Row>& rows, const std::map<std::string, Seq>& tags,
                 std::set<std::string>& shown) {
  for (const Row row : rows) {
    const Result<Seq> born = ref.segment->born(row);
    if (!born.ok()) return born.status();
    for (const auto& [name, seq] : tags) {
      if (ref.deaths->lives_at_any(row, born.value(), {seq})) shown.insert(name);
    }
  }
  return {};
}

SegmentId id_of(const Segment& segment) {
  if (const auto* sealed = dynamic_cast<const SealedSegment*>(&segment)) return sealed->info().id;
  return static_cast<const FreshSegment&>(segment).id();
}

// What a table has of the keys; `erased`, if given, gets the rows.
Result<StoredRows> look_up(const Table& table, const std::vector<Key>& keys,
                           std::map<const Segment*, std::vector<Row>>* erased) {
  StoredRows stored;
  std::set<std::string> shown;
  const std::map<std::string, Seq> tags = table.pins().tags();
  stored.snapshots = table.pins().lease_count();
  const std::shared_ptr<const TableState> state = table.state();
  for (const SegmentRef& ref : state->segments) {
    Result<std::vector<Row>> rows = rows_of(*ref.segment, keys);
    if (!rows.ok()) return rows.status();
    if (rows.value().empty()) continue;
    stored.rows += rows.value().size();
    stored.rows_live += static_cast<uint64_t>(
        std::count_if(rows.value().begin(), rows.value().end(), [&](Row row) { return ref.deaths->death(row) == 0; }));
    EHUB_RETURN_IF_ERROR(find_tags(ref, rows.value(), tags, shown));
    if (const SegmentId id = id_of(*ref.segment); id != 0) stored.segments.push_back(id);
    if (erased != nullptr) erased->emplace(ref.segment.get(), std::move(rows.value()));
  }
  stored.tags.assign(shown.begin(), shown.end());
  return stored;
}

// Takes those keys out of `keys` of which the table has a row.
Status keep_missing(const Table& table, std::vector<Key>& keys) {
  Status status;
  for (const SegmentRef& ref : table.state()->segments) {
    std::erase_if(keys, [&](const Key& key) {
      if (!status.ok()) return false;
      const Result<Row> row = ref.segment->find(key);
      if (!row.ok()) status = row.status();
      return row.ok() && row.value() != kNoRow;
    });
  }
  return status;
}

// Adds the segments that have rows which nothing needs: what is written in their place is without those.
void add_needless(TableWork& work) {
  const auto add = [&](const SegmentRef& ref) {
    if (needed_rows(ref, work.times) != ref.segment->row_count()) work.erased.try_emplace(ref.segment.get());
  };
  for (const SealedRef& ref : work.candidates) add({ref.segment, ref.deaths});
  for (const FreshRef& ref : work.frozen) add({ref.segment, ref.deaths});
}

// How a table was before a turn that may be undone within it.
struct TableBefore {
  std::shared_ptr<Table> table;
  std::vector<SealedRef> sealed;
  std::vector<FreshRef> fresh;
  uint64_t rows;
};

std::vector<TableBefore> tables_before(const CheckpointPlan& plan) {
  std::vector<TableBefore> before;
  for (const TableWork& work : plan.work) {
    before.push_back({work.table, work.table->sealed(), work.table->fresh(), work.table->row_count()});
  }
  return before;
}

void put_back(std::vector<TableBefore>& before) {
  for (TableBefore& one : before) {
    one.table->replace(std::move(one.sealed), std::move(one.fresh));
    one.table->set_row_count(one.rows);
  }
}

std::vector<SegmentId> segments_made(const CheckpointPlan& plan) {
  std::vector<SegmentId> made;
  const auto add = [&](const auto& segment) {
    if (segment != nullptr) made.push_back(segment->info().id);
  };
  for (const TableWork& work : plan.work) {
    if (!plan.request.erases(*work.table)) continue;
    for (const auto& [ref, rewritten] : work.cleaned) add(rewritten.segment);
    for (const Rewritten& rewritten : work.from_memory) add(rewritten.segment);
    for (const auto& [fresh, segment] : work.sealed) add(segment);
  }
  return made;
}

}  // namespace

const Erasure* PendingErasure::of(const Table& table) const {
  const auto is_of_table = [&](const Erasure& part) { return part.table.get() == &table; };
  const auto found = std::find_if(parts.begin(), parts.end(), is_of_table);
  return found == parts.end() ? nullptr : &*found;
}

Status Store::Impl::refuse_snapshots(const std::vector<Erasure>& parts) const {
  forget_subindices();
  for (const Erasure& part : parts) {
    if (part.table->dropped()) return not_found("space '" + part.table->space + "' was deleted");
    const size_t count = part.table->pins().lease_count();
    if (count == 0) continue;
    return {Code::kConflict, "version '" + part.table->version + "' of space '" + part.table->space + "' has " +
                                 std::to_string(count) + (count == 1 ? " open snapshot" : " open snapshots") +
                                 ", which would go on showing what is to be erased; close first what is open"};
  }
  return {};
}

Status Store::Impl::begin_erasure(CheckpointPlan& plan) {
  if (plan.request.erasure == nullptr) return {};
  plan.request.erasure->report = {};
  EHUB_RETURN_IF_ERROR(refuse_snapshots(plan.request.erasure->parts));
  // The new log must not be written over one that has the keys behind its end.
  if (!spare_log.empty()) {
    Result<FileRecord> record = record_of(fs, root, spare_log);
    (void)fs.remove(spare_log);
    if (record.ok()) plan.request.erasure->report.removed.push_back(std::move(record.value()));
  }
  spare_log.clear();
  return {};
}

Status Store::Impl::find_erased(CheckpointPlan& plan) const {
  if (plan.request.erasure == nullptr) return {};
  ErasureReport& report = plan.request.erasure->report;
  for (const Erasure& part : plan.request.erasure->parts) {
    const auto is_of_part = [&](const TableWork& work) { return work.table == part.table; };
    const auto work = std::find_if(plan.work.begin(), plan.work.end(), is_of_part);
    report.parts.emplace_back();
    if (work == plan.work.end()) continue;  // it has no rows
    Result<StoredRows> stored = look_up(*part.table, hashed(part.keys, hash_seed), &work->erased);
    if (!stored.ok()) return stored.status();
    report.parts.back() = std::move(stored.value());
    if (part.drops_dead) add_needless(*work);
    for (const SealedRef& ref : work->candidates) {
      if (work->erased.contains(ref.segment.get())) work->cleaned.emplace_back(ref, Rewritten());
    }
  }
  return {};
}

Status Store::Impl::clean(CheckpointPlan& plan, TableWork& work) {
  for (auto& [ref, rewritten] : work.cleaned) {
    const RewriteTarget target = {fs,      segment_directory, work.table->schema, hash_seed, next_segment.fetch_add(1),
                                  nullptr, &rows_rewritten};
    plan.made.push_back(target.id);
    const Status status = guarded([&, &ref = ref, &rewritten = rewritten]() -> Status {
      Result<Rewritten> made =
          rewrite_segments(target, {{ref.segment, ref.deaths}}, work.times, work.kept_rows(*ref.segment));
      if (made.ok()) rewritten = std::move(made.value());
      return made.status();
    });
    if (status.ok()) continue;
    give_up_erasure(plan);
    return status;
  }
  return {};
}

// The copies would keep the room that the next attempt needs.
void Store::Impl::give_up_erasure(const CheckpointPlan& plan) {
  for (const SegmentId id : plan.made) {
    for (const auto& path : {vector_path, segment_path}) (void)fs.remove(path(segment_directory, id));
  }
}

Status Store::Impl::finish_erasure(CheckpointPlan& plan) {
  NoteChanges changes = plan.request.erasure->notes;
  changes.push_back({kErasureMark, std::to_string(manifest.number + 1) + " " + std::to_string(plan.first_log)});
  PreparedNotes prepared(changes);
  change_notes(changes, plan.notes);
  std::vector<TableBefore> before = tables_before(plan);
  const uint64_t fresh_rows_before = fresh_rows;
  Status status = refuse_snapshots(plan.request.erasure->parts);
  if (status.ok()) {
    status = guarded([&] {
      finish_checkpoint(plan);
      return install(plan);
    });
    // Where it is unknown whether the manifest counts, too: a call that failed shows no change until the hub is
    // reopened.
    if (!status.ok()) {
      const Status undone = guarded([&]() -> Status {
        put_back(before);
        fresh_rows = fresh_rows_before;
        fresh_files = count_fresh_files();
        return {};
      });
      if (!undone.ok()) status = poison_with(undone);
    }
  }
  forget_subindices();  // somebody may have asked one meanwhile
  if (!status.ok()) {
    if (!poisoned) give_up_erasure(plan);
    return status;
  }
  apply_notes(std::move(prepared));
  read_erasure_mark();
  return {};
}

void Store::Impl::record_written(const CheckpointPlan& plan) {
  if (plan.request.erasure == nullptr) return;
  std::vector<std::string> paths = {manifest_path(root, manifest.number)};
  for (const SegmentId id : segments_made(plan)) {
    paths.push_back(vector_path(segment_directory, id));
    paths.push_back(segment_path(segment_directory, id));
  }
  for (const std::string& path : paths) {
    Result<FileRecord> record = record_of(fs, root, path);
    plan.request.erasure->report.written.push_back(record.ok() ? std::move(record.value())
                                                               : FileRecord{path.substr(root.size() + 1)});
  }
}

void Store::Impl::forget_subindices() const {
  const std::lock_guard lock(catalog_mutex);
  for (const auto& [id, table] : tables) table->forget_subindices();
}

void Store::Impl::read_erasure_mark() {
  const auto mark = notes.find(kErasureMark);
  is_erasing = mark != notes.end();
  if (!is_erasing) return;
  char* rest = nullptr;
  erasing_manifest = std::strtoull(mark->second.c_str(), &rest, 10);
  erasing_log = std::strtoull(rest, nullptr, 10);
}

// Names that are gone must stay so after a power cut before the mark may go.
bool Store::Impl::settle_erasure(const std::vector<std::string>& held) {
  if (!held.empty()) return false;
  for (const std::string& directory : {root, log_directory, segment_directory, index_files_directory}) {
    const Status synced = fs.sync_directory(directory);
    if (!synced.ok() && synced.code() != Code::kNotFound && synced.error_number() != ENOENT) return false;
  }
  const NoteChanges unmarked = {{kErasureMark, std::nullopt}};
  const auto unmark = [&]() -> Status {
    EHUB_RETURN_IF_ERROR(commit_op(nullptr, unmarked));
    publish();
    return {};
  };
  // If it stays, the next one to come finds that nothing is left.
  if (queue.run_alone([&] { return whole_or_poisoned(unmark); }).ok()) is_erasing = false;
  return true;
}

// --- the public calls ---

Result<StoredRows> Store::stored_rows(const Table& table, const std::vector<std::string_view>& keys) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  std::shared_lock<std::shared_mutex> lock;
  if (impl_->options.read_only) lock = std::shared_lock(impl_->refresh_mutex);
  if (table.dropped()) return not_found("space '" + table.space + "' was deleted");
  impl_->forget_subindices();
  return look_up(table, hashed(keys, impl_->hash_seed), nullptr);
}

Result<uint64_t> Store::missing_keys(const std::vector<std::shared_ptr<Table>>& tables,
                                     const std::vector<std::string_view>& keys) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  std::shared_lock<std::shared_mutex> lock;
  if (impl_->options.read_only) lock = std::shared_lock(impl_->refresh_mutex);
  std::vector<Key> left = hashed(keys, impl_->hash_seed);
  for (const std::shared_ptr<Table>& table : tables) {
    if (table->dropped()) return not_found("space '" + table->space + "' was deleted");
    EHUB_RETURN_IF_ERROR(keep_missing(*table, left));
  }
  return left.size();
}

Result<std::vector<std::string>> Store::stored_keys(const Table& table) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  const std::shared_ptr<const TableState> state = table.state();
  std::set<std::string, std::less<>> keys;
  for (const SegmentRef& ref : state->segments) {
    for (Row row = 0; row < ref.segment->row_count(); ++row) {
      const Result<std::string_view> key = ref.segment->key(row);
      if (!key.ok()) return key.status();
      if (!keys.contains(key.value())) keys.emplace(key.value());
    }
  }
  return std::vector<std::string>(keys.begin(), keys.end());
}

Result<std::vector<std::string>> Store::held_manifests() const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  const Result<std::vector<uint64_t>> numbers = list_manifests(impl_->fs, impl_->root);
  if (!numbers.ok()) return numbers.status();
  std::vector<std::string> held;
  for (const uint64_t number : numbers.value()) {
    const std::string path = manifest_path(impl_->root, number);
    auto file = impl_->fs.open(path, FileSystem::Mode::kRead);
    if (!file.ok()) continue;
    const Result<bool> ours = file.value()->try_lock(true);
    if (ours.ok() && !ours.value()) held.push_back(path.substr(impl_->root.size() + 1));
  }
  return held;
}

Result<ErasureReport> Store::erase(const std::vector<Erasure>& parts, const NoteChanges& notes) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  EHUB_RETURN_IF_ERROR(check_notes(notes));
  PendingErasure pending{parts, notes};
  {
    // What the indexer writes now may be made of rows that are to go.
    const std::unique_lock<Turn> paused = impl_->indexer.pause();
    EHUB_RETURN_IF_ERROR(guarded([&] { return impl_->checkpoint_unindexed({.erasure = &pending}, nullptr); }));
  }
  impl_->indexer.wake();
  return std::move(pending.report);
}

Result<ErasureReport> Store::finish_erasure() {
  const std::lock_guard maintenance(impl_->maintenance_mutex);
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  ErasureReport report;
  report.done = !impl_->is_erasing;
  if (report.done) return report;
  std::vector<SegmentId> kept;
  SegmentId first_new = 0;
  EHUB_RETURN_IF_ERROR(impl_->queue.run_alone([&]() -> Status {
    kept = impl_->segments_in_use();
    first_new = impl_->next_segment;
    return {};
  }));
  impl_->collect_garbage(kept, first_new, &report);
  return report;
}

}  // namespace ehub
