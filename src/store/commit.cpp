// A group of batches on its way: vectors of large ones to their segments, all of them to the log, then into memory
// while the disk works, then durable, then visible.

#include <algorithm>

#include "base/limits.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

// The memory of a group's payloads is kept for the next group, unless it is more than this: new pages cost more than
// what is written to them.
constexpr size_t kKeptPayloadBytes = 4 << 20;

// What a `.seg` takes for a row beside its key, amply.
constexpr uint64_t kSealedRowBytes = 32;

bool is_large(const WriteBatch& batch, uint64_t large_batch_bytes) {
  return batch.kind == WriteBatch::Kind::kSet &&
         batch.keys.size() * batch.table->schema.row_bytes() >= large_batch_bytes;
}

LogOp::Kind op_kind(const WriteBatch& batch) {
  switch (batch.kind) {
    case WriteBatch::Kind::kSet:
      return LogOp::Kind::kSet;
    case WriteBatch::Kind::kDelete:
      return LogOp::Kind::kDelete;
    case WriteBatch::Kind::kDeleteAll:
      return batch.partition_names.empty() ? LogOp::Kind::kDeleteAll : LogOp::Kind::kDeleteWithin;
  }
  return LogOp::Kind::kSet;
}

// Sums of the rows from `first_row` on. Taken right after they were appended: the sum of a block changes when the next
// batch fills it up.
std::vector<uint32_t> crcs_from(const VectorFile& file, Row first_row, uint64_t row_bytes) {
  const auto first_block = static_cast<ptrdiff_t>(first_row * row_bytes / kChecksumBlockBytes);
  return {file.block_crcs().begin() + first_block, file.block_crcs().end()};
}

// Index of the row's partition name plus one, or 0.
uint32_t label_of(const WriteBatch& batch, size_t row) {
  if (batch.partition_names.empty()) return 0;
  if (batch.row_partitions == nullptr) return 1;
  return batch.row_partitions[row] == kNoPartition ? 0 : batch.row_partitions[row] + 1;
}

// Returns where in the payload the vectors end, or 0 if it has none.
size_t encode_part(const PendingBatch& pending, ByteWriter& payload) {
  const WriteBatch& batch = *pending.batch;
  LogOp op;
  op.kind = op_kind(batch);
  op.table = batch.table->id;
  op.keys = batch.keys;
  op.partition_names = batch.partition_names;
  if (batch.kind == WriteBatch::Kind::kSet) {
    if (!batch.partition_names.empty()) {
      for (size_t i = 0; i < batch.keys.size(); ++i) op.row_partitions.push_back(label_of(batch, i));
    }
    for (const Placed& placed : pending.placed) op.extents.push_back(placed.extent);
    if (pending.placed.empty()) {
      op.vectors = reinterpret_cast<const uint8_t*>(batch.vectors);
      op.vector_bytes = batch.keys.size() * batch.table->schema.row_bytes();
    }
  }
  encode_op(op, payload);
  return op.vector_bytes > 0 ? payload.size() : 0;
}

// Sets logged_vectors of each part if the record holds them: what the caller's array has by now may be something else.
void encode_batch(PendingBatch& pending, ByteWriter& payload) {
  payload.clear();
  std::vector<size_t> ends;
  for (const PendingBatch* part = &pending; part != nullptr; part = part->next) {
    ends.push_back(encode_part(*part, payload));
    if (!part->batch->notes.empty()) encode_op(notes_op(part->batch->notes), payload);
  }
  auto end = ends.begin();
  for (PendingBatch* part = &pending; part != nullptr; part = part->next, ++end) {
    if (*end == 0) continue;
    part->logged_vectors = payload.data() + *end - part->keys.size() * part->batch->table->schema.row_bytes();
  }
}

bool has_set(const PendingBatch& pending) {
  for (const PendingBatch* part = &pending; part != nullptr; part = part->next) {
    if (part->batch->kind == WriteBatch::Kind::kSet) return true;
  }
  return false;
}

}  // namespace

void Store::Impl::commit(const CommitQueue::Group& group) {
  std::vector<PendingBatch*> batches;
  CommitQueue::Group accepted;
  batches.reserve(group.size());
  accepted.reserve(group.size());
  for (QueuedWork* work : group) {
    auto* pending = static_cast<PendingBatch*>(work->item);
    work->status = guarded([&] { return prepare(*pending); });
    if (!work->status.ok()) {
      take_back(*pending);
      continue;
    }
    batches.push_back(pending);
    accepted.push_back(work);
  }
  if (batches.empty()) return;
  Status status = commit_batches(batches);
  if (status.is_full_disk()) {
    refuse_sets(batches, accepted, status);
    // Deletes lead to room, so they may use what is kept for that.
    if (!batches.empty() && reserve.give_up()) status = commit_batches(batches);
  }
  for (QueuedWork* work : accepted) work->status = status;
  trim_payloads();
}

void Store::Impl::trim_payloads() {
  size_t bytes = 0;
  for (const ByteWriter& payload : payloads) bytes += payload.capacity();
  if (bytes > kKeptPayloadBytes) payloads = {};
}

// Takes the sets out of a group that was refused.
void Store::Impl::refuse_sets(std::vector<PendingBatch*>& batches, CommitQueue::Group& works, const Status& status) {
  for (size_t i = batches.size(); i-- > 0;) {
    if (!has_set(*batches[i])) continue;
    works[i]->status = status;
    works.erase(works.begin() + static_cast<ptrdiff_t>(i));
    batches.erase(batches.begin() + static_cast<ptrdiff_t>(i));
  }
}

Status Store::Impl::whole_or_poisoned(const std::function<Status()>& work) {
  const Seq before = last_seq;
  try {
    return work();
  } catch (...) {
    const Status status = status_of_exception();
    return last_seq == before ? status : poison_with(status);
  }
}

// The order matters: sealed segments are read while the disk already writes the vectors.
Status Store::Impl::prepare(PendingBatch& pending) {
  if (poisoned) return read_only(poison);
  if (closed_for_writes) return ehub::closed("the hub is closed");
  for (PendingBatch* part = &pending; part != nullptr; part = part->next) EHUB_RETURN_IF_ERROR(prepare_part(*part));
  return {};
}

Status Store::Impl::prepare_part(PendingBatch& pending) {
  const Table& table = *pending.batch->table;
  if (table.dropped()) return not_found("space '" + table.space + "' was deleted");
  EHUB_RETURN_IF_ERROR(check_not_frozen(table));
  if (pending.batch->kind == WriteBatch::Kind::kSet) EHUB_RETURN_IF_ERROR(reserve.regain(checkpoint_bytes()));
  const bool large = !pending.is_part && is_large(*pending.batch, options.large_batch_bytes);
  if (large) EHUB_RETURN_IF_ERROR(place_rows(pending));
  Result<SealedRows> located = table.locate_sealed(pending.keys);
  if (!located.ok()) return located.status();
  pending.located = std::move(located.value());
  return {};
}

Row Store::Impl::segment_rows_max(const Schema& schema) const {
  const uint64_t rows = options.segment_bytes_max / schema.row_bytes();
  return static_cast<Row>(std::clamp<uint64_t>(rows, 16, kSegmentRowsMax));
}

Result<std::shared_ptr<FreshSegment>> Store::Impl::file_for(Table& table) {
  const Row rows_max = segment_rows_max(table.schema);
  std::shared_ptr<FreshSegment> active = table.active_file();
  if (active != nullptr && active->file()->rows() < rows_max) return active;
  EHUB_RETURN_IF_ERROR(open_once(opened_segment_directory, segment_directory));
  const SegmentId id = next_segment.fetch_add(1);
  auto file = VectorFile::create(fs, vector_path(segment_directory, id), table.schema.row_bytes(), rows_max);
  if (!file.ok()) return file.status();
  segment_directory_dirty = true;
  auto segment = std::make_shared<FreshSegment>(table.schema, id, std::move(file.value()));
  table.add_fresh(segment);
  fresh_files.fetch_add(1);
  return segment;
}

Status Store::Impl::open_once(std::unique_ptr<File>& opened, const std::string& directory) {
  if (opened != nullptr) return {};
  auto file = fs.open_directory(directory);
  if (file.ok()) opened = std::move(file.value());
  return of_making(file.status());
}

// Appends as many of the rows from `row` on as the active file has room for. What is in `placed` before it is in the
// file can be taken back wherever this ends.
Status Store::Impl::place_some(PendingBatch& pending, size_t row) {
  const WriteBatch& batch = *pending.batch;
  Result<std::shared_ptr<FreshSegment>> segment = file_for(*batch.table);
  if (!segment.ok()) return segment.status();
  VectorFile& file = *segment.value()->file();
  const Schema& schema = batch.table->schema;
  const Row room = segment_rows_max(schema) - file.rows();
  const Row n = static_cast<Row>(std::min<size_t>(room, batch.keys.size() - row));
  const uint32_t tail_crc = file.block_crcs().empty() ? 0 : file.block_crcs().back();
  pending.placed.push_back({segment.value(), Extent{segment.value()->id(), file.rows(), n, {}}, tail_crc});
  Extent& extent = pending.placed.back().extent;
  EHUB_RETURN_IF_ERROR(file.append(batch.vectors + row * schema.dims, n, batch.stop));
  extent.block_crcs = crcs_from(file, extent.first_row, schema.row_bytes());
  return {};
}

Status Store::Impl::place_rows(PendingBatch& pending) {
  for (size_t row = 0; row < pending.keys.size();) {
    EHUB_RETURN_IF_ERROR(place_some(pending, row));
    row += pending.placed.back().extent.rows;
  }
  return {};
}

void Store::Impl::take_back(PendingBatch& pending) {
  for (PendingBatch* part = &pending; part != nullptr; part = part->next) take_back_part(*part);
}

void Store::Impl::take_back_part(PendingBatch& pending) {
  for (; !pending.placed.empty(); pending.placed.pop_back()) {
    const Placed& placed = pending.placed.back();
    placed.segment->file()->rollback(placed.extent.first_row, placed.tail_crc);
    placed.segment->file()->give_back();
  }
}

namespace {

std::vector<PendingBatch*> parts_of(const std::vector<PendingBatch*>& batches) {
  std::vector<PendingBatch*> parts;
  parts.reserve(batches.size());
  for (PendingBatch* batch : batches) {
    for (PendingBatch* part = batch; part != nullptr; part = part->next) parts.push_back(part);
  }
  return parts;
}

}  // namespace

// Takes what apply() needs while it can still be refused: rows, keys, and deaths in sealed segments.
void Store::Impl::reserve_memory(const std::vector<PendingBatch*>& batches) {
  std::map<FreshSegment*, std::pair<size_t, uint64_t>> needs;  // rows, bytes of keys
  for (PendingBatch* pending : parts_of(batches)) {
    Table& table = *pending->batch->table;
    if (!pending->batch->notes.empty()) pending->notes.emplace(pending->batch->notes);
    table.reserve_deaths(pending->located);
    table.reserve_deaths(pending->doomed);
    const bool all = pending->batch->kind == WriteBatch::Kind::kDeleteAll && pending->batch->partition_names.empty();
    if (all) table.reserve_all_deaths();
    if (pending->batch->kind != WriteBatch::Kind::kSet) continue;
    auto key = pending->keys.begin();
    const auto need = [&](FreshSegment& segment, size_t n) {
      auto& [rows, key_bytes] = needs[&segment];
      rows += n;
      for (const auto end = key + static_cast<ptrdiff_t>(n); key != end; ++key) key_bytes += key->bytes.size();
    };
    for (const Placed& placed : pending->placed) need(*placed.segment, placed.extent.rows);
    if (pending->placed.empty()) need(table.memory(), pending->keys.size());
  }
  for (const auto& [segment, need] : needs) segment->reserve(need.first, need.second);
}

Status Store::Impl::commit_batches(const std::vector<PendingBatch*>& batches) {
  const Seq before = last_seq;
  const Status status = whole_or_poisoned([&] { return log_and_apply(batches); });
  if (last_seq == before) {
    for (auto pending = batches.rbegin(); pending != batches.rend(); ++pending) take_back(**pending);
  }
  return status;
}

Status Store::Impl::log_and_apply(const std::vector<PendingBatch*>& batches) {
  reserve_memory(batches);
  const std::vector<PendingBatch*> parts = parts_of(batches);
  if (payloads.size() < batches.size()) payloads.resize(batches.size());
  for (size_t i = 0; i < batches.size(); ++i) encode_batch(*batches[i], payloads[i]);
  EHUB_RETURN_IF_ERROR(append_to_log({payloads.data(), batches.size()}));
  // The group counts from here on: what follows cannot fail but for the sync, or where a row that is not sealed dies
  // and memory is exhausted. Either ends all writing.
  Seq seq = last_seq - batches.size();
  for (PendingBatch* pending : batches) apply(*pending, ++seq);
  EHUB_RETURN_IF_ERROR(acknowledge(
      std::all_of(parts.begin(), parts.end(), [](const PendingBatch* each) { return each->batch->is_derived; })));
  for (PendingBatch* part : parts) {
    const int64_t killed = static_cast<int64_t>(part->rows_killed);
    part->batch->table->add_rows(static_cast<int64_t>(part->result.rows_set) - killed);
  }
  return {};
}

Status Store::Impl::append_to_log(std::span<const ByteWriter> records) {
  EHUB_RETURN_IF_ERROR(ensure_log());
  Seq seq = last_seq;
  EHUB_RETURN_IF_ERROR(write_group([&] {
    for (const ByteWriter& payload : records) {
      log->add(LogRecordType::kBatch, ++seq, synced_seq, payload.data(), payload.size());
    }
  }));
  last_seq = seq;
  unsynced = true;
  return {};
}

Status Store::Impl::write_group(const std::function<void()>& add) {
  uint64_t bytes = 0;
  const Status status = guarded([&] {
    add();
    bytes = log->pending_bytes();
    return log->write(reserve.held());
  });
  log->discard();
  if (status.ok() && bytes > 0) {
    log_writes.fetch_add(1, std::memory_order_relaxed);
    log_bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  return status.code() == Code::kReadOnly ? poison_with(status) : status;
}

void Store::Impl::apply(PendingBatch& pending, Seq seq) {
  for (PendingBatch* part = &pending; part != nullptr; part = part->next) {
    part->rows_killed = apply_part(*part, seq);
    if (part->notes) apply_notes(std::move(*part->notes));
  }
}

uint64_t Store::Impl::apply_part(PendingBatch& pending, Seq seq) {
  Table& table = *pending.batch->table;
  pending.result.seq = seq;
  switch (pending.batch->kind) {
    case WriteBatch::Kind::kDelete:
      return pending.result.rows_deleted = table.apply_delete(pending.keys, pending.located, seq);
    case WriteBatch::Kind::kDeleteAll:
      return pending.result.rows_deleted = pending.batch->partition_names.empty()
                                               ? table.apply_delete_all(seq)
                                               : table.apply_delete_rows(pending.doomed, seq);
    case WriteBatch::Kind::kSet:
      break;
  }
  std::vector<uint32_t> partitions = {0};
  for (const std::string_view name : pending.batch->partition_names) partitions.push_back(table.partition_number(name));
  const uint64_t row_bytes = table.schema.row_bytes();
  uint64_t killed = 0;
  size_t i = 0;
  const auto set_rows = [&](FreshSegment& target, size_t n) {
    for (const size_t end = i + n; i < end; ++i) {
      const uint8_t* vector = pending.logged_vectors == nullptr ? nullptr : pending.logged_vectors + i * row_bytes;
      killed += table.apply_set(target, pending.keys[i], pending.located[i], seq,
                                partitions[label_of(*pending.batch, i)], vector);
    }
  };
  for (const Placed& placed : pending.placed) {
    set_rows(*placed.segment, placed.extent.rows);
    if (unsynced_files.empty() || unsynced_files.back() != placed.segment) unsynced_files.push_back(placed.segment);
  }
  if (pending.placed.empty()) set_rows(table.memory(), pending.keys.size());
  pending.result.rows_set = pending.keys.size();
  fresh_rows.fetch_add(pending.keys.size());
  return killed;
}

Status Store::Impl::ensure_log() {
  if (log != nullptr) return {};
  EHUB_RETURN_IF_ERROR(open_once(opened_log_directory, log_directory));
  const LogStart start = {log_continues ? log_number : 0, log_continues ? log_end : 0, last_seq};
  auto created =
      LogWriter::create(fs, log_directory, log_number + 1, start, spare_log, options.log_step_bytes, reserve.held());
  if (!created.ok()) {
    return created.status().code() == Code::kReadOnly ? poison_with(created.status()) : created.status();
  }
  spare_log.clear();
  if (const Status status = opened_log_directory->sync(); !status.ok()) return poison_with(status);
  log = std::move(created.value());
  log_number = log->number();
  log_continues = true;
  log_base = log->bytes();
  return {};
}

Status Store::Impl::sync_files() {
  if (poisoned) return read_only(poison);
  if (segment_directory_dirty) {
    if (const Status status = opened_segment_directory->sync(); !status.ok()) return poison_with(status);
    segment_directory_dirty = false;
  }
  for (const auto& segment : unsynced_files) {
    const Status status = syncs.of([&] { return segment->file()->sync(); });
    if (!status.ok()) return poison_with(status);
  }
  unsynced_files.clear();
  if (!unsynced) return {};
  if (const Status status = syncs.of([&] { return log->sync(); }); !status.ok()) return poison_with(status);
  unsynced = false;
  synced_seq = last_seq;
  return {};
}

Status Store::Impl::acknowledge(bool is_derived) {
  if (options.durability == Durability::kFull && !is_derived) EHUB_RETURN_IF_ERROR(sync_files());
  publish(!is_derived);
  return {};
}

void Store::Impl::publish(bool is_owed) {
  if (is_owed) owed_seq = last_seq;
  visible_seq.store(last_seq, std::memory_order_release);
  last_commit_ms.store(steady_milliseconds(), std::memory_order_relaxed);
  log_growth.store(log == nullptr ? 0 : log->bytes() - log_base);
  growth_max.store(std::max(options.log_bytes_max, log_base));
  // For reader processes. If it fails they lag behind, nothing else.
  const LockProgress progress = {last_seq, ~last_seq, owed_seq, ~owed_seq};
  (void)lock_file->write(kLockProgressOffset, &progress, sizeof(progress));
  reserve.extend(checkpoint_bytes());
}

uint64_t Store::Impl::checkpoint_bytes() const {
  const uint64_t rows = fresh_rows.load();
  return log_growth.load() + (rows - std::min(rows, fresh_base.load())) * kSealedRowBytes;
}

Status Store::Impl::poison_with(const Status& status) {
  if (!poisoned) {
    // If there is no memory for the reason, there is none given.
    (void)guarded([&]() -> Status {
      poison = "the hub is read-only since a failure (" + status.message() + "); close it and open it again";
      return {};
    });
    poisoned.store(true, std::memory_order_release);
  }
  return status.code() == Code::kReadOnly ? status : Status(Code::kReadOnly, poison);
}

}  // namespace ehub
