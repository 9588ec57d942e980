// A group of batches on its way: vectors of large ones to their segments, all of them to the log, then into memory
// while the disk works, then durable, then visible.

#include <algorithm>

#include "base/limits.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

bool is_large(const PendingBatch& pending) {
  const WriteBatch& batch = *pending.batch;
  return batch.kind == WriteBatch::Kind::kSet &&
         batch.keys.size() * batch.table->schema.row_bytes() >= kLargeBatchBytes;
}

LogOp::Kind op_kind(WriteBatch::Kind kind) {
  switch (kind) {
    case WriteBatch::Kind::kSet:
      return LogOp::Kind::kSet;
    case WriteBatch::Kind::kDelete:
      return LogOp::Kind::kDelete;
    case WriteBatch::Kind::kDeleteAll:
      return LogOp::Kind::kDeleteAll;
  }
  return LogOp::Kind::kSet;
}

// The last `n` rows of a file segment. Taken right after they were appended: the sum of a block changes when the next
// batch fills it up.
Extent extent_of(const FreshSegment& segment, Row n, uint64_t row_bytes) {
  const VectorFile& file = *segment.file();
  const Row first_row = file.rows() - n;
  const auto first_block = static_cast<ptrdiff_t>(first_row * row_bytes / kChecksumBlockBytes);
  return {segment.id(), first_row, n, {file.block_crcs().begin() + first_block, file.block_crcs().end()}};
}

// Index of the row's partition name plus one, or 0.
uint32_t label_of(const WriteBatch& batch, size_t row) {
  if (batch.partition_names.empty()) return 0;
  return batch.row_partitions == nullptr ? 1 : batch.row_partitions[row] + 1;
}

// Sets pending.logged_vectors if the record holds them: what the caller's array has by now may be something else.
ByteWriter encode_batch(PendingBatch& pending) {
  const WriteBatch& batch = *pending.batch;
  LogOp op;
  op.kind = op_kind(batch.kind);
  op.table = batch.table->id;
  op.keys = batch.keys;
  if (batch.kind == WriteBatch::Kind::kSet) {
    op.partition_names = batch.partition_names;
    if (!batch.partition_names.empty()) {
      for (size_t i = 0; i < batch.keys.size(); ++i) op.row_partitions.push_back(label_of(batch, i));
    }
    for (const Placed& placed : pending.placed) op.extents.push_back(placed.extent);
    if (pending.placed.empty()) {
      op.vectors = reinterpret_cast<const uint8_t*>(batch.vectors);
      op.vector_bytes = batch.keys.size() * batch.table->schema.row_bytes();
    }
  }
  ByteWriter payload;
  encode_op(op, payload);
  if (op.vector_bytes > 0) pending.logged_vectors = payload.data() + payload.size() - op.vector_bytes;
  return payload;
}

}  // namespace

void Store::Impl::commit(const CommitQueue::Group& group) {
  std::vector<PendingBatch*> batches;
  CommitQueue::Group accepted;
  for (QueuedWork* work : group) {
    auto* pending = static_cast<PendingBatch*>(work->item);
    work->status = prepare(*pending);
    if (!work->status.ok()) continue;
    batches.push_back(pending);
    accepted.push_back(work);
  }
  if (batches.empty()) return;
  const Status status = commit_batches(batches);
  for (QueuedWork* work : accepted) work->status = status;
}

// The order matters: sealed segments are read while the disk already writes the vectors.
Status Store::Impl::prepare(PendingBatch& pending) {
  if (poisoned) return read_only(poison);
  if (closed_for_writes) return ehub::closed("the hub is closed");
  const Table& table = *pending.batch->table;
  if (table.dropped()) return not_found("space '" + table.space + "' was deleted");
  if (is_large(pending)) EHUB_RETURN_IF_ERROR(place_rows(pending));
  Result<SealedRows> located = table.locate_sealed(pending.keys);
  if (!located.ok()) {
    take_back(pending);
    return located.status();
  }
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
  const SegmentId id = next_segment.fetch_add(1);
  auto file = VectorFile::create(fs, vector_path(segment_directory, id), table.schema.row_bytes(), rows_max);
  if (!file.ok()) return file.status();
  segment_directory_dirty = true;
  auto segment = std::make_shared<FreshSegment>(table.schema, id, std::move(file.value()));
  table.add_fresh(segment);
  return segment;
}

// Appends as many of the rows from `row` on as the active file has room for.
Result<Placed> Store::Impl::place_some(const WriteBatch& batch, size_t row) {
  Result<std::shared_ptr<FreshSegment>> segment = file_for(*batch.table);
  if (!segment.ok()) return segment.status();
  VectorFile& file = *segment.value()->file();
  const Schema& schema = batch.table->schema;
  const Row room = segment_rows_max(schema) - file.rows();
  const Row n = static_cast<Row>(std::min<size_t>(room, batch.keys.size() - row));
  const uint32_t tail_crc = file.block_crcs().empty() ? 0 : file.block_crcs().back();
  EHUB_RETURN_IF_ERROR(file.append(batch.vectors + row * schema.dims, n));
  return Placed{segment.value(), extent_of(*segment.value(), n, schema.row_bytes()), tail_crc};
}

Status Store::Impl::place_rows(PendingBatch& pending) {
  for (size_t row = 0; row < pending.keys.size();) {
    Result<Placed> placed = place_some(*pending.batch, row);
    if (!placed.ok()) {
      take_back(pending);
      return placed.status();
    }
    row += placed.value().extent.rows;
    pending.placed.push_back(std::move(placed.value()));
  }
  return {};
}

void Store::Impl::take_back(PendingBatch& pending) {
  for (; !pending.placed.empty(); pending.placed.pop_back()) {
    const Placed& placed = pending.placed.back();
    placed.segment->file()->rollback(placed.extent.first_row, placed.tail_crc);
  }
}

Status Store::Impl::commit_batches(const std::vector<PendingBatch*>& batches) {
  std::vector<ByteWriter> payloads;
  payloads.reserve(batches.size());
  for (PendingBatch* pending : batches) payloads.push_back(encode_batch(*pending));
  if (const Status status = append_to_log(payloads); !status.ok()) {
    for (auto pending = batches.rbegin(); pending != batches.rend(); ++pending) take_back(**pending);
    return status;
  }
  // The group counts from here on: what follows cannot fail but for the sync, and a failed sync ends all writing.
  std::vector<int64_t> row_deltas;
  Seq seq = last_seq - batches.size();
  for (PendingBatch* pending : batches) {
    const uint64_t killed = apply(*pending, ++seq);
    row_deltas.push_back(static_cast<int64_t>(pending->result.rows_set) - static_cast<int64_t>(killed));
  }
  EHUB_RETURN_IF_ERROR(acknowledge());
  for (size_t i = 0; i < batches.size(); ++i) batches[i]->batch->table->add_rows(row_deltas[i]);
  return {};
}

Status Store::Impl::append_to_log(const std::vector<ByteWriter>& payloads) {
  EHUB_RETURN_IF_ERROR(ensure_log());
  Seq seq = last_seq;
  for (const ByteWriter& payload : payloads) {
    log->add(LogRecordType::kBatch, ++seq, synced_seq, payload.data(), payload.size());
  }
  if (const Status status = log->write(); !status.ok())
    return status.code() == Code::kReadOnly ? poison_with(status) : status;
  last_seq = seq;
  unsynced = true;
  return {};
}

uint64_t Store::Impl::apply(PendingBatch& pending, Seq seq) {
  Table& table = *pending.batch->table;
  pending.result.seq = seq;
  switch (pending.batch->kind) {
    case WriteBatch::Kind::kDelete:
      return pending.result.rows_deleted = table.apply_delete(pending.keys, pending.located, seq);
    case WriteBatch::Kind::kDeleteAll:
      return pending.result.rows_deleted = table.apply_delete_all(seq);
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
  const LogStart start = {log_continues ? log_number : 0, log_continues ? log_end : 0, last_seq};
  auto created = LogWriter::create(fs, log_directory, log_number + 1, start, spare_log);
  if (!created.ok()) {
    return created.status().code() == Code::kReadOnly ? poison_with(created.status()) : created.status();
  }
  spare_log.clear();
  if (const Status status = fs.sync_directory(log_directory); !status.ok()) return poison_with(status);
  log = std::move(created.value());
  log_number = log->number();
  log_continues = true;
  log_base = log->bytes();
  return {};
}

Status Store::Impl::sync_files() {
  if (poisoned) return read_only(poison);
  if (segment_directory_dirty) {
    if (const Status status = fs.sync_directory(segment_directory); !status.ok()) return poison_with(status);
    segment_directory_dirty = false;
  }
  for (const auto& segment : unsynced_files) {
    if (const Status status = segment->file()->sync(); !status.ok()) return poison_with(status);
  }
  unsynced_files.clear();
  if (!unsynced) return {};
  if (const Status status = log->sync(); !status.ok()) return poison_with(status);
  unsynced = false;
  synced_seq = last_seq;
  return {};
}

Status Store::Impl::acknowledge() {
  if (options.durability == Durability::kFull) EHUB_RETURN_IF_ERROR(sync_files());
  publish();
  return {};
}

void Store::Impl::publish() {
  visible_seq.store(last_seq, std::memory_order_release);
  last_commit_ms.store(steady_milliseconds(), std::memory_order_relaxed);
  log_growth.store(log == nullptr ? 0 : log->bytes() - log_base);
  growth_max.store(std::max(options.log_bytes_max, log_base));
  // For reader processes. If it fails they lag behind, nothing else.
  const uint64_t progress[2] = {last_seq, ~last_seq};
  (void)lock_file->write(kLockProgressOffset, progress, sizeof(progress));
}

Status Store::Impl::poison_with(const Status& status) {
  if (!poisoned) {
    poison = "the hub is read-only since a failure of the disk (" + status.message() + "); close it and open it again";
    poisoned.store(true, std::memory_order_release);
  }
  return status.code() == Code::kReadOnly ? status : Status(Code::kReadOnly, poison);
}

}  // namespace ehub
