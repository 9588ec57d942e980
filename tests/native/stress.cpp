// Threads that do everything at once on a real disk; to be run under ThreadSanitizer and AddressSanitizer.
//
//   stress [seconds = 20] [full|normal|off = normal]
//
// Two writers overwrite and delete the keys of their groups, always a whole group with one batch and all rows of a
// batch with one value, the number of the batch. So whoever reads must find a group whole: all of its keys or none, all
// with one value, and that value between the last batch acknowledged before and the last one begun. Two threads read so
// by key, by scan and by search; another one through a read-only hub beside the writer; one checkpoints and compacts
// without end, one makes and drops a space. Limits are tiny, so that logs and segments turn over all the time, and
// every segment of some rows gets a graph: graphs are built, walked, merged, mapped by the reader and removed
// meanwhile; two more threads wait for the index of what there is, and optimize, and one of them soon tires of it; one
// tags, holds, restores, forks and drops versions, and looks whether anything of the past changes; and in a hub of
// large segments two threads scan by codes and without, and compare, while a third fills them.
//
// Exits with 1, and says what it saw, on any inconsistency; at last the hub is closed, opened and verified.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "io/fault_disk.h"
#include "io/posix_file.h"
#include "store/store.h"

namespace ehub {
namespace {

constexpr uint32_t kDims = 64;
constexpr size_t kWriters = 2;
constexpr size_t kSmallRows = 8;
constexpr uint64_t kLargeBatchBytes = 64 << 10;
constexpr size_t kLargeRows = 300;  // more than kLargeBatchBytes of vectors
constexpr uint64_t kDeleteOneIn = 5;
constexpr Schema kSchema = {.dims = kDims, .metric = Metric::kL2, .key_type = KeyType::kString};

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "stress: %s\n", what.c_str());
  std::_Exit(1);
}

void must(const Status& status, const char* call) {
  if (!status.ok()) die(std::string(call) + ": " + status.message());
}

template <typename T>
T must(Result<T> result, const char* call) {
  must(result.status(), call);
  return std::move(result.value());
}

// Keys that one writer writes, always together. Batch n sets them all to the value n, or deletes them.
struct Group {
  explicit Group(const std::string& name, size_t rows) {
    for (size_t i = 0; i < rows; ++i) names.push_back(name + "-" + std::to_string(i));
    keys.assign(names.begin(), names.end());
  }
  std::vector<std::string> names;
  std::vector<std::string_view> keys;
  std::atomic<uint64_t> begun = 0;
  std::atomic<uint64_t> acknowledged = 0;
};

bool deletes(uint64_t batch) { return batch % kDeleteOneIn == 0; }

struct World {
  explicit World(std::string path) : root(std::move(path)) {
    for (size_t writer = 0; writer < kWriters; ++writer) {
      small.push_back(std::make_unique<Group>("small" + std::to_string(writer), kSmallRows));
      large.push_back(std::make_unique<Group>("large" + std::to_string(writer), kLargeRows));
    }
  }
  std::vector<Group*> groups() const {
    std::vector<Group*> all;
    for (size_t writer = 0; writer < kWriters; ++writer)
      all.insert(all.end(), {small[writer].get(), large[writer].get()});
    return all;
  }

  std::string root;
  std::unique_ptr<Store> store;
  std::shared_ptr<Table> table;
  std::vector<std::unique_ptr<Group>> small;
  std::vector<std::unique_ptr<Group>> large;
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> batches = 0;
  std::atomic<uint64_t> views = 0;
};

StoreOptions tiny_options(Durability durability) {
  StoreOptions options;
  options.durability = durability;
  options.large_batch_bytes = kLargeBatchBytes;
  options.log_bytes_max = 64 << 10;
  options.fresh_rows_max = 2000;
  options.segment_bytes_max = 200 << 10;
  options.carry_bytes_max = 4 << 10;
  options.graph_rows_min = 100;
  options.old_searches_min = 10;
  return options;
}

void write_group(World& world, Group& group, const char* partition) {
  const uint64_t batch = group.begun.load() + 1;
  group.begun.store(batch);
  const std::vector<float> vectors(group.keys.size() * kDims, static_cast<float>(batch));
  WriteBatch write;
  write.table = world.table;
  write.keys = group.keys;
  if (deletes(batch)) {
    write.kind = WriteBatch::Kind::kDelete;
  } else {
    write.vectors = vectors.data();
    write.partition_names = {partition};
  }
  must(world.store->write(write).status(), "write");
  group.acknowledged.store(batch);
  world.batches.fetch_add(1);
}

void write_on(World& world, size_t writer) {
  FaultRandom random(writer);
  while (!world.stop) {
    const bool is_large = random.below(4) == 0;
    write_group(world, is_large ? *world.large[writer] : *world.small[writer], writer == 0 ? "even" : "odd");
  }
}

// What a view shows of a group.
struct Glimpse {
  size_t present = 0;
  float value = 0;
};

void see(Glimpse& glimpse, const float* vector, const std::string& key) {
  for (size_t i = 0; i < kDims; ++i) {
    if (vector[i] != vector[0]) die("a torn vector of " + key);
  }
  if (glimpse.present++ > 0 && vector[0] != glimpse.value) die("a torn batch at " + key);
  glimpse.value = vector[0];
}

Glimpse look_up(const View& view, const Group& group) {
  std::vector<Ordinal> rows(group.keys.size());
  std::vector<float> vectors(group.keys.size() * kDims);
  must(view.locate(group.keys.data(), group.keys.size(), rows.data()), "locate");
  must(view.gather(rows.data(), rows.size(), vectors.data()), "gather");
  Glimpse glimpse;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] != kNoOrdinal) see(glimpse, vectors.data() + i * kDims, group.names[i]);
  }
  return glimpse;
}

void see_batch(const View& view, const ScanCursor::Batch& batch, const std::string& prefix, Glimpse& glimpse) {
  std::vector<float> copies(batch.rows.size() * kDims);
  if (batch.vectors == nullptr) must(view.gather(batch.rows.data(), batch.rows.size(), copies.data()), "gather");
  const float* vectors = batch.vectors == nullptr ? copies.data() : batch.vectors;
  for (size_t i = 0; i < batch.rows.size(); ++i) {
    const std::string key(must(view.key(batch.rows[i]), "key"));
    if (key.starts_with(prefix)) see(glimpse, vectors + i * kDims, key);
  }
}

Glimpse scan_for(const std::shared_ptr<const View>& view, const Group& group) {
  const std::string prefix = group.names[0].substr(0, group.names[0].find('-') + 1);
  ScanCursor cursor(view);
  Glimpse glimpse;
  while (true) {
    const ScanCursor::Batch batch = must(cursor.next(77), "scan");
    if (batch.rows.empty()) return glimpse;
    see_batch(*view, batch, prefix, glimpse);
  }
}

// `first`: acknowledged before the view was made; `last`: begun when it was.
void check_glimpse(const char* who, const Glimpse& glimpse, const Group& group, uint64_t first, uint64_t last) {
  const std::string name = std::string(who) + ": " + group.names[0];
  const std::string batches = "batches " + std::to_string(first) + ".." + std::to_string(last);
  if (glimpse.present == 0) {
    bool may_be_gone = first == 0;
    for (uint64_t batch = first; batch <= last; ++batch) may_be_gone |= deletes(batch);
    if (!may_be_gone) die(name + " and its group are gone, " + batches);
    return;
  }
  if (glimpse.present != group.keys.size()) die(name + " begins half of a batch");
  const auto batch = static_cast<uint64_t>(glimpse.value);
  if (batch < first || batch > last) {
    die(name + " shows batch " + std::to_string(batch) + ", not one of " + batches);
  }
}

void check_search(const View& view, FaultRandom& random) {
  const std::vector<float> query(kDims, static_cast<float>(random.below(1000)));
  const auto found = must(view.nearest(query.data(), 1, {.k = 20, .scan_rows_max = 0, .threads = 1}), "nearest");
  for (const Neighbor& neighbor : found[0]) {
    float vector[kDims];
    must(view.gather(&neighbor.row, 1, vector), "gather");
    const float distance = (vector[0] - query[0]) * (vector[0] - query[0]) * kDims;
    if (std::abs(distance - neighbor.distance) > 1e-3F * distance + 1e-3F) die("a search that disagrees with its row");
  }
  if (!std::is_sorted(found[0].begin(), found[0].end(), nearer)) die("a search out of order");
  const uint64_t rows = must(view.row_count(), "row_count");
  if (found[0].size() != std::min<uint64_t>(20, rows)) die("a search that gives too few");
}

void read_on(World& world, uint64_t seed) {
  FaultRandom random(seed);
  const std::vector<Group*> groups = world.groups();
  while (!world.stop) {
    const Group& group = *groups[random.below(groups.size())];
    const uint64_t first = group.acknowledged.load();
    const std::shared_ptr<const View> view = must(world.store->view(*world.table), "view");
    const uint64_t last = group.begun.load();
    const Glimpse glimpse = look_up(*view, group);
    check_glimpse("a view", glimpse, group, first, last);
    if (random.below(4) == 0) {
      world.store->note_search(*world.table);
      check_search(*view, random);
    }
    const Glimpse scanned = scan_for(view, group);
    if (scanned.present != glimpse.present || scanned.value != glimpse.value) die("a view that changed under a reader");
    world.views.fetch_add(1);
  }
}

// A reader beside the writer sees what was acknowledged before its refresh, or more.
void follow(World& world) {
  StoreOptions options;
  options.read_only = true;
  options.graph_rows_min = tiny_options(options.durability).graph_rows_min;
  const auto reader = must(Store::open(posix_file_system(), world.root, options), "open read-only");
  const auto table = must(reader->space("items"), "space");
  FaultRandom random(13);
  while (!world.stop) {
    for (const Group* group : world.groups()) {
      const uint64_t first = group->acknowledged.load();
      must(reader->refresh(), "refresh");
      const auto view = must(reader->view(*table), "view of a reader");
      const uint64_t last = group->begun.load();
      check_glimpse("a reader", look_up(*view, *group), *group, first, last);
      check_search(*view, random);
      world.views.fetch_add(1);
    }
  }
}

void maintain(World& world) {
  while (!world.stop) {
    must(world.store->checkpoint(), "checkpoint");
    must(world.store->compact(*world.table), "compact");
    (void)world.store->stats(*world.table);
    must(world.store->sync(), "sync");
  }
}

void index(World& world) {
  for (uint64_t round = 0; !world.stop; ++round) {
    const auto call = round % 4 == 0 ? &Store::optimize : &Store::wait_indexed;
    must((world.store.get()->*call)(*world.table, nullptr), "indexing");
    const IndexStats stats = world.store->index_stats(*world.table);
    if (stats.rebuilds != 0) die("a graph was damaged");
    if (stats.unreachable != 0) die("a row is out of reach");
  }
}

// One who tires of it, while index() waits for the same. Its stop is nobody else's.
void index_impatiently(World& world) {
  FaultRandom random(17);
  for (uint64_t round = 0; !world.stop; ++round) {
    std::atomic<bool> stop = false;
    const auto patience = std::chrono::milliseconds(random.below(200));
    std::thread clock([&] {
      std::this_thread::sleep_for(patience);
      stop = true;
    });
    const auto call = round % 2 == 0 ? &Store::optimize : &Store::wait_indexed;
    const Status status = (world.store.get()->*call)(*world.table, &stop);
    clock.join();
    if (status.code() != Code::kDeadline) must(status, "indexing that was stopped");
  }
}

void make_and_drop(World& world) {
  const std::vector<float> vectors(kLargeRows * kDims, 1.0F);
  for (uint64_t round = 0; !world.stop; ++round) {
    const auto table = must(world.store->create_space("temporary", kSchema), "create_space");
    const Group group("temporary", round % 2 == 0 ? kSmallRows : kLargeRows);
    WriteBatch write;
    write.table = table;
    write.keys = group.keys;
    write.vectors = vectors.data();
    must(world.store->write(write).status(), "write");
    const auto view = must(world.store->view(*table), "view");
    must(world.store->drop_space("temporary"), "drop_space");
    if (look_up(*view, group).present != group.keys.size()) die("a view lost the rows of a dropped space");
    if (world.store->view(*table).status().code() != Code::kNotFound) die("a dropped space can be read");
  }
}

void write_value(Store& store, const std::shared_ptr<Table>& table, const Group& group, uint64_t value) {
  const std::vector<float> vectors(group.keys.size() * kDims, static_cast<float>(value));
  WriteBatch write;
  write.table = table;
  write.keys = group.keys;
  write.vectors = vectors.data();
  must(store.write(write).status(), "write");
}

void must_show(const View& view, const Group& group, uint64_t value, const char* what) {
  const Glimpse glimpse = look_up(view, group);
  if (glimpse.present != group.keys.size() || glimpse.value != static_cast<float>(value)) {
    die(std::string(what) + " shows another value than " + std::to_string(value));
  }
}

// Tags, holds, restores and forks a space of its own, and holds snapshots of the one that all write to.
void go_back(World& world) {
  Store& store = *world.store;
  const auto table = must(store.create_space("past", kSchema), "create_space");
  const Group group("past", kLargeRows);
  const std::vector<Group*> groups = world.groups();
  for (uint64_t round = 1; !world.stop; ++round) {
    const Group& watched = *groups[round % groups.size()];
    const auto held = must(store.snapshot(*world.table), "snapshot");
    const Glimpse before = look_up(*held->view(), watched);
    write_value(store, table, group, round);
    const std::string tag = "tag " + std::to_string(round % 5);
    if (store.tags(*table).contains(tag)) must(store.remove_tag(*table, tag), "remove_tag");
    must(store.set_tag(*table, tag, nullptr, {{"round", std::to_string(round)}}), "set_tag");
    write_value(store, table, group, round + 1'000'000);
    const auto then = must(store.at(*table, tag), "at");
    must_show(*then->view(), group, round, "a tag");
    if (round % 3 == 0) {
      const auto fork = must(store.fork(*then, "fork", {{"fork", std::to_string(round)}}), "fork");
      must_show(*must(store.view(*fork), "view"), group, round, "a fork");
      write_value(store, fork, group, round + 2'000'000);
      if (round % 2 == 0) must(store.freeze(*fork), "freeze");
      must_show(*must(store.view(*fork), "view"), group, round + 2'000'000, "a written fork");
      must(store.drop_version(*fork, {{"fork", std::nullopt}}), "drop_version");
    }
    must_show(*must(store.view(*table), "view"), group, round + 1'000'000, "a forked version");
    must(store.restore(*table, *then), "restore");
    must_show(*must(store.view(*table), "view"), group, round, "a restored version");
    must_show(*then->view(), group, round, "a snapshot after its restore");
    if (store.note("round") != std::to_string(round)) die("a note that changed");
    for (const auto& [name, seq] : store.tags(*table)) {
      const uint64_t of = round - (round + 5 - std::strtoull(name.c_str() + 4, nullptr, 10)) % 5;
      must_show(*must(store.at(*table, name), "at")->view(), group, of, "an old tag");
    }
    const Glimpse after = look_up(*held->view(), watched);
    if (after.present != before.present || after.value != before.value) die("a snapshot that changed");
  }
}

// Scans with codes of the rows, and makes more, while rows come: the answers are those of a scan that does without.
void scan_on(World& world, const Store& store, const Table& table, const std::atomic<bool>& stop, uint64_t seed) {
  FaultRandom random(seed);
  while (!stop) {
    const auto view = must(store.view(table), "view");
    std::vector<float> query(kDims);
    for (float& value : query) value = static_cast<float>(random.below(1000));
    SearchOptions options = {.k = 5, .exact = true, .coarse_bytes_min = ~uint64_t{0}, .threads = 2};
    const auto plain = must(view->nearest(query.data(), 1, options), "nearest");
    options.coarse_bytes_min = 0;
    const auto coarse = must(view->nearest(query.data(), 1, options), "nearest");
    const auto same = [](const Neighbor& a, const Neighbor& b) { return a.distance == b.distance && a.row == b.row; };
    if (!std::equal(plain[0].begin(), plain[0].end(), coarse[0].begin(), coarse[0].end(), same)) {
      die("a scan by codes that differs from a plain one");
    }
    world.views.fetch_add(1);
  }
}

// A hub of its own, whose segments are large: they are filled, sealed, given graphs and dropped while they are scanned.
void feed(World& world) {
  StoreOptions options;
  options.durability = Durability::kOff;
  options.large_batch_bytes = kLargeBatchBytes;
  const auto store = must(Store::open(posix_file_system(), world.root + "-fed", options), "open");
  FaultRandom random(14);
  while (!world.stop) {
    const auto table = must(store->create_space("fed", kSchema), "create_space");
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (uint64_t seed : {15, 16}) threads.emplace_back([&, seed] { scan_on(world, *store, *table, stop, seed); });
    for (int batch = 0; batch < 20 && !world.stop; ++batch) {
      const Group group("fed" + std::to_string(batch), 1000);
      std::vector<float> vectors(group.keys.size() * kDims);
      for (float& value : vectors) value = static_cast<float>(random.below(1000));
      WriteBatch write;
      write.table = table;
      write.keys = group.keys;
      write.vectors = vectors.data();
      must(store->write(write).status(), "write");
      if (batch % 8 == 7) must(store->checkpoint(), "checkpoint");
    }
    must(store->wait_indexed(*table), "wait_indexed");
    stop = true;
    for (std::thread& thread : threads) thread.join();
    must(store->drop_space("fed"), "drop_space");
  }
  must(store->close(), "close");
}

void run_threads(World& world, int seconds) {
  std::vector<std::thread> threads;
  for (size_t writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&world, writer] { write_on(world, writer); });
  }
  threads.emplace_back([&world] { read_on(world, 11); });
  threads.emplace_back([&world] { read_on(world, 12); });
  threads.emplace_back([&world] { follow(world); });
  threads.emplace_back([&world] { maintain(world); });
  threads.emplace_back([&world] { index(world); });
  threads.emplace_back([&world] { index_impatiently(world); });
  threads.emplace_back([&world] { make_and_drop(world); });
  threads.emplace_back([&world] { go_back(world); });
  threads.emplace_back([&world] { feed(world); });
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  world.stop = true;
  for (std::thread& thread : threads) thread.join();
}

void open_world(World& world, Durability durability) {
  world.store = must(Store::open(posix_file_system(), world.root, tiny_options(durability)), "open");
}

void check_end(const char* who, World& world) {
  const VerifyReport report = must(world.store->verify(), "verify");
  for (const Finding& finding : report.findings) die("verify: " + finding.path + ": " + finding.what);
  const auto table = must(world.store->space("items"), "space");
  const auto view = must(world.store->view(*table), "view");
  for (const Group* group : world.groups()) {
    check_glimpse(who, look_up(*view, *group), *group, group->acknowledged, group->acknowledged);
  }
}

Durability durability_named(const std::string& name) {
  if (name == "full") return Durability::kFull;
  if (name == "off") return Durability::kOff;
  return Durability::kNormal;
}

void stress(int seconds, Durability durability, const std::string& directory) {
  World world(directory + "/hub");
  open_world(world, durability);
  world.table = must(world.store->create_space("items", kSchema), "create_space");
  run_threads(world, seconds);
  check_end("at the end", world);
  must(world.store->close(), "close");
  open_world(world, durability);
  check_end("opened again", world);
  must(world.store->close(), "close");
  std::printf("stress: %llu batches, %llu views\n", static_cast<unsigned long long>(world.batches),
              static_cast<unsigned long long>(world.views));
}

}  // namespace
}  // namespace ehub

int main(int argc, char** argv) {
  const int seconds = argc > 1 ? std::atoi(argv[1]) : 20;
  std::string directory = (std::filesystem::temp_directory_path() / "ehub-stress-XXXXXX").string();
  if (mkdtemp(directory.data()) == nullptr) return 1;
  ehub::stress(seconds, ehub::durability_named(argc > 2 ? argv[2] : "normal"), directory);
  std::filesystem::remove_all(directory);
  return 0;
}
