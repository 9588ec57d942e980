// Folding the log into segments.
//
// A checkpoint has three parts. In a turn of the commit queue it makes everything durable, begins a new log with the
// few rows that are not worth a file (carried rows), and freezes the fresh segments of the other tables. Outside of it,
// while writes go on, it seals the frozen segments and rewrites those that have many dead rows or are many and small.
// In a second turn it puts the results in their place; deaths since then are carried over. Then the manifest switches,
// and the old log, the old manifest and unused segments may go.
//
// A crash in between leaves the old manifest and the old logs, which say the same.

#include <algorithm>
#include <set>

#include "base/limits.h"
#include "store/compaction.h"
#include "store/rewrite.h"
#include "store/store_impl.h"

namespace ehub {

// One table's part of a checkpoint: segments that leave, and what takes their place.
struct TableWork {
  std::shared_ptr<Table> table;
  std::vector<FreshRef> frozen;        // to be sealed
  std::vector<FreshRef> dead;          // frozen, too, but nothing in them lives
  std::vector<SealedRef> compacted;    // to be rewritten together
  bool compacted_dead = false;         // nothing in them lives, so there is nothing to read and to write
  std::vector<Rewritten> from_memory;  // per frozen memory segment
  std::vector<SealedRef> sealed;       // from frozen file segments
  Rewritten merged;                    // of `compacted`
  bool is_prepared = false;            // `merged` was made before
};

struct CheckpointPlan {
  CheckpointRequest request;
  bool compacts_requested = false;  // there was something to rewrite in the table that the request names
  Status compaction;                // ... and how that ended
  Seq cut = 0;
  SegmentId first_new = 0;  // segments from this one on may be needed by the new log
  LogNumber first_log = 0;
  uint64_t carried_bytes = 0;
  std::vector<std::shared_ptr<Table>> carried;
  std::vector<TableWork> work;
  Manifest manifest;
  std::vector<SegmentId> kept;
};

namespace {

// A memory segment of carried rows is made anew when more than half of it is dead, but not for a handful of rows.
constexpr Row kTrimRowsMin = 64;

std::vector<SegmentRef> as_refs(const std::vector<SealedRef>& sealed) {
  std::vector<SegmentRef> refs;
  refs.reserve(sealed.size());
  for (const SealedRef& ref : sealed) refs.push_back({ref.segment, ref.deaths});
  return refs;
}

bool is_dead(const FreshRef& ref) { return ref.deaths->dead_count() == ref.segment->row_count(); }

// The memory segment that takes rows now, if there is one.
const FreshRef* memory_of(const Table& table) {
  for (const FreshRef& fresh : table.fresh()) {
    if (!fresh.frozen && fresh.segment->file() == nullptr) return &fresh;
  }
  return nullptr;
}

Row carried_rows(const FreshRef& memory) { return memory.segment->row_count() - memory.deaths->dead_count(); }

uint64_t carried_bytes(const FreshRef& memory) {
  const Row rows = memory.segment->row_count();
  return rows == 0 ? 0 : memory.segment->data_bytes() * carried_rows(memory) / rows;
}

// Tables whose fresh rows stay in the log: those with little of them, and too few for a graph; and if they are too many
// together, the smallest of them.
std::vector<std::shared_ptr<Table>> choose_carried(const std::vector<std::shared_ptr<Table>>& tables,
                                                   const StoreOptions& options) {
  std::vector<std::pair<uint64_t, std::shared_ptr<Table>>> small;
  for (const auto& table : tables) {
    const FreshRef* memory = memory_of(*table);
    if (memory == nullptr || carried_rows(*memory) >= options.graph_rows_min) continue;
    const uint64_t bytes = carried_bytes(*memory);
    if (bytes < options.carry_bytes_max) small.emplace_back(bytes, table);
  }
  std::sort(small.begin(), small.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second->id) < std::pair(b.first, b.second->id);
  });
  std::vector<std::shared_ptr<Table>> carried;
  uint64_t total = 0;
  for (auto& [bytes, table] : small) {
    total += bytes;
    if (total > options.carry_total_bytes_max) break;
    carried.push_back(std::move(table));
  }
  return carried;
}

// One carried record: the live rows of a table's memory segment, with their births.
ByteWriter encode_carried(const Table& table) {
  const FreshRef& memory = *memory_of(table);
  LogOp op;
  op.table = table.id;
  const std::vector<std::string> names = table.partition_names();
  op.partition_names.assign(names.begin(), names.end());
  std::vector<uint8_t> vectors;
  for (Row row = 0; row < memory.segment->row_count(); ++row) {
    if (memory.deaths->death(row) != 0) continue;
    Row run = 0;
    op.keys.push_back(memory.segment->key(row).value());
    op.births.push_back(memory.segment->born(row).value());
    if (!names.empty()) op.row_partitions.push_back(memory.segment->partition(row).value());
    const auto* vector = reinterpret_cast<const uint8_t*>(memory.segment->vectors(row, 1, &run).value());
    vectors.insert(vectors.end(), vector, vector + table.schema.row_bytes());
  }
  op.vectors = vectors.data();
  op.vector_bytes = vectors.size();
  ByteWriter payload;
  encode_op(op, payload);
  return payload;
}

// A memory segment with the live rows only, so that a key that is overwritten for ever does not fill the memory.
FreshRef trimmed(const Table& table, const FreshRef& memory) {
  FreshRef fresh{std::make_shared<FreshSegment>(table.schema), std::make_shared<DeletionVector>(), false};
  for (Row row = 0; row < memory.segment->row_count(); ++row) {
    if (memory.deaths->death(row) != 0) continue;
    Row run = 0;
    const Key key = {memory.segment->key(row).value(), memory.segment->hash(row)};
    fresh.segment->append(key, memory.segment->born(row).value(), memory.segment->partition(row).value(),
                          memory.segment->vectors(row, 1, &run).value());
  }
  return fresh;
}

// The merge comes into use if all that it was made from is still there.
void take_prepared(PreparedMerge& prepared, TableWork& work) {
  const std::vector<SealedRef>& sealed = work.table->sealed();
  for (const SealedRef& source : prepared.sources) {
    const auto same = [&](const SealedRef& ref) { return ref.segment == source.segment; };
    if (std::none_of(sealed.begin(), sealed.end(), same)) return;
  }
  work.compacted = prepared.sources;
  work.merged = prepared.rewritten;
  work.is_prepared = prepared.was_taken = true;
}

// How many rows the table's memory segment lost.
Row trim_memory(Table& table) {
  const FreshRef* memory = memory_of(table);
  const Row rows = memory->segment->row_count();
  const Row dead = memory->deaths->dead_count();
  if (dead < kTrimRowsMin || uint64_t{dead} * 2 < rows) return 0;
  std::vector<FreshRef> fresh = table.fresh();
  for (FreshRef& ref : fresh) {
    if (ref.segment == memory->segment) ref = trimmed(table, *memory);
  }
  table.replace(table.sealed(), fresh);
  return dead;
}

// A file segment's rows are where they stay; what is missing is the file about them.
Result<SealedRef> seal_file(const RewriteTarget& target, const FreshRef& frozen) {
  FreshSegment& segment = *frozen.segment;
  EHUB_RETURN_IF_ERROR(segment.file()->finish());
  SegmentBuilder builder(target.schema, target.hash_seed);
  for (Row row = 0; row < segment.row_count(); ++row) {
    const Key key = {segment.key(row).value(), segment.hash(row)};
    builder.add(key, segment.born(row).value(), segment.partition(row).value());
  }
  const auto info = builder.write(target.fs, target.directory, segment.id(), segment.file()->block_crcs());
  if (!info.ok()) return info.status();
  auto sealed =
      std::make_shared<const SealedSegment>(target.fs, target.directory, target.schema, target.hash_seed, info.value());
  return SealedRef{std::move(sealed), frozen.deaths};
}

Status seal(TableWork& work, Seq cut, RewriteTarget target, std::atomic<SegmentId>& next_segment) {
  for (const FreshRef& frozen : work.frozen) {
    if (frozen.segment->file() != nullptr) {
      Result<SealedRef> sealed = seal_file(target, frozen);
      if (!sealed.ok()) return sealed.status();
      work.sealed.push_back(std::move(sealed.value()));
      continue;
    }
    target.id = next_segment.fetch_add(1);
    Result<Rewritten> rewritten = rewrite_segments(target, {{frozen.segment, frozen.deaths}}, cut, nullptr);
    if (!rewritten.ok()) return rewritten.status();
    work.from_memory.push_back(std::move(rewritten.value()));
  }
  return {};
}

void append_rewritten(const Rewritten& rewritten, const std::vector<SegmentRef>& sources, std::vector<SealedRef>& out) {
  if (rewritten.segment == nullptr) return;
  auto deaths = std::make_shared<DeletionVector>();
  carry_deaths(rewritten, sources, *deaths);
  out.push_back({rewritten.segment, std::move(deaths)});
}

// Puts the results in place of what they were made from. Returns how many fresh rows are sealed now.
uint64_t put_in_place(TableWork& work) {
  std::vector<SealedRef> sealed;
  append_rewritten(work.merged, as_refs(work.compacted), sealed);
  for (const SealedRef& ref : work.table->sealed()) {
    const auto same = [&](const SealedRef& other) { return other.segment == ref.segment; };
    if (std::none_of(work.compacted.begin(), work.compacted.end(), same)) sealed.push_back(ref);
  }
  uint64_t rows = 0;
  for (const FreshRef& dead : work.dead) rows += dead.segment->row_count();
  auto from_memory = work.from_memory.begin();
  for (const FreshRef& frozen : work.frozen) {
    rows += frozen.segment->row_count();
    if (frozen.segment->file() == nullptr) append_rewritten(*from_memory++, {{frozen.segment, frozen.deaths}}, sealed);
  }
  sealed.insert(sealed.end(), work.sealed.begin(), work.sealed.end());
  std::vector<FreshRef> fresh;
  for (const FreshRef& ref : work.table->fresh()) {
    if (!ref.frozen) fresh.push_back(ref);
  }
  work.table->replace(std::move(sealed), std::move(fresh));
  return rows;
}

ManifestTable describe_table(const Table& table, Seq cut) {
  ManifestTable described{table.id, table.space, table.version, table.schema, table.created, table.partition_names(),
                          {}};
  for (const SealedRef& ref : table.sealed()) {
    ByteWriter deaths;
    ref.deaths->encode(ref.segment->row_count(), cut, deaths);
    described.segments.push_back({ref.segment->info(), {deaths.data(), deaths.data() + deaths.size()}});
  }
  return described;
}

}  // namespace

Status Store::Impl::checkpoint(const CheckpointRequest& request, bool* compacted_some) {
  EHUB_RETURN_IF_ERROR(checkpoint_unindexed(request, compacted_some));
  // Without a thread of its own the indexer works here, and its merges end in a checkpoint.
  indexer.wake();
  return {};
}

Status Store::Impl::checkpoint_unindexed(const CheckpointRequest& request, bool* compacted_some) {
  const std::lock_guard maintenance(maintenance_mutex);
  CheckpointPlan plan;
  Status status = guarded([&] { return try_checkpoint(request, plan); });
  if (status.is_full_disk() && reserve.give_up()) {
    status = guarded([&] { return try_checkpoint(request, plan); });
  }
  EHUB_RETURN_IF_ERROR(status);
  reserve.refill(checkpoint_bytes());
  if (compacted_some != nullptr) *compacted_some = plan.compacts_requested;
  return plan.compaction;
}

Status Store::Impl::try_checkpoint(const CheckpointRequest& request, CheckpointPlan& plan) {
  plan = CheckpointPlan();
  plan.request = request;
  EHUB_RETURN_IF_ERROR(queue.run_alone([&] { return begin_checkpoint(plan); }));
  for (TableWork& work : plan.work) {
    const RewriteTarget target = {fs, segment_directory, work.table->schema, hash_seed, 0};
    EHUB_RETURN_IF_ERROR(seal(work, plan.cut, target, next_segment));
  }
  for (TableWork& work : plan.work) EHUB_RETURN_IF_ERROR(merge(plan, work));
  if (!plan.work.empty()) EHUB_RETURN_IF_ERROR(fs.sync_directory(segment_directory));
  EHUB_RETURN_IF_ERROR(queue.run_alone([&] {
    finish_checkpoint(plan);
    return Status();
  }));
  // Whether a failed switch has happened is unknown. Both manifests and all that they name are there, so reopening will
  // find either; but nothing may be removed, and no later manifest may bear this number.
  manifest.number = plan.manifest.number;
  if (Status status = install_manifest(fs, root, plan.manifest); !status.ok()) {
    return status.is_shortage() ? status : queue.run_alone([&] { return poison_with(status); });
  }
  manifest = std::move(plan.manifest);
  manifest.tables.clear();
  collect_garbage(plan.kept, plan.first_new);
  return {};
}

Status Store::Impl::begin_checkpoint(CheckpointPlan& plan) {
  EHUB_RETURN_IF_ERROR(sync_files());
  const std::vector<std::shared_ptr<Table>> all = all_tables();
  plan.cut = last_seq;
  plan.first_new = next_segment;
  plan.carried = choose_carried(all, options);
  EHUB_RETURN_IF_ERROR(rotate_log(plan));
  closed_for_writes |= plan.request.closing;
  const std::set<std::shared_ptr<Table>> carried(plan.carried.begin(), plan.carried.end());
  for (const auto& table : all) {
    table->freeze(!carried.contains(table));
    plan_table(plan, table);
  }
  return {};
}

void Store::Impl::plan_table(CheckpointPlan& plan, const std::shared_ptr<Table>& table) const {
  TableWork work;
  work.table = table;
  for (const FreshRef& fresh : table->fresh()) {
    if (fresh.frozen) (is_dead(fresh) ? work.dead : work.frozen).push_back(fresh);
  }
  const Row rows_max = segment_rows_max(table->schema);
  if (table.get() == plan.request.compacted) {
    work.compacted = all_compactable(table->sealed(), rows_max);
    plan.compacts_requested = !work.compacted.empty();
  } else if (PreparedMerge* prepared = plan.request.prepared; prepared != nullptr && prepared->table == table) {
    take_prepared(*prepared, work);
  } else {
    work.compacted = due_for_compaction(table->sealed(), {rows_max, options.graph_rows_min, &unmergeable});
  }
  work.compacted_dead = std::none_of(work.compacted.begin(), work.compacted.end(), live_rows);
  if (!work.frozen.empty() || !work.dead.empty() || !work.compacted.empty()) plan.work.push_back(std::move(work));
}

// Requires: everything is synced. If it fails, the old log goes on, or a new one that continues it.
Status Store::Impl::rotate_log(CheckpointPlan& plan) {
  if (log != nullptr) log_end = log->bytes();
  log.reset();
  // A recovery's log must not vouch for what the old logs hold: only its manifest will make that so.
  const Seq synced = log_continues ? last_seq : 0;
  EHUB_RETURN_IF_ERROR(ensure_log());
  EHUB_RETURN_IF_ERROR(write_group([&] {
    for (const auto& table : plan.carried) {
      const ByteWriter payload = encode_carried(*table);
      log->add(LogRecordType::kCarried, last_seq, synced, payload.data(), payload.size());
    }
  }));
  if (const Status status = log->sync(); !status.ok()) return poison_with(status);
  uint64_t carried_rows = 0;
  for (const auto& table : plan.carried) {
    fresh_rows.fetch_sub(trim_memory(*table));
    carried_rows += memory_of(*table)->segment->row_count();
  }
  fresh_base = carried_rows;
  plan.first_log = log_number;
  plan.carried_bytes = log_base = log->bytes();
  publish();
  return {};
}

// A merge is not worth a checkpoint: damage in one space must not stop the writes to all, nor may want of room for a
// copy. The segments stay as they are.
Status Store::Impl::merge(CheckpointPlan& plan, TableWork& work) {
  if (work.compacted.empty() || work.compacted_dead || work.is_prepared) return {};
  const RewriteTarget target = {fs, segment_directory, work.table->schema, hash_seed, next_segment.fetch_add(1)};
  const Status status = guarded([&]() -> Status {
    Result<Rewritten> merged = rewrite_segments(target, as_refs(work.compacted), plan.cut, nullptr);
    if (merged.ok()) work.merged = std::move(merged.value());
    return merged.status();
  });
  if (status.ok()) return {};
  for (const auto& path : {vector_path, segment_path}) (void)fs.remove(path(segment_directory, target.id));
  const bool damaged = status.code() == Code::kCorruption || status.code() == Code::kNotFound;
  if (!damaged && !status.is_shortage()) return status;
  if (damaged) {
    for (const SealedRef& ref : work.compacted) unmergeable.insert(ref.segment->info().id);
  }
  work.compacted.clear();
  if (work.table.get() == plan.request.compacted) plan.compaction = status;
  return {};
}

void Store::Impl::finish_checkpoint(CheckpointPlan& plan) {
  for (TableWork& work : plan.work) {
    const uint64_t rows = put_in_place(work);
    if (!work.table->dropped()) fresh_rows.fetch_sub(rows);
  }
  fresh_files = count_fresh_files();
  plan.manifest = describe(plan);
  plan.kept = segments_in_use();
}

uint64_t Store::Impl::count_fresh_files() const {
  uint64_t count = 0;
  for (const auto& table : all_tables()) {
    count += static_cast<uint64_t>(std::count_if(table->fresh().begin(), table->fresh().end(),
                                                 [](const FreshRef& ref) { return ref.segment->file() != nullptr; }));
  }
  return count;
}

Manifest Store::Impl::describe(const CheckpointPlan& plan) const {
  Manifest described;
  described.number = manifest.number + 1;
  described.hash_seed = hash_seed;
  described.seq = plan.cut;
  described.durable_seq = plan.cut;
  described.first_log = plan.first_log;
  described.carried_bytes = plan.carried_bytes;
  described.clean = plan.request.closing;
  described.next_table = next_table;
  described.next_segment = next_segment;
  for (const auto& table : all_tables()) {
    if (table->created <= plan.cut) described.tables.push_back(describe_table(*table, plan.cut));
  }
  return described;
}

}  // namespace ehub
