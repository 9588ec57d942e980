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
#include "store/checkpoint_plan.h"
#include "store/compaction.h"

namespace ehub {

namespace {

// A memory segment of carried rows is made anew when more than half of it is dead, but not for a handful of rows.
constexpr Row kTrimRowsMin = 64;

std::vector<SegmentRef> as_refs(const std::vector<SealedRef>& sealed) {
  std::vector<SegmentRef> refs;
  refs.reserve(sealed.size());
  for (const SealedRef& ref : sealed) refs.push_back({ref.segment, ref.deaths});
  return refs;
}

SegmentRef as_ref(const FreshRef& ref) { return {ref.segment, ref.deaths}; }

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

// A carried row is one that lives, without a past.
bool can_be_carried(const Table& table, const FreshRef& memory, Seq now) {
  return !memory.deaths->has_gaps() &&
         needed_rows(as_ref(memory), {now, table.pins().all()}) == uint64_t{carried_rows(memory)};
}

// Tables whose fresh rows stay in the log: those with little of them, and too few for a graph; and if they are too many
// together, the smallest of them.
std::vector<std::shared_ptr<Table>> choose_carried(const std::vector<std::shared_ptr<Table>>& tables,
                                                   const StoreOptions& options,
                                                   const std::function<bool(const Table&)>& must_seal, Seq now) {
  std::vector<std::pair<uint64_t, std::shared_ptr<Table>>> small;
  for (const auto& table : tables) {
    const FreshRef* memory = memory_of(*table);
    if (memory == nullptr || must_seal(*table) || carried_rows(*memory) >= options.graph_rows_min) continue;
    const uint64_t bytes = carried_bytes(*memory);
    if (bytes < options.carry_bytes_max && can_be_carried(*table, *memory, now)) small.emplace_back(bytes, table);
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
  for (const SealedRef& source : prepared.sources) {
    const auto same = [&](const SealedRef& ref) { return ref.segment == source.segment; };
    if (std::none_of(work.candidates.begin(), work.candidates.end(), same)) return;
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

// A file segment's rows are where they stay; what is missing is the file about them. What searches have made of them
// stays good, and so does what they make until the one takes the place of the other.
Result<std::shared_ptr<const SealedSegment>> seal_file(const RewriteTarget& target, const FreshRef& frozen) {
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
  sealed->coarse_rows().store(segment.coarse_rows().load());
  return sealed;
}

Status seal(TableWork& work, RewriteTarget target, std::atomic<SegmentId>& next_segment) {
  for (const FreshRef& frozen : work.frozen) {
    if (!work.is_rewritten(frozen)) {
      auto sealed = seal_file(target, frozen);
      if (!sealed.ok()) return sealed.status();
      work.sealed.emplace_back(frozen.segment, std::move(sealed.value()));
      continue;
    }
    target.id = next_segment.fetch_add(1);
    Result<Rewritten> rewritten =
        rewrite_segments(target, {as_ref(frozen)}, work.times, work.kept_rows(*frozen.segment));
    if (!rewritten.ok()) return rewritten.status();
    work.from_memory.push_back(std::move(rewritten.value()));
  }
  return {};
}

// The segment as it is in the table now.
SegmentRef current(const Table& table, const Segment& segment) {
  const std::shared_ptr<const TableState> state = table.state();
  const auto is_it = [&](const SegmentRef& ref) { return ref.segment.get() == &segment; };
  const auto found = std::find_if(state->segments.begin(), state->segments.end(), is_it);
  EHUB_ASSERT(found != state->segments.end());
  return *found;
}

void append_rewritten(const Rewritten& rewritten, const std::vector<SegmentRef>& sources, std::vector<SealedRef>& out) {
  if (rewritten.segment != nullptr) out.push_back({rewritten.segment, carry_deaths(rewritten, sources)});
}

uint64_t living_erased(const TableWork& work) {
  uint64_t living = 0;
  for (const auto& [segment, rows] : work.erased) {
    const SegmentRef ref = current(*work.table, *segment);
    living += static_cast<uint64_t>(
        std::count_if(rows.begin(), rows.end(), [&](Row row) { return ref.deaths->death(row) == 0; }));
  }
  return living;
}

// Puts the results in place of what they were made from. Returns how many fresh rows are sealed now.
uint64_t put_in_place(TableWork& work) {
  std::vector<SealedRef> sealed;
  std::vector<SegmentRef> compacted;
  for (const SealedRef& ref : work.compacted) compacted.push_back(current(*work.table, *ref.segment));
  append_rewritten(work.merged.history, compacted, sealed);
  append_rewritten(work.merged.living, compacted, sealed);
  for (const SealedRef& ref : work.table->sealed()) {
    const auto same = [&](const SealedRef& other) { return other.segment == ref.segment; };
    if (std::any_of(work.compacted.begin(), work.compacted.end(), same)) continue;
    const auto cleaned = std::find_if(work.cleaned.begin(), work.cleaned.end(),
                                      [&](const auto& one) { return one.first.segment == ref.segment; });
    if (cleaned == work.cleaned.end()) {
      sealed.push_back(ref);
    } else {
      append_rewritten(cleaned->second, {{ref.segment, ref.deaths}}, sealed);
    }
  }
  work.table->add_rows(-static_cast<int64_t>(living_erased(work)));
  uint64_t rows = 0;
  for (const FreshRef& dead : work.dead) rows += dead.segment->row_count();
  auto from_memory = work.from_memory.begin();
  for (const FreshRef& frozen : work.frozen) {
    rows += frozen.segment->row_count();
    if (!work.is_rewritten(frozen)) continue;
    append_rewritten(*from_memory++, {current(*work.table, *frozen.segment)}, sealed);
  }
  for (const auto& [fresh, segment] : work.sealed) {
    sealed.push_back({segment, current(*work.table, *fresh).deaths});
  }
  std::vector<FreshRef> fresh;
  for (const FreshRef& ref : work.table->fresh()) {
    if (!ref.frozen) fresh.push_back(ref);
  }
  work.table->replace(std::move(sealed), std::move(fresh));
  return rows;
}

ManifestTable describe_table(const Table& table, Seq cut, const TableNames& names) {
  ManifestTable described{table.id,     table.space,   table.version,
                          table.schema, table.created, table.partition_names(),
                          names.frozen, names.tags,    {}};
  for (const SealedRef& ref : table.sealed()) {
    ByteWriter deaths;
    ByteWriter gaps;
    ref.deaths->encode(ref.segment->row_count(), cut, deaths);
    ref.deaths->encode_gaps(cut, {names.pinned, cut}, gaps);
    described.segments.push_back({ref.segment->info(),
                                  {deaths.data(), deaths.data() + deaths.size()},
                                  {gaps.data(), gaps.data() + gaps.size()}});
  }
  return described;
}

}  // namespace

// Whatever a checkpoint ends with: nobody looks at its fork any more.
struct Store::Impl::ForkGuard {
  explicit ForkGuard(Impl& hub) : impl(hub) {}
  ~ForkGuard() {
    const std::lock_guard lock(impl.catalog_mutex);
    impl.forking = nullptr;
  }
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;
  Impl& impl;
};

Status Store::Impl::checkpoint(const CheckpointRequest& request, CompactionOutcome* outcome) {
  EHUB_RETURN_IF_ERROR(checkpoint_unindexed(request, outcome));
  // Without a thread of its own the indexer works here, and its merges end in a checkpoint.
  indexer.wake();
  return {};
}

Status Store::Impl::checkpoint_unindexed(const CheckpointRequest& request, CompactionOutcome* outcome) {
  // Who need not wait does all that is not to be left out, whether it was stopped before or after it began.
  if (!maintenance_mutex.try_lock() && !maintenance_mutex.lock_unless(request.stop)) return stopped("the checkpoint");
  const std::lock_guard maintenance(maintenance_mutex, std::adopt_lock);
  if (!request.closing) EHUB_RETURN_IF_ERROR(check_usable());  // it may have been closed since the call began
  CheckpointPlan plan;
  const ForkGuard forks(*this);
  const auto tried = [&] {
    return checkpoints.of([&] { return guarded([&] { return try_checkpoint(request, plan); }); });
  };
  Status status = tried();
  if (status.is_full_disk() && reserve.give_up()) status = tried();
  EHUB_RETURN_IF_ERROR(status);
  reserve.refill(checkpoint_bytes());
  if (outcome != nullptr) *outcome = plan.outcome;
  return plan.compaction;
}

Status Store::Impl::try_checkpoint(const CheckpointRequest& request, CheckpointPlan& plan) {
  plan = CheckpointPlan();
  plan.request = request;
  EHUB_RETURN_IF_ERROR(queue.run_alone([&] { return begin_checkpoint(plan); }));
  EHUB_RETURN_IF_ERROR(find_erased(plan));
  choose_compactions(plan);
  for (TableWork& work : plan.work) {
    const RewriteTarget target = {fs, segment_directory, work.table->schema, hash_seed, 0, nullptr, &rows_rewritten};
    EHUB_RETURN_IF_ERROR(seal(work, target, next_segment));
  }
  for (TableWork& work : plan.work) EHUB_RETURN_IF_ERROR(merge(plan, work));
  for (TableWork& work : plan.work) EHUB_RETURN_IF_ERROR(clean(plan, work));
  if (!plan.work.empty()) EHUB_RETURN_IF_ERROR(fs.sync_directory(segment_directory));
  if (request.fork != nullptr) {
    // In one turn, so that no name is taken or dropped while it is only half there.
    EHUB_RETURN_IF_ERROR(queue.run_alone([&] { return finish_fork(plan); }));
  } else if (request.erasure != nullptr) {
    EHUB_RETURN_IF_ERROR(queue.run_alone([&] { return finish_erasure(plan); }));
  } else {
    EHUB_RETURN_IF_ERROR(queue.run_alone([&] {
      finish_checkpoint(plan);
      return Status();
    }));
    EHUB_RETURN_IF_ERROR(install(plan));
  }
  record_written(plan);
  collect_garbage(plan.kept, plan.first_new, request.erasure == nullptr ? nullptr : &request.erasure->report);
  return {};
}

// Whether a failed switch has happened is unknown. Both manifests and all that they name are there, so reopening will
// find either; but nothing may be removed, and no later manifest may bear this number.
Status Store::Impl::install(CheckpointPlan& plan) {
  manifest.number = plan.manifest.number;
  if (Status status = install_manifest(fs, root, plan.manifest); !status.ok()) {
    const bool in_turn = plan.request.fork != nullptr || plan.request.erasure != nullptr;
    if (status.is_shortage() && (!in_turn || !is_installed(plan.manifest.number))) return status;
    const auto poisoning = [&] { return poison_with(status); };
    return in_turn ? poisoning() : queue.run_alone(poisoning);
  }
  manifest = std::move(plan.manifest);
  manifest.tables.clear();
  manifest.notes.clear();
  return {};
}

// Whether CURRENT may name this manifest. A fork must know, for its version would be there after all; and an erasure.
bool Store::Impl::is_installed(uint64_t number) {
  const Result<uint64_t> current = read_current(fs, root);
  return !current.ok() || current.value() == number;
}

Status Store::Impl::finish_fork(CheckpointPlan& plan) {
  Fork& fork = *plan.request.fork;
  finish_checkpoint(plan);
  if (!fork.status.ok()) return install(plan);
  PreparedTable table(fork.made);
  const NoteChanges notes_of_fork = fork.notes;
  PreparedNotes names(notes_of_fork);
  EHUB_RETURN_IF_ERROR(install(plan));
  add_table(std::move(table));
  apply_notes(std::move(names));
  fork.is_there = true;
  return {};
}

Status Store::Impl::begin_checkpoint(CheckpointPlan& plan) {
  EHUB_RETURN_IF_ERROR(sync_files());
  const std::vector<std::shared_ptr<Table>> all = all_tables();
  plan.cut = last_seq;
  plan.first_new = next_segment;
  EHUB_RETURN_IF_ERROR(begin_erasure(plan));
  plan.carried = choose_carried(all, options, [&](const Table& table) { return plan.request.seals(table); }, plan.cut);
  EHUB_RETURN_IF_ERROR(rotate_log(plan));
  closed_for_writes |= plan.request.closing;
  const std::set<std::shared_ptr<Table>> carried(plan.carried.begin(), plan.carried.end());
  {
    const std::lock_guard lock(catalog_mutex);
    plan.notes = notes;
    forking = plan.request.fork;
  }
  for (const auto& table : all) {
    plan.names[table->id] = {table->frozen(), table->pins().tags(), table->pins().all()};
    table->freeze(!carried.contains(table));
    plan_table(plan, table);
  }
  return {};
}

void Store::Impl::plan_table(CheckpointPlan& plan, const std::shared_ptr<Table>& table) const {
  TableWork work;
  work.table = table;
  work.times = {plan.cut, table->pins().all()};
  work.candidates = table->sealed();
  for (const FreshRef& fresh : table->fresh()) {
    if (fresh.frozen) work.frozen.push_back(fresh);
  }
  if (!work.frozen.empty() || !work.candidates.empty()) plan.work.push_back(std::move(work));
}

// What is worth rewriting takes a look at each dead row, so that is no turn's work. Writers may kill more rows
// meanwhile: those live at the cut.
void Store::Impl::choose_compactions(CheckpointPlan& plan) const {
  for (TableWork& work : plan.work) {
    const auto needless = std::stable_partition(work.frozen.begin(), work.frozen.end(), [&](const FreshRef& fresh) {
      return !is_needless(as_ref(fresh), work.times);
    });
    work.dead.assign(needless, work.frozen.end());
    work.frozen.erase(needless, work.frozen.end());
    choose_compaction(plan, work);
    work.candidates.clear();
  }
  std::erase_if(plan.work, [](const TableWork& work) {
    return work.frozen.empty() && work.dead.empty() && work.compacted.empty() && work.erased.empty();
  });
}

void Store::Impl::choose_compaction(CheckpointPlan& plan, TableWork& work) const {
  if (plan.request.erases(*work.table)) return;
  const Schema& schema = work.table->schema;
  const CompactionLimits limits = {segment_rows_max(schema), options.graph_rows_min, &unmergeable, work.times};
  if (work.table.get() == plan.request.compacted) {
    work.compacted =
        plan.request.one_by_one ? first_for_room(work.candidates, limits) : all_compactable(work.candidates, limits);
    plan.outcome.found_some = !work.compacted.empty();
  } else if (PreparedMerge* prepared = plan.request.prepared; prepared != nullptr && prepared->table == work.table) {
    take_prepared(*prepared, work);
  } else {
    work.compacted = due_for_compaction(work.candidates, limits);
  }
  const std::vector<SegmentRef> compacted = as_refs(work.compacted);
  work.compacted_dead = std::all_of(compacted.begin(), compacted.end(),
                                    [&](const SegmentRef& ref) { return is_needless(ref, work.times); });
  // They go unread, but views may outlive them: map them while they have names.
  if (!work.compacted_dead) return;
  for (const SegmentRef& ref : compacted) (void)ref.segment->born(0);
}

// Requires: everything is synced. If it fails, the old log goes on, or a new one that continues it.
Status Store::Impl::rotate_log(CheckpointPlan& plan) {
  if (log != nullptr) log_end = log->bytes();
  log.reset();
  // A recovery's log must not vouch for what the old logs hold: only its manifest will make that so. Nor must that of a
  // second try, which the first one's log is not a reason for.
  if (plan.request.recovering) log_continues = false;
  const bool is_proven = log_continues;
  const Seq synced = is_proven ? last_seq : 0;
  EHUB_RETURN_IF_ERROR(ensure_log());
  EHUB_RETURN_IF_ERROR(write_group([&] {
    for (const auto& table : plan.carried) {
      const ByteWriter payload = encode_carried(*table);
      log->add(LogRecordType::kCarried, last_seq, synced, payload.data(), payload.size());
    }
  }));
  if (const Status status = syncs.of([&] { return log->sync(); }); !status.ok()) return poison_with(status);
  uint64_t carried_rows = 0;
  for (const auto& table : plan.carried) {
    fresh_rows.fetch_sub(trim_memory(*table));
    carried_rows += memory_of(*table)->segment->row_count();
  }
  fresh_base = carried_rows;
  plan.first_log = log_number;
  plan.carried_bytes = log_base = log->bytes();
  publish(is_proven);
  return {};
}

// If it fails, nothing of it is left.
Status Store::Impl::rewrite_together(const CheckpointPlan& plan, TableWork& work) {
  const RewriteTarget target = {fs,
                                segment_directory,
                                work.table->schema,
                                hash_seed,
                                next_segment.fetch_add(1),
                                plan.request.stop,
                                &rows_rewritten};
  const SegmentId history = next_segment.fetch_add(1);
  Status status = guarded([&]() -> Status {
    Result<RewrittenApart> merged = rewrite_apart(target, history, as_refs(work.compacted), work.times);
    if (merged.ok()) work.merged = std::move(merged.value());
    return merged.status();
  });
  if (status.ok()) return {};
  for (const auto& path : {vector_path, segment_path}) {
    for (const SegmentId id : {target.id, history}) (void)fs.remove(path(segment_directory, id));
  }
  return status;
}

// A merge is not worth a checkpoint: damage in one space must not stop the writes to all, nor may want of room for a
// copy. The segments stay as they are; but where there is room for the copy of one, that one's dead rows make more.
Status Store::Impl::merge(CheckpointPlan& plan, TableWork& work) {
  if (work.compacted.empty() || work.compacted_dead || work.is_prepared) return {};
  const bool is_requested = work.table.get() == plan.request.compacted;
  Status status = rewrite_together(plan, work);
  if (status.is_full_disk() && !plan.request.one_by_one) {
    plan.outcome.was_short |= is_requested;  // the next round goes on
    const CompactionLimits limits = {.unmergeable = &unmergeable, .times = work.times};
    work.compacted = is_requested ? std::vector<SealedRef>() : first_for_room(work.compacted, limits);
    status = work.compacted.empty() ? Status() : rewrite_together(plan, work);
  }
  if (status.ok()) return {};
  const bool damaged = status.code() == Code::kCorruption || status.code() == Code::kNotFound;
  const bool was_stopped = status.code() == Code::kDeadline;
  if (!damaged && !was_stopped && !status.is_shortage()) return status;
  if (damaged) {
    for (const SealedRef& ref : work.compacted) unmergeable.insert(ref.segment->info().id);
  }
  work.compacted.clear();
  if (is_requested) plan.compaction = status;
  return {};
}

void Store::Impl::finish_checkpoint(CheckpointPlan& plan) {
  for (TableWork& work : plan.work) {
    const uint64_t rows = put_in_place(work);
    if (!work.table->dropped()) fresh_rows.fetch_sub(rows);
  }
  fresh_files = count_fresh_files();
  if (Fork* fork = plan.request.fork; fork != nullptr) {
    fork->status = guarded([&] { return make_fork(*fork, plan.cut); });
    if (fork->status.ok()) change_notes(fork->notes, plan.notes);
  }
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
    const auto names = plan.names.find(table->id);
    if (names != plan.names.end()) described.tables.push_back(describe_table(*table, plan.cut, names->second));
  }
  const Fork* fork = plan.request.fork;
  if (fork != nullptr && fork->status.ok()) described.tables.push_back(describe_table(*fork->made, plan.cut, {}));
  described.notes = plan.notes;
  return described;
}

}  // namespace ehub
