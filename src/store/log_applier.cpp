#include "store/log_applier.h"

#include <algorithm>
#include <utility>

namespace ehub {
namespace {

bool keys_are_of(const Schema& schema, const std::vector<std::string_view>& keys) {
  return schema.key_type != KeyType::kInteger ||
         std::all_of(keys.begin(), keys.end(), [](std::string_view key) { return key.size() == sizeof(int64_t); });
}

}  // namespace

LogApplier::Rows::Rows(Table& table, const LogOp& op, Seq seq, std::vector<Key> keys, SealedRows located)
    : table_(table), op_(op), seq_(seq), keys_(std::move(keys)), located_(std::move(located)), partitions_{0} {
  for (const std::string_view name : op.partition_names) partitions_.push_back(table.partition_number(name));
}

void LogApplier::Rows::put(FreshSegment& target, size_t n) {
  const uint64_t row_bytes = table_.schema.row_bytes();
  rows_put_ += n;
  for (const size_t end = next_ + n; next_ < end; ++next_) {
    const Seq born = op_.births.empty() ? seq_ : op_.births[next_];
    const uint32_t partition = op_.row_partitions.empty() ? 0 : partitions_[op_.row_partitions[next_]];
    const uint8_t* vector = op_.vectors + next_ * row_bytes;
    rows_killed_ += table_.apply_set(target, keys_[next_], located_[next_], born, partition, vector);
  }
}

void LogApplier::Rows::leave_out() {
  rows_killed_ += static_cast<int64_t>(table_.apply_delete({keys_[next_]}, {located_[next_]}, seq_));
  ++next_;
}

Result<bool> LogApplier::apply(const LoggedBatch& batch) {
  const Result<std::vector<LogOp>> ops = decode_ops(batch.path, batch.record.offset, batch.record.payload);
  if (!ops.ok()) return ops.status();
  for (const LogOp& op : ops.value()) {
    const Result<bool> applied = apply_op(op, batch);
    if (!applied.ok() || !applied.value()) return applied;
  }
  return true;
}

Result<bool> LogApplier::apply_op(const LogOp& op, const LoggedBatch& batch) {
  if (op.kind == LogOp::Kind::kCreateTable) {
    apply_create(op, batch.record.seq);
    return true;
  }
  if (op.kind == LogOp::Kind::kNotes) {
    apply_notes(op);
    return true;
  }
  const auto found = impl_.tables.find(op.table);
  if (found == impl_.tables.end()) return true;
  const std::shared_ptr<Table> table = found->second;
  switch (op.kind) {
    case LogOp::Kind::kSet:
      return apply_set(*table, op, batch);
    case LogOp::Kind::kDelete:
      EHUB_RETURN_IF_ERROR(apply_delete(*table, op, batch.record.seq));
      break;
    case LogOp::Kind::kDeleteAll:
      table->add_rows(-static_cast<int64_t>(table->apply_delete_all(batch.record.seq)));
      break;
    case LogOp::Kind::kDeleteWithin:
      EHUB_RETURN_IF_ERROR(apply_delete_within(*table, op, batch.record.seq));
      break;
    case LogOp::Kind::kDropTable:
      apply_drop(*table);
      break;
    case LogOp::Kind::kTag:
      if (op.then >= batch.record.seq) {
        return corruption(batch.path, batch.record.offset, "a tag of a time that had not come yet");
      }
      // That it was removed may be missing.
      table->pins().remove_tag(std::string(op.tag));
      table->pins().add_tag(PreparedTag(std::string(op.tag), op.then));
      break;
    case LogOp::Kind::kUntag:
      table->pins().remove_tag(std::string(op.tag));
      break;
    case LogOp::Kind::kRestore:
      return apply_restore(*table, op, batch);
    case LogOp::Kind::kFreeze:
      table->set_frozen(true);
      break;
    case LogOp::Kind::kCreateTable:
    case LogOp::Kind::kNotes:
      break;
  }
  return true;
}

Result<bool> LogApplier::apply_set(Table& table, const LogOp& op, const LoggedBatch& batch) {
  if (op.extents.empty() && op.vector_bytes != op.keys.size() * table.schema.row_bytes()) {
    return corruption(batch.path, batch.record.offset,
                      "the vectors do not have the dims of space '" + table.space + "'");
  }
  if (!keys_are_of(table.schema, op.keys)) {
    return corruption(batch.path, batch.record.offset, "keys of space '" + table.space + "' are no integers");
  }
  std::vector<Key> keys = hashed(op.keys);
  Result<SealedRows> located = table.locate_sealed(keys);
  if (!located.ok()) return located.status();
  Rows rows(table, op, batch.record.seq, std::move(keys), std::move(located.value()));
  if (!op.extents.empty()) {
    const Result<bool> set = set_from_files(rows, op, batch);
    if (!set.ok() || !set.value()) return set;
  } else if (rows.left() > 0) {
    rows.put(table.memory(), rows.left());
  }
  table.add_rows(static_cast<int64_t>(rows.rows_put()) - rows.rows_killed());
  impl_.fresh_rows.fetch_add(rows.rows_put());
  return true;
}

Status LogApplier::apply_delete(Table& table, const LogOp& op, Seq seq) {
  const std::vector<Key> keys = hashed(op.keys);
  const Result<SealedRows> located = table.locate_sealed(keys);
  if (!located.ok()) return located.status();
  table.add_rows(-static_cast<int64_t>(table.apply_delete(keys, located.value(), seq)));
  return {};
}

Status LogApplier::apply_delete_within(Table& table, const LogOp& op, Seq seq) {
  const Result<RowBitmaps> rows = table.rows_within(op.partition_names);
  if (!rows.ok()) return rows.status();
  table.add_rows(-static_cast<int64_t>(table.apply_delete_rows(rows.value(), seq)));
  return {};
}

void LogApplier::apply_create(const LogOp& op, Seq seq) {
  impl_.next_table = std::max(impl_.next_table, op.table + 1);
  const auto table = std::make_shared<Table>(op.table, std::string(op.space), std::string(op.version), op.schema, seq);
  impl_.add_table(PreparedTable(table));
}

void LogApplier::apply_notes(const LogOp& op) {
  NoteChanges changes;
  for (const auto& [name, text] : op.notes) {
    changes.push_back({std::string(name), text ? std::optional<std::string>(*text) : std::nullopt});
  }
  impl_.apply_notes(PreparedNotes(changes));
}

Result<bool> LogApplier::apply_restore(Table& table, const LogOp& op, const LoggedBatch& batch) {
  if (op.then >= batch.record.seq) {
    return corruption(batch.path, batch.record.offset, "a restore to a time that had not come yet");
  }
  // Who held which time then is not known: the log may yet go back to any.
  Result<Table::Restored> restored = table.restored(op.then, batch.record.seq, nullptr);
  if (!restored.ok()) return restored.status();
  table.restore(std::move(restored.value()));
  return true;
}

void LogApplier::apply_drop(Table& table) {
  table.set_dropped();
  for (const FreshRef& fresh : table.fresh()) impl_.fresh_rows.fetch_sub(fresh.segment->row_count());
  impl_.remove_table(table);
}

std::vector<Key> LogApplier::hashed(const std::vector<std::string_view>& keys) const {
  std::vector<Key> hashed;
  hashed.reserve(keys.size());
  for (const std::string_view key : keys) hashed.push_back(make_key(impl_.hash_seed, key));
  return hashed;
}

}  // namespace ehub
