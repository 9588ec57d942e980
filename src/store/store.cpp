#include "store/store.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <unordered_set>

#include "base/limits.h"
#include "kernels/dispatch.h"
#include "store/replay.h"
#include "store/store_impl.h"
#include "store/subindex.h"

namespace ehub {
namespace {

std::atomic<uint64_t> fork_count = 0;

const bool fork_counted = [] {
  return pthread_atfork(nullptr, nullptr, [] { fork_count.fetch_add(1, std::memory_order_relaxed); }) == 0;
}();

std::vector<Key> hashed(const std::vector<std::string_view>& keys, uint64_t hash_seed) {
  std::vector<Key> hashed;
  hashed.reserve(keys.size());
  for (const std::string_view key : keys) hashed.push_back(make_key(hash_seed, key));
  return hashed;
}

Status check_key(const Schema& schema, std::string_view key, size_t index) {
  if (schema.key_type == KeyType::kInteger) {
    EHUB_ASSERT(key.size() == sizeof(int64_t));
    return {};
  }
  if (!key.empty() && key.size() <= kKeyBytesMax) return {};
  return {Code::kInvalidKey, "key " + std::to_string(index) + " has " + std::to_string(key.size()) +
                                 " bytes; keys have 1 to " + std::to_string(kKeyBytesMax)};
}

Status check_vectors(const WriteBatch& batch) {
  const Schema& schema = table_schema(*batch.table);
  const size_t n = batch.keys.size();
  const size_t invalid = first_invalid_row(kernels(), schema.metric, batch.vectors, n, schema.dims);
  if (invalid == n) return {};
  const std::string cosine = schema.metric == Metric::kCosine ? ", and under cosine a norm between 1e-19 and 1e19" : "";
  return {Code::kInvalidVector, "vector " + std::to_string(invalid) + " cannot be stored in space '" +
                                    table_space(*batch.table) + "': its values must be finite" + cosine};
}

Status check_partitions(const WriteBatch& batch) {
  for (const std::string_view name : batch.partition_names) {
    if (name.empty() || name.size() > kNameBytesMax) {
      return invalid_argument("a partition's name has 1 to " + std::to_string(kNameBytesMax) + " bytes; " +
                              std::to_string(name.size()) + " were given");
    }
  }
  if (batch.row_partitions == nullptr) return {};
  const uint32_t* end = batch.row_partitions + batch.keys.size();
  const bool bounded = std::all_of(batch.row_partitions, end,
                                   [&](uint32_t i) { return i < batch.partition_names.size() || i == kNoPartition; });
  return bounded ? Status() : invalid_argument("a row's partition is not among the partition names");
}

Status check_batch(const WriteBatch& batch) {
  if (batch.table->dropped()) return not_found("space '" + batch.table->space + "' was deleted");
  EHUB_RETURN_IF_ERROR(check_not_frozen(*batch.table));
  EHUB_RETURN_IF_ERROR(check_notes(batch.notes));
  for (size_t i = 0; i < batch.keys.size(); ++i) {
    EHUB_RETURN_IF_ERROR(check_key(table_schema(*batch.table), batch.keys[i], i));
  }
  if (batch.kind != WriteBatch::Kind::kSet) return {};
  EHUB_RETURN_IF_ERROR(check_partitions(batch));
  return check_vectors(batch);
}

uint64_t batch_bytes(const WriteBatch& batch) {
  const uint64_t vectors = batch.kind == WriteBatch::Kind::kSet ? table_schema(*batch.table).row_bytes() : 0;
  return batch.keys.size() * (vectors + sizeof(Key));
}

}  // namespace

int64_t steady_milliseconds() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

uint64_t current_fork_generation() { return fork_count.load(std::memory_order_relaxed); }

TableId table_id(const Table& table) { return table.id; }
const std::string& table_space(const Table& table) { return table.space; }
const std::string& table_version(const Table& table) { return table.version; }
bool table_frozen(const Table& table) { return table.frozen(); }
const Schema& table_schema(const Table& table) { return table.schema; }
std::vector<std::string> partition_names(const Table& table) { return table.partition_names(); }
uint32_t find_partition(const Table& table, std::string_view name) { return table.find_partition(name); }

Status check_not_frozen(const Table& table) {
  if (!table.frozen()) return {};
  return {Code::kFrozen, "version '" + table.version + "' of space '" + table.space +
                             "' is frozen; write to another version, or to a fork of it"};
}

Store::Impl::Impl(FileSystem& fs_, const std::string& root_, const StoreOptions& options_)
    : fs(fs_),
      root(root_),
      log_directory(root_ + "/wal"),
      segment_directory(root_ + "/segments"),
      index_files_directory(index_directory(segment_directory)),
      options(options_),
      fork_generation(current_fork_generation()),
      reserve(fs_, root_),
      queue([this](const CommitQueue::Group& group) { commit(group); }),
      growth_max(options_.log_bytes_max) {}

Store::Impl::~Impl() = default;

Status Store::Impl::check_usable() const {
  if (fork_generation != current_fork_generation()) {
    return ehub::closed("hub '" + root + "' was opened before this process was forked; open it again in the child");
  }
  return closed ? ehub::closed("hub '" + root + "' is closed") : Status();
}

Status Store::Impl::check_writable() const {
  EHUB_RETURN_IF_ERROR(check_usable());
  if (options.read_only) return read_only("hub '" + root + "' was opened with read_only=True");
  return poisoned ? read_only(poison) : Status();
}

Status Store::Impl::close() {
  if (closed.exchange(true)) return {};
  indexer.stop();
  if (options.read_only) {
    const std::unique_lock lock(refresh_mutex);
    release();
    return {};
  }
  stop_background();
  Status status;
  if (is_to_be_settled()) status = checkpoint({.closing = true});
  // Batches that were acknowledged without a sync cannot be made durable any more.
  if (poisoned && unsynced) status = read_only(poison);
  // Calls that go on elsewhere, as compact() of somebody who was interrupted, find it closed at their next checkpoint.
  const std::lock_guard maintenance(maintenance_mutex);
  const Status released = queue.run_alone([&] {
    closed_for_writes = true;
    if (log != nullptr && status.ok() && !poisoned) status = log->finish();
    if (!spare_log.empty()) (void)fs.remove(spare_log);
    release();
    return Status();
  });
  return status.ok() ? released : status;
}

bool Store::Impl::is_to_be_settled() {
  const std::lock_guard maintenance(maintenance_mutex);
  bool is_due = true;
  (void)queue.run_alone([&] {
    is_due = !poisoned && (log != nullptr || !manifest.clean);
    return Status();
  });
  return is_due;
}

void Store::Impl::release() {
  log.reset();
  replay.reset();
  manifest_lock.reset();
  opened_log_directory.reset();
  opened_segment_directory.reset();
  reserve.release();
  lock_file.reset();
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Store::~Store() {
  // In a forked child the threads are gone and locks may be held for ever: leave everything as it is.
  if (impl_->fork_generation != current_fork_generation()) {
    [[maybe_unused]] const Impl* leaked = impl_.release();
    return;
  }
  (void)guarded([this] { return close(); });
}

Result<std::unique_ptr<Store>> Store::open(FileSystem& fs, const std::string& root, const StoreOptions& options) {
  ready_to_throw();  // most of what this thread will ask is outside of guarded()
  auto impl = std::make_unique<Impl>(fs, root, options);
  if (Status status = options.read_only ? impl->open_reader() : impl->open_writer(); !status.ok()) {
    impl->indexer.stop();
    impl->stop_background();
    return status;
  }
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

Status Store::write_all(const std::vector<WriteBatch>& batches) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  std::set<const Table*> tables;
  uint64_t bytes = 0;
  for (const WriteBatch& batch : batches) {
    EHUB_RETURN_IF_ERROR(check_batch(batch));
    const Table& table = *batch.table;
    if (!tables.insert(&table).second) {
      return invalid_argument("version '" + table.version + "' of space '" + table.space +
                              "' is named twice in one batch; put its rows together");
    }
    bytes += batch_bytes(batch);
  }
  if (batches.empty()) return {};
  EHUB_RETURN_IF_ERROR(impl_->wait_for_room());
  std::vector<PendingBatch> parts(batches.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].batch = &batches[i];
    parts[i].is_part = parts.size() > 1;
    parts[i].next = i + 1 < parts.size() ? &parts[i + 1] : nullptr;
    parts[i].keys = hashed(batches[i].keys, impl_->hash_seed);
  }
  const bool is_bound = std::any_of(batches.begin(), batches.end(), [](const WriteBatch& one) { return one.is_bound; });
  EHUB_RETURN_IF_ERROR(is_bound ? commit_bound(parts.front()) : impl_->queue.submit(parts.data(), bytes));
  impl_->after_commit();
  return {};
}

// The rows come first: if their vectors are in files, whether those are whole tells whether the record counts.
Result<WriteResult> Store::replace(const WriteBatch& batch, const std::vector<std::string_view>& gone) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  WriteBatch deletes;
  deletes.kind = WriteBatch::Kind::kDelete;
  deletes.table = batch.table;
  deletes.keys = gone;
  EHUB_RETURN_IF_ERROR(check_batch(batch));
  EHUB_RETURN_IF_ERROR(check_batch(deletes));
  if (batch.keys.empty() || gone.empty()) return write(gone.empty() ? batch : deletes);
  const std::unordered_set<std::string_view> doomed(gone.begin(), gone.end());
  if (std::any_of(batch.keys.begin(), batch.keys.end(), [&](std::string_view key) { return doomed.contains(key); })) {
    return invalid_argument("one batch is to set and to delete a key");
  }
  EHUB_RETURN_IF_ERROR(impl_->wait_for_room());
  PendingBatch parts[2];
  parts[0].batch = &batch;
  parts[0].keys = hashed(batch.keys, impl_->hash_seed);
  parts[0].next = &parts[1];
  parts[1].batch = &deletes;
  parts[1].keys = hashed(gone, impl_->hash_seed);
  EHUB_RETURN_IF_ERROR(impl_->queue.submit(parts, batch_bytes(batch) + batch_bytes(deletes)));
  impl_->after_commit();
  parts[0].result.rows_deleted = parts[1].result.rows_deleted;
  return parts[0].result;
}

Result<WriteResult> Store::write(const WriteBatch& batch) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  EHUB_RETURN_IF_ERROR(check_batch(batch));
  if (batch.keys.empty() && batch.kind != WriteBatch::Kind::kDeleteAll) {
    if (!batch.notes.empty()) EHUB_RETURN_IF_ERROR(set_notes(batch.notes));
    return WriteResult{visible_seq(), 0, 0};
  }
  EHUB_RETURN_IF_ERROR(impl_->wait_for_room());
  PendingBatch pending;
  pending.batch = &batch;
  pending.keys = hashed(batch.keys, impl_->hash_seed);
  EHUB_RETURN_IF_ERROR(impl_->queue.submit(&pending, batch_bytes(batch)));
  impl_->after_commit();
  return pending.result;
}

Result<bool> Store::write_linked(const WriteBatch& batch, const hnsw::GivenLinks& links) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  const size_t rows = batch.keys.size();
  if (rows > kSegmentRowsMax) return invalid_argument(std::to_string(rows) + " rows are more than a segment has");
  if (!links.is_sound(rows)) return invalid_argument("a link leads to a row that is not in the batch");
  const std::shared_ptr<Table> shared = impl_->shared_table(*batch.table);
  if (shared == nullptr) return not_found("space '" + batch.table->space + "' was deleted");
  const Indexer::Hold hold(impl_->indexer, shared->id);
  const Result<WriteResult> written = write(batch);
  if (!written.ok()) return written.status();
  if (rows < impl_->options.graph_rows_min) return false;
  EHUB_RETURN_IF_ERROR(impl_->checkpoint({}));
  LinkedRows linked = {batch.keys, links};
  EHUB_RETURN_IF_ERROR(impl_->indexer.adopt(shared, linked));
  return linked.were_taken;
}

// State and seq are a pair only if the state is the same before and after the seq is read.
Result<std::shared_ptr<const View>> Store::Impl::view_now(const Table& table) const {
  while (true) {
    if (table.dropped()) return not_found("space '" + table.space + "' was deleted");
    std::shared_ptr<const TableState> state = table.state();
    const Seq seq = visible_seq.load(std::memory_order_acquire);
    if (!table.state_is(state.get())) continue;
    return std::make_shared<const View>(std::move(state), seq, table.schema, hash_seed);
  }
}

Result<std::shared_ptr<const View>> Store::view(const Table& table) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  std::shared_lock<std::shared_mutex> lock;
  if (impl_->options.read_only) lock = std::shared_lock(impl_->refresh_mutex);
  return impl_->view_now(table);
}

Result<std::shared_ptr<SubIndex>> Store::subindex(const Table& table, const Table& keys) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  EHUB_ASSERT(table.schema.key_type == keys.schema.key_type);
  const std::shared_ptr<const Table> shared = impl_->shared_table(keys);
  if (table.dropped() || shared == nullptr) return not_found("the sub-index was deleted");
  return table.subindex(shared, impl_->hash_seed);
}

Result<std::shared_ptr<const View>> Store::view_of(const Table& table, SubIndex& subindex) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  std::shared_lock<std::shared_mutex> lock;
  if (impl_->options.read_only) lock = std::shared_lock(impl_->refresh_mutex);
  const auto view = impl_->view_now(table);
  if (!view.ok()) return view.status();
  auto rows = subindex.over(*view.value(), [this] { return visible_seq(); }, impl_->options.read_only);
  if (table.dropped()) subindex.forget();  // it may have been dropped meanwhile, which makes sub-indices forget once
  return rows;
}

Result<uint64_t> Store::row_count(const Table& table) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  if (table.dropped()) return not_found("space '" + table.space + "' was deleted");
  return table.row_count();
}

TableStats Store::stats(const Table& table) const {
  TableStats stats;
  stats.rows = table.row_count();
  const std::shared_ptr<const TableState> state = table.state();
  for (const SegmentRef& ref : state->segments) {
    const auto* sealed = dynamic_cast<const SealedSegment*>(ref.segment.get());
    const uint64_t rows = ref.segment->row_count();
    const uint64_t bytes = rows * table.schema.row_bytes() + (sealed == nullptr ? 0 : sealed->info().seg_bytes);
    stats.segments.push_back({sealed == nullptr ? 0 : sealed->info().id, rows, ref.deaths->dead_count(), bytes});
  }
  return stats;
}

Result<std::vector<std::pair<std::string, uint64_t>>> Store::partitions(const Table& table) const {
  const Result<std::shared_ptr<const View>> view = this->view(table);
  if (!view.ok()) return view.status();
  std::vector<std::string> names = table.partition_names();
  const Result<std::vector<uint64_t>> counts = view.value()->partition_counts(static_cast<uint32_t>(names.size()));
  if (!counts.ok()) return counts.status();
  std::vector<std::pair<std::string, uint64_t>> found;
  for (size_t i = 0; i < names.size(); ++i) {
    if (counts.value()[i + 1] != 0) found.emplace_back(std::move(names[i]), counts.value()[i + 1]);
  }
  return found;
}

Status Store::sync() {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  return impl_->queue.run_alone([&] { return impl_->sync_files(); });
}

Status Store::checkpoint(StopFlag stop) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  return impl_->checkpoint({.stop = stop});
}

Status Store::compact(const Table& table, StopFlag stop) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  if (table.dropped()) return not_found("space '" + table.space + "' was deleted");
  // The first round also seals what is fresh; each further one has fewer dead rows or fewer segments before it.
  EHUB_RETURN_IF_ERROR(impl_->checkpoint({.stop = stop}));
  CompactionOutcome outcome = {.found_some = true};
  while (outcome.found_some) {
    const CheckpointRequest request = {.compacted = &table, .stop = stop, .one_by_one = outcome.was_short};
    EHUB_RETURN_IF_ERROR(impl_->checkpoint(request, &outcome));
    outcome.was_short |= request.one_by_one;
  }
  return {};
}

IndexStats Store::index_stats(const Table& table) const {
  IndexStats stats;
  stats.rows = table.row_count();
  const std::shared_ptr<const TableState> state = table.state();
  for (const SegmentRef& ref : state->segments) {
    const auto* sealed = dynamic_cast<const SealedSegment*>(ref.segment.get());
    const auto graph = sealed == nullptr ? nullptr : sealed->graph().load();
    if (graph == nullptr) {
      const Row rows = ref.is_history() ? 0 : ref.segment->row_count();
      stats.rows_scanned += rows;
      if (rows >= impl_->indexer.graph_rows_min(table)) stats.rows_waiting += rows;
      continue;
    }
    for (const auto& subset : sealed->subset_graphs()) {
      const auto over = subset->load();
      if (over == nullptr) continue;
      ++stats.subsets;
      stats.bytes += over->file_bytes();
    }
    ++stats.segments;
    stats.rows_indexed += ref.segment->row_count();
    stats.bytes += graph->file_bytes();
    stats.unreachable += graph->unreachable();
    stats.ef = std::max(stats.ef, graph->view().calibration.ef);
    stats.code_bits = std::max(stats.code_bits, static_cast<uint32_t>(graph->view().codes.width));
  }
  stats.rebuilds = impl_->indexer.rebuilds();
  stats.rows_building = impl_->indexer.rows_done();
  stats.rows_per_second = table.build_rate();
  stats.rows_built = impl_->indexer.work().rows_built(table);
  stats.rows_due = impl_->indexer.rows_due(table);
  return stats;
}

WorkStats Store::work_stats() const {
  return {impl_->rows_rewritten, impl_->bytes_checked, impl_->indexer.build_rate()};
}

WriteStats Store::write_stats() const {
  WriteStats stats;
  stats.log_writes = impl_->log_writes.load(std::memory_order_relaxed);
  stats.log_bytes = impl_->log_bytes.load(std::memory_order_relaxed);
  stats.log_bytes_due = impl_->log_growth;
  stats.rows_unsealed = impl_->fresh_rows;
  for (const auto& table : impl_->all_tables()) stats.snapshots += table->pins().lease_count();
  stats.syncs = impl_->syncs.read();
  stats.checkpoints = impl_->checkpoints.read();
  stats.is_poisoned = impl_->poisoned;
  return stats;
}

// What a search has to scan for want of a graph is sealed soon, so that it gets one; and a graph that a search found
// damaged is built again.
void Store::note_search(const Table& table) const {
  constexpr int64_t kNoteEveryMs = 100;
  constexpr uint64_t kScannedBytesMax = 16 << 20;
  const int64_t now = steady_milliseconds();
  if (now - table.last_search_ms() < kNoteEveryMs) return;
  table.set_last_search(now);
  if (impl_->options.read_only) {
    impl_->indexer.wake();
    return;
  }
  uint64_t fresh_bytes = 0;
  const std::shared_ptr<const TableState> state = table.state();
  for (const SegmentRef& ref : state->segments) {
    const bool sealed = dynamic_cast<const SealedSegment*>(ref.segment.get()) != nullptr;
    if (!sealed) fresh_bytes += ref.segment->row_count() * table.schema.row_bytes();
  }
  if (fresh_bytes > kScannedBytesMax) impl_->want_checkpoint();
  if (impl_->options.background) impl_->indexer.wake();
}

Status Store::wait_indexed(const Table& table, StopFlag stop) {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  const std::shared_ptr<Table> shared = impl_->shared_table(table);
  if (shared == nullptr) return not_found("space '" + table.space + "' was deleted");
  if (impl_->options.read_only) return {};
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  EHUB_RETURN_IF_ERROR(impl_->checkpoint({.stop = stop}));
  return impl_->indexer.settle(shared, false, stop);
}

Status Store::optimize(const Table& table, StopFlag stop) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  const std::shared_ptr<Table> shared = impl_->shared_table(table);
  if (shared == nullptr) return not_found("space '" + table.space + "' was deleted");
  EHUB_RETURN_IF_ERROR(impl_->checkpoint({.stop = stop}));
  return impl_->indexer.settle(shared, true, stop);
}

Status Store::refresh() {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  return impl_->options.read_only ? impl_->refresh() : Status();
}

Result<VerifyReport> Store::verify(StopFlag stop) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  return impl_->verify(stop);
}

Status Store::close() {
  if (impl_->fork_generation != current_fork_generation()) return impl_->check_usable();
  return impl_->close();
}

bool Store::closed() const { return !impl_->check_usable().ok(); }
bool Store::is_read_only() const { return impl_->options.read_only; }
Seq Store::visible_seq() const { return impl_->visible_seq.load(std::memory_order_acquire); }
const std::string& Store::root() const { return impl_->root; }

}  // namespace ehub
