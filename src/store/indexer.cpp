#include "store/indexer.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <system_error>

#include "base/check.h"
#include "base/memory.h"
#include "base/thread.h"
#include "hnsw/graph_file.h"
#include "hnsw/team.h"
#include "store/compaction.h"
#include "store/rewrite.h"
#include "store/store_impl.h"
#include "store/subindex.h"

namespace ehub {
namespace {

// A table is worth indexing at once for so long after a search.
constexpr int64_t kSearchedMs = 10'000;

// Writing has paused when nothing was committed for so long.
constexpr int64_t kPauseMs = 500;

// How often work that is not due yet is looked at again.
constexpr auto kPatience = std::chrono::milliseconds(200);

// A graph is kept in memory if that takes at most this part of what is available.
constexpr uint64_t kMemoryShare = 4;

// Rows of a subset get a graph of their own if they are at most one in so many of their segment: else a walk over the
// whole graph that passes the others by is as good.
constexpr uint64_t kSubsetShare = 2;

// A graph over the rows of a sub-index is made anew when more than one in so many of its rows came or went.
constexpr uint64_t kStaleShare = 8;

// The thread gives way to those that write and search.
constexpr int kNiceness = 10;

constexpr const char* kSettling = "the settling of the index";

// Whether a job says that it was to end, and not that something is wrong.
bool was_ended(const Status& status) { return status.code() == Code::kClosed || status.code() == Code::kDeadline; }

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

// The graph was just written: whether it can be read.
Status verified(SegmentGraph& graph) {
  const auto opened = graph.load();
  const hnsw::GraphStamp& stamp = graph.stamp();
  if (opened == nullptr) {
    return corruption(hnsw::graph_path(graph.directory(), stamp.segment, stamp.subset), 0, "cannot be read back");
  }
  return opened->verify();
}

std::vector<uint32_t> rows_of(const std::vector<uint64_t>& bitmap) {
  std::vector<uint32_t> rows;
  for (size_t w = 0; w < bitmap.size(); ++w) {
    for (uint64_t word = bitmap[w]; word != 0; word &= word - 1) {
      rows.push_back(static_cast<uint32_t>(w * 64) + static_cast<uint32_t>(std::countr_zero(word)));
    }
  }
  return rows;
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

bool was_just_searched(const Table& table) {
  const int64_t searched = table.last_search_ms();
  return searched != 0 && steady_milliseconds() - searched < kSearchedMs;
}

unsigned usable_cores() { return std::max(1U, std::thread::hardware_concurrency()); }

}  // namespace

void Indexer::wake() {
  if (!store_.options.background) {
    if (store_.options.read_only) return;
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
    thread_ = std::thread([this, start = ThreadStart()]() mutable {
      start.enter();
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
  const std::lock_guard work(work_turn_);  // a settle() in another thread
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
  return was_just_searched(table) || steady_milliseconds() - store_.last_commit_ms.load() > kPauseMs;
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

Indexer::Tables Indexer::tables_to_index() const {
  Tables tables = store_.all_tables();
  const std::lock_guard lock(mutex_);
  std::erase_if(tables, [this](const std::shared_ptr<Table>& table) { return held_.contains(table->id); });
  return tables;
}

// The keys of sub-indices are rows of one number in a hidden version, which nobody searches.
Row Indexer::graph_rows_min(const Table& table) const {
  const bool is_keys = table.schema.dims == 1 && table.version.starts_with('\0');
  return is_keys ? kNoRow : store_.options.graph_rows_min;
}

bool Indexer::given_up(SegmentId id) const {
  const std::lock_guard lock(mutex_);
  return std::find(given_up_.begin(), given_up_.end(), id) != given_up_.end();
}

CompactionLimits Indexer::limits_for(const Table& table) const {
  const Times times = {kSeqMax, table.pins().all()};
  return {store_.segment_rows_max(table.schema), store_.options.graph_rows_min, nullptr, times};
}

// Graphs come before merges: what is searched now before what will be searched better.
bool Indexer::find_job(Job* job) {
  const Tables tables = tables_to_index();
  if (!store_.options.read_only && (find_build(tables, job) || find_subset(tables, job))) return true;
  if (store_.options.background && find_mapped(tables, job)) return true;
  return !store_.options.read_only && find_merge(tables, job);
}

bool Indexer::is_asked(const SealedSegment& history) const {
  return history.old_searches() >= store_.options.old_searches_min;
}

bool Indexer::wants_graph(const Table& table, const SealedRef& ref) const {
  return ref.segment->row_count() >= graph_rows_min(table) && (!ref.is_history() || is_asked(*ref.segment));
}

std::vector<SealedRef> Indexer::mergeable(const Table& table) const {
  std::vector<SealedRef> due = due_for_merge(sealed_of(table), limits_for(table));
  const auto is_hopeless = [this](const SealedRef& ref) { return given_up(ref.segment->info().id); };
  return std::any_of(due.begin(), due.end(), is_hopeless) ? std::vector<SealedRef>() : due;
}

bool Indexer::is_left_to_merge(const Table& table, const SealedRef& ref) const {
  return has_many_dead(ref) && !mergeable(table).empty();
}

bool Indexer::find_build(const Tables& tables, Job* job) const {
  for (const auto& table : tables) {
    for (const SealedRef& ref : sealed_of(*table)) {
      if (!wants_graph(*table, ref) || given_up(ref.segment->info().id)) continue;
      if (is_left_to_merge(*table, ref)) continue;
      if (ref.segment->graph().state() == SegmentGraph::State::kReady) continue;
      *job = {.table = table, .segment = ref.segment};
      return true;
    }
  }
  return false;
}

std::function<Seq()> Indexer::visible_seq() const {
  return [this] { return store_.visible_seq.load(); };
}

// Whether a graph over these rows is worth having, and not there as it should be.
bool Indexer::wants_graph(const SealedSegment& segment, const MemberRows& rows, TableId keys) const {
  const uint64_t count = rows.count();
  if (count < store_.options.graph_rows_min || count * kSubsetShare > segment.row_count()) return false;
  const auto graph = segment.graph_over({kSubIndexGraph, keys})->load();
  if (graph == nullptr) return true;
  const auto coverage = rows.coverage(graph);
  return (coverage->extra_count + coverage->gone_count) * kStaleShare > count;
}

std::vector<Indexer::Job> Indexer::subset_jobs(const std::shared_ptr<Table>& table,
                                               const std::shared_ptr<const SealedSegment>& segment) const {
  std::vector<Job> jobs;
  const uint64_t rows_min = store_.options.graph_rows_min;
  const uint64_t rows_max = segment->row_count() / kSubsetShare;
  if (rows_max < rows_min) return jobs;
  for (const auto& subindex : table->subindices()) {
    if (subindex->keys().row_count() < rows_min) continue;
    const auto rows = subindex->rows_in(segment, visible_seq());
    if (table->dropped()) subindex->forget();  // as of Store::view_of()
    const TableId keys = subindex->keys().id;
    if (!rows.ok() || !wants_graph(*segment, *rows.value(), keys)) continue;
    jobs.push_back({.table = table, .segment = segment, .subset = {kSubIndexGraph, keys}, .subindex = subindex});
  }
  if (!table->has_partitions()) return jobs;
  const auto numbers = segment->partition_index().with_rows(*segment, rows_min, rows_max);
  if (!numbers.ok()) return jobs;  // searches scan, and say so
  for (const uint32_t number : numbers.value()) {
    const hnsw::GraphSubset subset = {kPartitionGraph, number};
    if (segment->graph_over(subset)->state() == SegmentGraph::State::kReady) continue;
    jobs.push_back({.table = table, .segment = segment, .subset = subset});
  }
  return jobs;
}

bool Indexer::find_subset(const Tables& tables, Job* job) const {
  for (const auto& table : tables) {
    for (const SealedRef& ref : sealed_of(*table)) {
      if (ref.segment->row_count() < graph_rows_min(*table) || given_up(ref.segment->info().id)) continue;
      if (ref.is_history() || is_left_to_merge(*table, ref)) continue;
      std::vector<Job> jobs = subset_jobs(table, ref.segment);
      if (jobs.empty()) continue;
      *job = std::move(jobs.front());
      return true;
    }
  }
  return false;
}

bool Indexer::find_mapped(const Tables& tables, Job* job) const {
  for (const auto& table : tables) {
    if (!was_just_searched(*table)) continue;
    for (const SealedRef& ref : sealed_of(*table)) {
      if (ref.is_history() && !is_asked(*ref.segment)) continue;
      std::vector<std::shared_ptr<SegmentGraph>> graphs = ref.segment->subset_graphs();
      graphs.push_back(ref.segment->whole_graph());
      for (auto& graph : graphs) {
        if (!graph->is_only_mapped()) continue;
        *job = {.table = table, .segment = ref.segment, .into_memory = std::move(graph)};
        return true;
      }
    }
  }
  return false;
}

bool Indexer::find_merge(const Tables& tables, Job* job) const {
  for (const auto& table : tables) {
    std::vector<SealedRef> merged = mergeable(*table);
    if (merged.empty()) continue;
    *job = {.table = table, .merged = std::move(merged)};
    return true;
  }
  return false;
}

// A job for who watches: the rows that it is to build a graph of, as far as they are known before.
IndexWork::Job Indexer::shown(const Job& job) const {
  IndexWork::Job seen = {.table = job.table.get()};
  uint64_t rows = 0;
  for (const SealedRef& ref : job.merged) {
    seen.segments.insert(ref.segment->info().id);
    rows += ref.segment->row_count() - ref.deaths->dead_count();
  }
  if (job.segment != nullptr && job.subset.kind == 0 && job.into_memory == nullptr) {
    seen.segments.insert(job.segment->info().id);
    rows = job.segment->row_count();
  }
  if (rows >= graph_rows_min(*job.table)) seen.rows = rows;
  return seen;
}

uint64_t Indexer::rows_due(const Table& table) const {
  const IndexWork::Job job = work_.job_for(table);
  uint64_t due = job.rows;
  for (const SealedRef& ref : sealed_of(table)) {
    const SegmentId id = ref.segment->info().id;
    if (!wants_graph(table, ref) || given_up(id) || job.segments.contains(id)) continue;
    if (ref.segment->graph().state() != SegmentGraph::State::kReady) due += ref.segment->row_count();
  }
  return due;
}

Status Indexer::perform(const Job& job, unsigned threads, StopFlag stop) {
  if (!work_turn_.lock_unless(stop)) return stopped(kSettling);
  const std::lock_guard work(work_turn_, std::adopt_lock);
  if (control_.cancelled) return closed("the hub is closed");
  performing_ = true;
  control_.stop = stop;
  const Status status = guarded([&] { return perform_alone(job, threads); });
  control_.stop = nullptr;
  performing_ = false;
  if (is_wanted(stop) && !control_.cancelled && was_ended(status)) return stopped(kSettling);
  if (status.ok() || control_.cancelled || job.into_memory != nullptr) return status;
  const std::lock_guard lock(mutex_);
  if (job.segment != nullptr) given_up_.push_back(job.segment->info().id);
  for (const SealedRef& ref : job.merged) given_up_.push_back(ref.segment->info().id);
  return status;
}

Status Indexer::perform_alone(const Job& job, unsigned threads) {
  const IndexWork::Shown at_work(work_, shown(job));
  if (job.into_memory != nullptr) return job.into_memory->keep_in_memory(available_memory() / kMemoryShare);
  if (job.subset.kind != 0) {
    const Status status = build_subset(job, *job.segment, threads);
    return is_in_use(*job.table, *job.segment) ? status : Status();
  }
  if (job.segment != nullptr) {
    const SegmentGraph::State before = job.segment->graph().state();
    if (before == SegmentGraph::State::kReady) return {};
    if (before == SegmentGraph::State::kDamaged) rebuilds_.fetch_add(1);
    const Status status = build(job, *job.segment, threads);
    // What a segment leaves that has been replaced meanwhile is removed, its unfinished graph included.
    return is_in_use(*job.table, *job.segment) ? status : Status();
  }
  const Status status = merge(job, threads);
  if (!status.is_full_disk()) return status;
  const Job alone = {.table = job.table, .merged = first_for_room(job.merged, limits_for(*job.table))};
  return alone.merged.empty() || job.merged.size() < 2 ? status : merge(alone, threads);
}

Status Indexer::build(const Job& job, const SealedSegment& segment, unsigned threads) {
  const Schema& schema = job.table->schema;
  const Result<const float*> vectors = all_vectors(segment);
  if (!vectors.ok()) return vectors.status();
  const auto began = std::chrono::steady_clock::now();
  work_.begin_graph(segment.row_count());
  hnsw::Team team(threads, [this] { return control_.is_cancelled(); });
  const hnsw::GraphInput input = {schema.metric, vectors.value(), segment.row_count(), schema.dims};
  const bool adopting = job.linked != nullptr && are_rows_of(segment, *job.linked);
  auto built = adopting ? hnsw::adopt_graph(input, job.linked->links, schema.index, team, control_)
                        : hnsw::build_graph(input, schema.index, team, control_);
  work_.end_graph(built.ok());
  if (!built.ok()) return built.status();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
  if (!adopting) {
    const double rate = segment.row_count() / seconds.count();
    build_rate_ = rate;
    job.table->set_build_rate(rate);
  }
  EHUB_RETURN_IF_ERROR(write(segment.graph(), *built.value()));
  segment.graph().look_again();
  EHUB_RETURN_IF_ERROR(verified(segment.graph()));
  segment.coarse_rows().drop();
  if (adopting) job.linked->were_taken = true;
  return {};
}

Status Indexer::write(const SegmentGraph& graph, const hnsw::BuiltGraph& built) {
  // Made when it is first needed: that it cannot be made is no reason to refuse to open.
  EHUB_RETURN_IF_ERROR(store_.fs.make_directory(graph.directory()));
  EHUB_RETURN_IF_ERROR(hnsw::write_graph(store_.fs, graph.directory(), graph.stamp(), built));
  return store_.fs.sync_directory(graph.directory());
}

// The rows' vectors lie together only while the graph is built.
Status Indexer::build_subset(const Job& job, const SealedSegment& segment, unsigned threads) {
  const std::shared_ptr<SegmentGraph> graph = segment.graph_over(job.subset);
  if (graph->state() == SegmentGraph::State::kDamaged) rebuilds_.fetch_add(1);
  std::vector<uint64_t> bitmap((size_t{segment.row_count()} + 63) / 64);
  if (job.subindex != nullptr) {
    const auto members = job.subindex->rows_in(job.segment, visible_seq());
    if (job.table->dropped()) job.subindex->forget();
    if (!members.ok()) return members.status();
    members.value()->mark(segment.row_count(), bitmap);
  } else {
    const auto number = static_cast<uint32_t>(job.subset.number);
    EHUB_RETURN_IF_ERROR(segment.partition_index().mark(segment, number, segment.row_count(), bitmap));
  }
  std::vector<uint32_t> rows = rows_of(bitmap);
  if (rows.empty()) return {};
  const Result<const float*> vectors = all_vectors(segment);
  if (!vectors.ok()) return vectors.status();
  const Schema& schema = job.table->schema;
  hnsw::Buffer copy(rows.size() * schema.row_bytes());
  auto* together = reinterpret_cast<float*>(copy.data());
  for (size_t node = 0; node < rows.size(); ++node) {
    std::copy_n(vectors.value() + size_t{rows[node]} * schema.dims, schema.dims, together + node * schema.dims);
  }
  hnsw::Team team(threads, [this] { return control_.is_cancelled(); });
  work_.begin_graph(rows.size());
  auto built = hnsw::build_graph({schema.metric, together, rows.size(), schema.dims}, schema.index, team, control_);
  work_.end_graph(built.ok());
  if (!built.ok()) return built.status();
  built.value()->set_segment_rows(std::move(rows));
  EHUB_RETURN_IF_ERROR(write(*graph, *built.value()));
  graph->look_anew();
  return verified(*graph);
}

Status Indexer::build_subsets(const std::shared_ptr<Table>& table, const std::shared_ptr<const SealedSegment>& segment,
                              unsigned threads) {
  for (const Job& job : subset_jobs(table, segment)) EHUB_RETURN_IF_ERROR(build_subset(job, *segment, threads));
  return {};
}

Status Indexer::merge(const Job& job, unsigned threads) {
  const SegmentId id = store_.next_segment.fetch_add(2);
  const SegmentId history = id + 1;
  {
    const std::lock_guard lock(store_.unfinished_mutex);
    store_.unfinished.insert({id, history});
  }
  const RewriteTarget target = {store_.fs,    store_.segment_directory, job.table->schema, store_.hash_seed, id,
                                control_.stop};
  std::vector<SegmentRef> sources;
  for (const SealedRef& ref : job.merged) sources.push_back({ref.segment, ref.deaths});
  PreparedMerge prepared = {job.table, job.merged, {}, false};
  Status status;
  Times times;
  times.pinned = job.table->pins().all_before([this] { return store_.visible_seq.load(); }, &times.now);
  Result<RewrittenApart> rewritten = rewrite_apart(target, history, sources, times);
  status = rewritten.status();
  if (rewritten.ok()) {
    prepared.rewritten = std::move(rewritten.value());
    status = build_merged(job, prepared.rewritten, threads);
    if (status.ok()) status = store_.fs.sync_directory(store_.segment_directory);
  }
  if (status.ok()) {
    status = store_.checkpoint({.prepared = &prepared});
    if (job.linked != nullptr) job.linked->were_taken &= status.ok() && prepared.was_taken;
  } else {
    remove_unused({id, history});
  }
  const std::lock_guard lock(store_.unfinished_mutex);
  store_.unfinished.erase(id);
  store_.unfinished.erase(history);
  return status;
}

// On a full disk, what a merge has made that comes to nothing is the room for a smaller one.
void Indexer::remove_unused(const std::set<SegmentId>& ids) {
  for (const SegmentId id : ids) {
    for (const auto& path : {vector_path, segment_path}) (void)store_.fs.remove(path(store_.segment_directory, id));
  }
  const Result<std::vector<std::string>> names = store_.fs.list(store_.index_files_directory);
  if (!names.ok()) return;
  for (const std::string& name : names.value()) {
    const std::optional<hnsw::GraphName> graph = hnsw::graph_of_name(name);
    if (graph && ids.contains(graph->segment)) (void)store_.fs.remove(store_.index_files_directory + "/" + name);
  }
}

Status Indexer::build_merged(const Job& job, const RewrittenApart& merged, unsigned threads) {
  const Row rows_min = graph_rows_min(*job.table);
  const auto& living = merged.living.segment;
  const auto& history = merged.history.segment;
  if (living != nullptr && living->row_count() >= rows_min) {
    EHUB_RETURN_IF_ERROR(build(job, *living, threads));
    EHUB_RETURN_IF_ERROR(build_subsets(job.table, living, threads));
  }
  if (history != nullptr && history->row_count() >= rows_min && is_asked(*history)) {
    EHUB_RETURN_IF_ERROR(build(job, *history, threads));
  }
  return {};
}

unsigned Indexer::threads_of_caller() const { return store_.options.background ? usable_cores() : 1; }

// So that nobody waits for a graph that is for nothing. What goes wrong with it leaves the segments as they are, and
// each gets its graph.
void Indexer::merge_before_build(const std::shared_ptr<Table>& table, unsigned threads, StopFlag stop) {
  const auto is_before_build = [&](const SealedRef& ref) {
    const bool lacks = wants_graph(*table, ref) && ref.segment->graph().state() != SegmentGraph::State::kReady;
    return lacks && is_left_to_merge(*table, ref);
  };
  for (size_t left = sealed_of(*table).size(); left > 0 && !table->dropped(); --left) {
    const std::vector<SealedRef> sealed = sealed_of(*table);
    if (std::none_of(sealed.begin(), sealed.end(), is_before_build)) return;
    if (!perform({.table = table, .merged = mergeable(*table)}, threads, stop).ok()) return;
  }
}

Status Indexer::settle(const std::shared_ptr<Table>& table, bool merging, StopFlag stop) {
  const unsigned threads = threads_of_caller();
  if (!merging) merge_before_build(table, threads, stop);
  while (merging && !table->dropped()) {
    std::vector<SealedRef> merged = all_compactable(sealed_of(*table), limits_for(*table));
    if (merged.empty()) break;
    EHUB_RETURN_IF_ERROR(perform({.table = table, .merged = std::move(merged)}, threads, stop));
  }
  for (const SealedRef& ref : sealed_of(*table)) {
    if (!wants_graph(*table, ref) || table->dropped()) continue;
    EHUB_RETURN_IF_ERROR(perform({.table = table, .segment = ref.segment}, threads, stop));
    if (ref.is_history()) continue;
    for (const Job& job : subset_jobs(table, ref.segment)) EHUB_RETURN_IF_ERROR(perform(job, threads, stop));
  }
  return table->dropped() ? not_found("space '" + table->space + "' was deleted") : Status();
}

Status Indexer::adopt(const std::shared_ptr<Table>& table, LinkedRows& linked) {
  std::vector<SealedRef> sealed = sealed_of(*table);
  uint64_t rows = 0;
  for (const SealedRef& ref : sealed) rows += ref.segment->row_count();
  if (rows != linked.keys.size() || rows < graph_rows_min(*table)) return {};
  Job job = {.table = table, .linked = &linked};
  if (sealed.size() == 1) {
    job.segment = sealed.front().segment;
  } else {
    job.merged = std::move(sealed);
  }
  return perform(job, threads_of_caller());
}

}  // namespace ehub
