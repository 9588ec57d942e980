#include "store/store.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>

#include "base/limits.h"
#include "kernels/dispatch.h"
#include "store/replay.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

std::atomic<uint64_t> fork_count = 0;

const bool fork_counted = [] {
  return pthread_atfork(nullptr, nullptr, [] { fork_count.fetch_add(1, std::memory_order_relaxed); }) == 0;
}();

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
  const bool bounded =
      std::all_of(batch.row_partitions, end, [&](uint32_t i) { return i < batch.partition_names.size(); });
  return bounded ? Status() : invalid_argument("a row's partition is not among the partition names");
}

Status check_batch(const WriteBatch& batch) {
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
const Schema& table_schema(const Table& table) { return table.schema; }

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
  if (options.read_only) {
    const std::unique_lock lock(refresh_mutex);
    release();
    return {};
  }
  indexer.stop();
  stop_background();
  const bool changed = log != nullptr || !manifest.clean;
  Status status;
  if (changed && !poisoned) status = checkpoint({.closing = true});
  // Batches that were acknowledged without a sync cannot be made durable any more.
  if (poisoned && unsynced) status = read_only(poison);
  const Status released = queue.run_alone([&] {
    closed_for_writes = true;
    if (log != nullptr && status.ok() && !poisoned) status = log->finish();
    if (!spare_log.empty()) (void)fs.remove(spare_log);
    release();
    return Status();
  });
  return status.ok() ? released : status;
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
  auto impl = std::make_unique<Impl>(fs, root, options);
  if (Status status = options.read_only ? impl->open_reader() : impl->open_writer(); !status.ok()) {
    impl->indexer.stop();
    impl->stop_background();
    return status;
  }
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

Result<std::shared_ptr<Table>> Store::create_space(const std::string& name, const Schema& schema) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  std::shared_ptr<Table> table;
  EHUB_RETURN_IF_ERROR(impl_->queue.run_alone([&] {
    return impl_->whole_or_poisoned([&] {
      Result<std::shared_ptr<Table>> created = impl_->create(name, schema);
      if (created.ok()) table = created.value();
      return created.status();
    });
  }));
  impl_->after_commit();
  return table;
}

Result<std::shared_ptr<Table>> Store::space(const std::string& name) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  return impl_->find_space(name);
}

std::vector<std::string> Store::spaces() const {
  const std::lock_guard lock(impl_->catalog_mutex);
  std::vector<std::string> names;
  for (const auto& [name, table] : impl_->spaces) names.push_back(name);
  return names;
}

Status Store::drop_space(const std::string& name) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  return impl_->queue.run_alone([&] { return impl_->whole_or_poisoned([&] { return impl_->drop(name); }); });
}

Result<WriteResult> Store::write(const WriteBatch& batch) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  EHUB_RETURN_IF_ERROR(check_batch(batch));
  if (batch.table->dropped()) return not_found("space '" + batch.table->space + "' was deleted");
  if (batch.keys.empty() && batch.kind != WriteBatch::Kind::kDeleteAll) return WriteResult{visible_seq(), 0, 0};
  EHUB_RETURN_IF_ERROR(impl_->wait_for_room());
  PendingBatch pending;
  pending.batch = &batch;
  pending.keys.reserve(batch.keys.size());
  for (const std::string_view key : batch.keys) pending.keys.push_back(make_key(impl_->hash_seed, key));
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
Result<std::shared_ptr<const View>> Store::view(const Table& table) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  std::shared_lock<std::shared_mutex> lock;
  if (impl_->options.read_only) lock = std::shared_lock(impl_->refresh_mutex);
  while (true) {
    if (table.dropped()) return not_found("space '" + table.space + "' was deleted");
    std::shared_ptr<const TableState> state = table.state();
    const Seq seq = visible_seq();
    if (!table.state_is(state.get())) continue;
    return std::make_shared<const View>(std::move(state), seq, table.schema, impl_->hash_seed);
  }
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
  std::vector<std::pair<std::string, uint64_t>> counts;
  for (std::string& name : table.partition_names()) counts.emplace_back(std::move(name), 0);
  ScanCursor cursor(view.value());
  while (!counts.empty()) {
    const Result<ScanCursor::Batch> batch = cursor.next(kSegmentRowsMax);
    if (!batch.ok()) return batch.status();
    if (batch.value().rows.empty()) break;
    for (const Ordinal row : batch.value().rows) {
      const Result<uint32_t> partition = view.value()->partition(row);
      if (!partition.ok()) return partition.status();
      if (partition.value() != 0 && partition.value() <= counts.size()) ++counts[partition.value() - 1].second;
    }
  }
  std::erase_if(counts, [](const auto& count) { return count.second == 0; });
  return counts;
}

Status Store::sync() {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  return impl_->queue.run_alone([&] { return impl_->sync_files(); });
}

Status Store::checkpoint() {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  return impl_->checkpoint({});
}

Status Store::compact(const Table& table) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  if (table.dropped()) return not_found("space '" + table.space + "' was deleted");
  // The first round also seals what is fresh; each further one has fewer dead rows or fewer segments before it.
  EHUB_RETURN_IF_ERROR(impl_->checkpoint({}));
  for (bool more = true; more;) EHUB_RETURN_IF_ERROR(impl_->checkpoint({.compacted = &table}, &more));
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
      stats.rows_scanned += ref.segment->row_count();
      continue;
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
  stats.rows_per_second = impl_->indexer.build_rate();
  return stats;
}

// What a search has to scan for want of a graph is sealed soon, so that it gets one; and a graph that a search found
// damaged is built again.
void Store::note_search(const Table& table) const {
  constexpr int64_t kNoteEveryMs = 100;
  constexpr uint64_t kScannedBytesMax = 16 << 20;
  const int64_t now = steady_milliseconds();
  if (now - table.last_search_ms() < kNoteEveryMs || impl_->options.read_only) return;
  table.set_last_search(now);
  uint64_t fresh_bytes = 0;
  const std::shared_ptr<const TableState> state = table.state();
  for (const SegmentRef& ref : state->segments) {
    const bool sealed = dynamic_cast<const SealedSegment*>(ref.segment.get()) != nullptr;
    if (!sealed) fresh_bytes += ref.segment->row_count() * table.schema.row_bytes();
  }
  if (fresh_bytes > kScannedBytesMax) impl_->want_checkpoint();
  if (impl_->options.background) impl_->indexer.wake();
}

Status Store::wait_indexed(const Table& table) {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  const std::shared_ptr<Table> shared = impl_->shared_table(table);
  if (shared == nullptr) return not_found("space '" + table.space + "' was deleted");
  if (impl_->options.read_only) return {};
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  EHUB_RETURN_IF_ERROR(impl_->checkpoint({}));
  return impl_->indexer.settle(shared, false);
}

Status Store::optimize(const Table& table) {
  EHUB_RETURN_IF_ERROR(impl_->check_writable());
  const std::shared_ptr<Table> shared = impl_->shared_table(table);
  if (shared == nullptr) return not_found("space '" + table.space + "' was deleted");
  EHUB_RETURN_IF_ERROR(impl_->checkpoint({}));
  return impl_->indexer.settle(shared, true);
}

Status Store::refresh() {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  return impl_->options.read_only ? impl_->refresh() : Status();
}

Result<VerifyReport> Store::verify() const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  return impl_->verify();
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
