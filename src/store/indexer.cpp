#include "store/indexer.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "base/check.h"
#include "base/thread.h"
#include "hnsw/graph_file.h"
#include "hnsw/team.h"
#include "store/compaction.h"
#include "store/rewrite.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

// A table is worth indexing at once for so long after a search.
constexpr int64_t kSearchedMs = 10'000;

// Writing has paused when nothing was committed for so long.
constexpr int64_t kPauseMs = 500;

// How often work that is not due yet is looked at again.
constexpr auto kPatience = std::chrono::milliseconds(200);

// The thread gives way to those that write and search.
constexpr int kNiceness = 10;

std::vector<SealedRef> sealed_of(const Table& table) {
  std::vector<SealedRef> sealed;
  const std::shared_ptr<const TableState> state = table.state();
  for (const SegmentRef& ref : state->segments) {
    auto segment = std::dynamic_pointer_cast<const SealedSegment>(ref.segment);
    if (segment != nullptr) sealed.push_back({std::move(segment), ref.deaths});
  }
  return sealed;
}

bool is_in_use(const Table& table, const SealedSegment& segment) {
  const std::vector<SealedRef> sealed = sealed_of(table);
  const auto is_it = [&](const SealedRef& ref) { return ref.segment.get() == &segment; };
  return !table.dropped() && std::any_of(sealed.begin(), sealed.end(), is_it);
}

// Every vector of the segment, its checksums checked.
Result<const float*> all_vectors(const SealedSegment& segment) {
  Row n = 0;
  auto vectors = segment.vectors(0, segment.row_count(), &n);
  EHUB_ASSERT(!vectors.ok() || n == segment.row_count());
  return vectors;
}

// Whether the rows of the segment are those that the links are among.
bool are_rows_of(const SealedSegment& segment, const LinkedRows& linked) {
  if (segment.row_count() != linked.keys.size()) return false;
  for (Row row = 0; row < segment.row_count(); ++row) {
    const Result<std::string_view> key = segment.key(row);
    if (!key.ok() || key.value() != linked.keys[row]) return false;
  }
  return true;
}

unsigned usable_cores() { return std::max(1U, std::thread::hardware_concurrency()); }

}  // namespace

void Indexer::wake() {
  if (store_.options.read_only) return;
  if (!store_.options.background) {
    Job job;
    while (!performing_ && !control_.cancelled && find_job(&job)) (void)perform(job, 1);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (stopping_) return;
  woken_ = true;
  wakes_.notify_one();
  if (thread_.joinable()) return;
  try {
    thread_ = std::thread([this] {
      ready_thread();
      run();
    });
  } catch (const std::exception&) {
    return;  // no thread or no memory to be had now: scanning goes on, and the next wake() tries again
  }
}

void Indexer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  control_.cancelled = true;
  wakes_.notify_all();
  if (thread_.joinable()) thread_.join();
  const std::lock_guard work(work_mutex_);  // a settle() in another thread
}

void Indexer::run() {
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNiceness);
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    woken_ = false;
    lock.unlock();
    bool found = false;
    bool due = false;
    const Status status = guarded([&]() -> Status {
      Job job;
      found = find_job(&job);
      due = found && is_due(*job.table);
      if (due) (void)perform(job, 1);
      return {};
    });
    lock.lock();
    if (stopping_) continue;
    if (status.ok() && (due || woken_)) continue;
    // There may be memory later.
    if (found || !status.ok()) {
      wakes_.wait_for(lock, kPatience);
    } else {
      wakes_.wait(lock, [this] { return woken_ || stopping_; });
    }
  }
}

bool Indexer::is_due(const Table& table) const {
  const int64_t now = steady_milliseconds();
  const int64_t searched = table.last_search_ms();
  return (searched != 0 && now - searched < kSearchedMs) || now - store_.last_commit_ms.load() > kPauseMs;
}

Indexer::Hold::Hold(Indexer& indexer, TableId table) : indexer_(indexer), table_(table) {
  const std::lock_guard lock(indexer_.mutex_);
  indexer_.held_.insert(table_);
}

Indexer::Hold::~Hold() {
  {
    const std::lock_guard lock(indexer_.mutex_);
    indexer_.held_.erase(indexer_.held_.find(table_));
  }
  indexer_.wake();
}

std::vector<std::shared_ptr<Table>> Indexer::tables_to_index() const {
  std::vector<std::shared_ptr<Table>> tables = store_.all_tables();
  const std::lock_guard lock(mutex_);
  std::erase_if(tables, [this](const std::shared_ptr<Table>& table) { return held_.contains(table->id); });
  return tables;
}

bool Indexer::given_up(SegmentId id) const {
  const std::lock_guard lock(mutex_);
  return std::find(given_up_.begin(), given_up_.end(), id) != given_up_.end();
}

// Graphs come before merges: what is searched now before what will be searched better.
bool Indexer::find_job(Job* job) {
  const std::vector<std::shared_ptr<Table>> tables = tables_to_index();
  for (const auto& table : tables) {
    for (const SealedRef& ref : sealed_of(*table)) {
      if (ref.segment->row_count() < store_.options.graph_rows_min || given_up(ref.segment->info().id)) continue;
      if (ref.segment->graph().state() == SegmentGraph::State::kReady) continue;
      *job = {table, {}, ref.segment, nullptr};
      return true;
    }
  }
  for (const auto& table : tables) {
    const CompactionLimits limits = {store_.segment_rows_max(table->schema), store_.options.graph_rows_min};
    std::vector<SealedRef> merged = due_for_merge(sealed_of(*table), limits);
    const auto hopeless = [this](const SealedRef& ref) { return given_up(ref.segment->info().id); };
    if (merged.empty() || std::any_of(merged.begin(), merged.end(), hopeless)) continue;
    *job = {table, std::move(merged), nullptr, nullptr};
    return true;
  }
  return false;
}

Status Indexer::perform(const Job& job, unsigned threads) {
  const std::lock_guard work(work_mutex_);
  if (control_.cancelled) return closed("the hub is closed");
  performing_ = true;
  const Status status = guarded([&] { return perform_alone(job, threads); });
  performing_ = false;
  if (status.ok() || control_.cancelled) return status;
  const std::lock_guard lock(mutex_);
  if (job.segment != nullptr) given_up_.push_back(job.segment->info().id);
  for (const SealedRef& ref : job.merged) given_up_.push_back(ref.segment->info().id);
  return status;
}

Status Indexer::perform_alone(const Job& job, unsigned threads) {
  if (job.segment != nullptr) {
    const SegmentGraph::State before = job.segment->graph().state();
    if (before == SegmentGraph::State::kReady) return {};
    if (before == SegmentGraph::State::kDamaged) rebuilds_.fetch_add(1);
    const Status status = build(job, *job.segment, threads);
    // What a segment leaves that has been replaced meanwhile is removed, its unfinished graph included.
    return is_in_use(*job.table, *job.segment) ? status : Status();
  }
  return merge(job, threads);
}

Status Indexer::build(const Job& job, const SealedSegment& segment, unsigned threads) {
  const Schema& schema = job.table->schema;
  const Result<const float*> vectors = all_vectors(segment);
  if (!vectors.ok()) return vectors.status();
  const auto began = std::chrono::steady_clock::now();
  control_.rows_done = 0;
  hnsw::Team team(threads);
  const hnsw::GraphInput input = {schema.metric, vectors.value(), segment.row_count(), schema.dims};
  const bool adopting = job.linked != nullptr && are_rows_of(segment, *job.linked);
  auto built = adopting ? hnsw::adopt_graph(input, job.linked->links, schema.index, team, control_)
                        : hnsw::build_graph(input, schema.index, team, control_);
  control_.rows_done = 0;
  if (!built.ok()) return built.status();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
  if (!adopting) build_rate_ = segment.row_count() / seconds.count();
  SegmentGraph& graph = segment.graph();
  // Made when it is first needed: that it cannot be made is no reason to refuse to open.
  EHUB_RETURN_IF_ERROR(store_.fs.make_directory(graph.directory()));
  EHUB_RETURN_IF_ERROR(hnsw::write_graph(store_.fs, graph.directory(), graph.stamp(), *built.value()));
  EHUB_RETURN_IF_ERROR(store_.fs.sync_directory(graph.directory()));
  graph.look_again();
  const auto opened = graph.load();
  if (opened == nullptr) {
    return corruption(hnsw::graph_path(graph.directory(), segment.info().id), 0, "cannot be read back");
  }
  EHUB_RETURN_IF_ERROR(opened->verify());
  if (adopting) job.linked->were_taken = true;
  return {};
}

Status Indexer::merge(const Job& job, unsigned threads) {
  const SegmentId id = store_.next_segment.fetch_add(1);
  {
    const std::lock_guard lock(store_.unfinished_mutex);
    store_.unfinished.insert(id);
  }
  const RewriteTarget target = {store_.fs, store_.segment_directory, job.table->schema, store_.hash_seed, id};
  std::vector<SegmentRef> sources;
  for (const SealedRef& ref : job.merged) sources.push_back({ref.segment, ref.deaths});
  PreparedMerge prepared = {job.table, job.merged, {}, false};
  Status status;
  Result<Rewritten> rewritten = rewrite_segments(target, sources, store_.visible_seq.load(), nullptr);
  if (rewritten.ok()) {
    prepared.rewritten = std::move(rewritten.value());
    const auto& segment = prepared.rewritten.segment;
    if (segment != nullptr && segment->row_count() >= store_.options.graph_rows_min) {
      status = build(job, *segment, threads);
    }
    if (status.ok()) status = store_.fs.sync_directory(store_.segment_directory);
    if (status.ok()) status = store_.checkpoint({.prepared = &prepared});
    if (job.linked != nullptr) job.linked->were_taken &= status.ok() && prepared.was_taken;
  } else {
    status = rewritten.status();
  }
  const std::lock_guard lock(store_.unfinished_mutex);
  store_.unfinished.erase(id);
  return status;
}

unsigned Indexer::threads_of_caller() const { return store_.options.background ? usable_cores() : 1; }

Status Indexer::settle(const std::shared_ptr<Table>& table, bool merging) {
  const unsigned threads = threads_of_caller();
  const Row rows_max = store_.segment_rows_max(table->schema);
  while (merging && !table->dropped()) {
    std::vector<SealedRef> merged = all_compactable(sealed_of(*table), rows_max);
    if (merged.empty()) break;
    EHUB_RETURN_IF_ERROR(perform({table, std::move(merged), nullptr, nullptr}, threads));
  }
  for (const SealedRef& ref : sealed_of(*table)) {
    if (ref.segment->row_count() < store_.options.graph_rows_min || table->dropped()) continue;
    EHUB_RETURN_IF_ERROR(perform({table, {}, ref.segment, nullptr}, threads));
  }
  return table->dropped() ? not_found("space '" + table->space + "' was deleted") : Status();
}

Status Indexer::adopt(const std::shared_ptr<Table>& table, LinkedRows& linked) {
  std::vector<SealedRef> sealed = sealed_of(*table);
  uint64_t rows = 0;
  for (const SealedRef& ref : sealed) rows += ref.segment->row_count();
  if (rows != linked.keys.size() || rows < store_.options.graph_rows_min) return {};
  Job job = {table, {}, nullptr, &linked};
  if (sealed.size() == 1) {
    job.segment = sealed.front().segment;
  } else {
    job.merged = std::move(sealed);
  }
  return perform(job, threads_of_caller());
}

}  // namespace ehub
