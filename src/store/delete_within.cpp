// Deleting in partitions. Which rows are in them is found in the turn of the commit queue in which they are deleted, so
// that no other batch comes between. Of some keys, what is logged is an ordinary delete of those that are in the
// partitions; of all rows, the partitions' names: a replay finds the same rows by the same labels.

#include "store/store_impl.h"

namespace ehub {
namespace {

// Makes `found` the delete of those keys of `batch` that are in the partitions, and `pending` what is to be committed.
Status find_keys(const View& view, const WriteBatch& batch, uint64_t hash_seed, WriteBatch& found,
                 PendingBatch& pending) {
  std::vector<Ordinal> rows(batch.keys.size());
  EHUB_RETURN_IF_ERROR(view.locate(batch.keys.data(), batch.keys.size(), rows.data()));
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] == kNoOrdinal) continue;
    found.keys.push_back(batch.keys[i]);
    pending.keys.push_back(make_key(hash_seed, batch.keys[i]));
  }
  return {};
}

bool any_lives(const View& view) {
  const Result<uint64_t> rows = view.row_count();
  return !rows.ok() || rows.value() != 0;
}

}  // namespace

Result<WriteResult> Store::delete_within(const WriteBatch& batch, const std::vector<uint32_t>& partitions) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  EHUB_ASSERT(batch.kind != WriteBatch::Kind::kSet);
  EHUB_RETURN_IF_ERROR(impl_->wait_for_room());
  WriteResult result = {visible_seq(), 0, 0};
  EHUB_RETURN_IF_ERROR(impl_->queue.run_alone([&]() -> Status {
    const Result<std::shared_ptr<const View>> whole = view(*batch.table);
    if (!whole.ok()) return whole.status();
    const std::shared_ptr<const View> view = whole.value()->within(partitions);
    const std::vector<std::string> names = batch.table->partition_names();
    const auto without_rows = [&] { return batch.notes.empty() ? Status() : impl_->commit_notes(batch.notes); };
    WriteBatch found;
    found.kind = batch.kind;
    found.table = batch.table;
    found.notes = batch.notes;
    PendingBatch pending;
    pending.batch = &found;
    if (batch.kind == WriteBatch::Kind::kDelete) {
      EHUB_RETURN_IF_ERROR(find_keys(*view, batch, impl_->hash_seed, found, pending));
      if (found.keys.empty()) return without_rows();
    } else {
      if (!any_lives(*view)) return without_rows();
      for (const uint32_t number : partitions) found.partition_names.push_back(names[number - 1]);
      Result<RowBitmaps> rows = batch.table->rows_within(found.partition_names);
      if (!rows.ok()) return rows.status();
      pending.doomed = std::move(rows.value());
    }
    QueuedWork work;
    work.item = &pending;
    impl_->commit({&work});
    result = pending.result;
    return work.status;
  }));
  impl_->after_commit();
  return result;
}

}  // namespace ehub
