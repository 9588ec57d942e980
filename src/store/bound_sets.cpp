// Sets whose keys may not be in partitions of others, from where they would take the rows. Where the keys are is looked
// up in the turn of the commit queue in which they are set, so that no other batch comes between.

#include "store/store_impl.h"

namespace ehub {
namespace {

// kConflict, with the first row whose key is in another partition than those the batch is bound to.
Status check_bounds(const View& view, const WriteBatch& batch) {
  const size_t n = batch.keys.size();
  std::vector<Ordinal> anywhere(n);
  std::vector<Ordinal> inside(n);
  EHUB_RETURN_IF_ERROR(view.locate(batch.keys.data(), n, anywhere.data()));
  EHUB_RETURN_IF_ERROR(view.within(batch.bounds)->locate(batch.keys.data(), n, inside.data()));
  for (size_t i = 0; i < n; ++i) {
    if (anywhere[i] == kNoOrdinal || inside[i] != kNoOrdinal) continue;
    return {Code::kConflict,
            "the key of row " + std::to_string(i) + " is in another partition of space '" + batch.table->space + "'"};
  }
  return {};
}

}  // namespace

Status Store::commit_bound(PendingBatch& first) {
  return impl_->queue.run_alone([&]() -> Status {
    for (const PendingBatch* part = &first; part != nullptr; part = part->next) {
      if (!part->batch->is_bound) continue;
      const Result<std::shared_ptr<const View>> whole = view(*part->batch->table);
      if (!whole.ok()) return whole.status();
      EHUB_RETURN_IF_ERROR(check_bounds(*whole.value(), *part->batch));
    }
    QueuedWork work;
    work.item = &first;
    impl_->commit({&work});
    return work.status;
  });
}

}  // namespace ehub
