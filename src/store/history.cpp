// Points in time: held, gone back to, and begun from.
//
// Nothing is copied for any of it. Rows carry their births and deaths, so a time is a number; what has to be seen to is
// that no rewriting drops rows that are visible at a time which somebody still wants (pins.h).

#include "store/store_impl.h"

namespace ehub {
namespace {

// The schema and hash seed of the table's segments are those of its views.
std::shared_ptr<const View> view_at(const Table& table, Seq seq, uint64_t hash_seed) {
  return std::make_shared<const View>(table.state(), seq, table.schema, hash_seed);
}

}  // namespace

// The lease comes first: whatever state the table is in after it has the rows of that time.
Result<std::shared_ptr<const Snapshot>> Store::snapshot(const Table& table) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  std::shared_lock<std::shared_mutex> lock;
  if (impl_->options.read_only) lock = std::shared_lock(impl_->refresh_mutex);
  const std::shared_ptr<const Table> shared = impl_->shared_table(table);
  if (shared == nullptr) return not_found("space '" + table.space + "' was deleted");
  Lease lease(shared, shared->pins().lease([this] { return visible_seq(); }));
  auto view = view_at(*shared, lease.seq(), impl_->hash_seed);
  return std::make_shared<const Snapshot>(std::move(lease), std::move(view), impl_->manifest_lock);
}

Result<std::shared_ptr<const Snapshot>> Store::at(const Table& table, const std::string& tag) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  std::shared_lock<std::shared_mutex> lock;
  if (impl_->options.read_only) lock = std::shared_lock(impl_->refresh_mutex);
  const std::shared_ptr<const Table> shared = impl_->shared_table(table);
  if (shared == nullptr) return not_found("space '" + table.space + "' was deleted");
  const std::optional<Seq> seq = shared->pins().tag(tag);
  if (!seq || !shared->pins().lease_again(*seq)) {
    return not_found("version '" + table.version + "' of space '" + table.space + "' has no tag '" + tag + "'");
  }
  Lease lease(shared, *seq);
  auto view = view_at(*shared, *seq, impl_->hash_seed);
  return std::make_shared<const Snapshot>(std::move(lease), std::move(view), impl_->manifest_lock);
}

Status Store::restore(const Table& table, const Snapshot& snapshot, const NoteChanges& notes) {
  EHUB_ASSERT(&snapshot.table() == &table);
  return impl_->in_turn([&] {
    const std::shared_ptr<Table> shared = impl_->shared_table(table);
    if (shared == nullptr) return not_found("space '" + table.space + "' was deleted");
    return impl_->restore(*shared, snapshot.view()->seq(), notes);
  });
}

Status Store::Impl::restore(Table& table, Seq then, const NoteChanges& changes) {
  EHUB_RETURN_IF_ERROR(check_not_frozen(table));
  WantedGaps wanted;
  wanted.times = table.pins().all_before([this] { return visible_seq.load(); }, &wanted.asked_at);
  Result<Table::Restored> restored = table.restored(then, last_seq + 1, &wanted);
  if (!restored.ok()) return restored.status();
  LogOp op;
  op.kind = LogOp::Kind::kRestore;
  op.table = table.id;
  op.then = then;
  EHUB_RETURN_IF_ERROR(commit_op(&op, changes));
  table.restore(std::move(restored.value()));
  publish();
  return {};
}

// A fork is made by a checkpoint: this seals what the source has, and the manifest that it writes names the new
// version. So segments are all there is to share, and no log has to say how. It happens at the checkpoint's cut: what
// changes names or notes after that is in the new log, and comes later.
Result<std::shared_ptr<Table>> Store::fork(const Snapshot& snapshot, const std::string& version,
                                           const NoteChanges& notes) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  Fork fork{impl_->shared_table(snapshot.table()), version, snapshot.view()->seq(), notes};
  if (fork.source == nullptr) return not_found("space '" + snapshot.table().space + "' was deleted");
  EHUB_RETURN_IF_ERROR(impl_->check_new_version(fork.source->space, version));
  const Status status = guarded([&] { return impl_->checkpoint({.fork = &fork}); });
  if (fork.is_there) return fork.made;
  EHUB_RETURN_IF_ERROR(status);
  EHUB_RETURN_IF_ERROR(fork.status);
  return fork.made;
}

Status Store::Impl::make_fork(Fork& fork, Seq cut) {
  EHUB_RETURN_IF_ERROR(check_new_version(fork.source->space, fork.version));
  EHUB_RETURN_IF_ERROR(check_notes(fork.notes));
  if (fork.source->dropped()) return not_found("space '" + fork.source->space + "' was deleted");
  std::vector<SealedRef> sealed;
  uint64_t rows = 0;
  for (const SealedRef& ref : fork.source->sealed()) {
    auto deaths = DeletionVector::forked(*ref.deaths, *ref.segment, fork.then, cut);
    if (!deaths.ok()) return deaths.status();
    const uint64_t live = ref.segment->row_count() - deaths.value()->dead_count();
    if (live != 0) sealed.push_back({ref.segment, std::move(deaths.value())});
    rows += live;
  }
  auto table = std::make_shared<Table>(next_table, fork.source->space, fork.version, fork.source->schema, cut);
  table->set_partition_names(fork.source->partition_names());
  table->replace(std::move(sealed), {});
  table->set_row_count(rows);
  ++next_table;
  fork.made = std::move(table);
  return {};
}

}  // namespace ehub
