#include "io/fault_file.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <mutex>

#include "base/hash.h"
#include "io/fault_path.h"

namespace ehub {
namespace {

using NodeId = FaultDisk::NodeId;

using Call = FaultPlan::Call;
using Verdict = FaultPlan::Verdict;

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

Status failure(const char* operation, const std::string& path, int error_number) {
  if (error_number == ENOENT) return not_found(std::string(operation) + " " + path + ": no such file or directory");
  return io_error(operation, path, error_number);
}

std::vector<std::string> sorted_paths(const FaultDisk& disk) {
  std::vector<std::string> paths;
  add_file_paths(disk, FaultDisk::kRoot, "", paths);
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

// Requires of all members but the constructors: the lock is held.
struct FaultFileSystem::State {
  explicit State(uint64_t seed_) : seed(seed_) {}
  State(const State& other)
      : disk(other.disk), plan(other.plan), seed(other.seed), disk_bytes_max(other.disk_bytes_max) {
    disk.drop_handles();
  }

  std::mutex mutex;
  FaultDisk disk;
  FaultPlan plan;
  uint64_t seed;
  uint64_t generation = 0;  // counts crashes; a handle is of one generation
  uint64_t disk_bytes_max = kNever;

  uint64_t bytes_that_fit(NodeId file, uint64_t offset, uint64_t size) const;
  // Of the call just admitted: always the same for the same seed and call.
  FaultRandom random_of_call() const { return FaultRandom(seed ^ (plan.mutating_calls() << 20)); }

  Status write(NodeId file, const std::string& path, uint64_t offset, const uint8_t* data, size_t size);
  Status sync(NodeId file, const std::string& path);
  Status truncate(NodeId file, const std::string& path, uint64_t size);
  Status sync_directory(NodeId directory, const std::string& path);
  Status make_missing(const PathComponents& components, size_t existing, NodeId directory, const std::string& path);

  class OpenFile;
};

uint64_t FaultFileSystem::State::bytes_that_fit(NodeId file, uint64_t offset, uint64_t size) const {
  if (disk_bytes_max == kNever) return size;
  const uint64_t used = disk.used_bytes();
  const uint64_t end_max = disk.node(file).cached.size_bytes() + (disk_bytes_max - std::min(used, disk_bytes_max));
  return std::min(size, end_max - std::min(offset, end_max));
}

Status FaultFileSystem::State::write(NodeId file, const std::string& path, uint64_t offset, const uint8_t* data,
                                     size_t size) {
  switch (plan.admit(Call::kWrite)) {
    case Verdict::kProceed:
      break;
    case Verdict::kEnospc:
      return io_error("write", path, ENOSPC);
    case Verdict::kTornWrite: {
      FaultRandom random = random_of_call();
      disk.write(file, offset, data, torn_write_bytes(random, offset, size));
      return io_error("write", path, EIO);
    }
    case Verdict::kShortWrite:
      disk.write(file, offset, data, random_of_call().below(size));
      return io_error("write", path, ENOSPC);
    default:
      return io_error("write", path, EIO);
  }
  const uint64_t fitting = bytes_that_fit(file, offset, size);
  disk.write(file, offset, data, fitting);
  if (fitting < size) return io_error("write", path, ENOSPC);
  return {};
}

Status FaultFileSystem::State::sync(NodeId file, const std::string& path) {
  const Verdict verdict = plan.admit(Call::kSync);
  if (verdict == Verdict::kLostSync) disk.forget_unsynced(file);
  if (verdict != Verdict::kProceed) return io_error("sync", path, verdict == Verdict::kEnospc ? ENOSPC : EIO);
  disk.sync(file);
  return {};
}

Status FaultFileSystem::State::truncate(NodeId file, const std::string& path, uint64_t size) {
  EHUB_RETURN_IF_ERROR(plan.check(Call::kOtherMutating, "truncate", path));
  const uint64_t present = disk.node(file).cached.size_bytes();
  if (size > present && bytes_that_fit(file, present, size - present) < size - present) {
    return io_error("truncate", path, ENOSPC);
  }
  disk.truncate(file, size);
  return {};
}

Status FaultFileSystem::State::sync_directory(NodeId directory, const std::string& path) {
  EHUB_RETURN_IF_ERROR(plan.check(Call::kSync, "sync directory", path));
  disk.sync_directory(directory);
  return {};
}

// Makes the components from number `existing` on, the first of them in `directory`.
Status FaultFileSystem::State::make_missing(const PathComponents& components, size_t existing, NodeId directory,
                                            const std::string& path) {
  for (size_t i = existing; i < components.size(); ++i) {
    EHUB_RETURN_IF_ERROR(plan.check(Call::kOtherMutating, "make directory", path));
    const NodeId made = disk.create(directory, components[i], true);
    EHUB_RETURN_IF_ERROR(sync_directory(directory, path));
    directory = made;
  }
  return {};
}

class FaultFileSystem::State::OpenFile : public File {
 public:
  // Requires: the lock of `state`.
  OpenFile(std::shared_ptr<State> state, std::string path, NodeId node, bool writable)
      : state_(std::move(state)),
        path_(std::move(path)),
        node_(node),
        generation_(state_->generation),
        writable_(writable) {
    ++self().open_handles;
  }

  ~OpenFile() override {
    const std::lock_guard guard(state_->mutex);
    if (is_stale()) return;
    release_lock();
    --self().open_handles;
  }

  Status read(uint64_t offset, void* buffer, size_t size) override;
  Status write(uint64_t offset, const void* data, size_t size) override;
  Status sync() override;
  void start_writeback(uint64_t, uint64_t) override {}
  Status truncate(uint64_t size) override;
  Result<uint64_t> size() override;
  Result<Mapping> map(size_t size) override;
  Result<bool> try_lock(bool exclusive) override;
  void unlock() override;
  Result<bool> linked() override;

 private:
  enum class Lock : uint8_t { kNone, kShared, kExclusive };

  FaultDisk::Node& self() { return state_->disk.node(node_); }
  bool is_stale() const { return generation_ != state_->generation; }
  Status check_handle(const char* operation) const {
    if (is_stale()) return io_error(operation, path_, EIO);
    return {};
  }
  Status check_reading(const char* operation) {
    EHUB_RETURN_IF_ERROR(check_handle(operation));
    return state_->plan.check(Call::kReading, operation, path_);
  }
  // Also that a file may end at `end`. `mode_error` is how the system call refuses a file open for reading.
  Status check_change(const char* operation, uint64_t end, int mode_error) const {
    EHUB_RETURN_IF_ERROR(check_handle(operation));
    if (!writable_) return io_error(operation, path_, mode_error);
    if (end > kImageBytesMax) return io_error(operation, path_, EFBIG);
    return {};
  }
  void release_lock();

  const std::shared_ptr<State> state_;
  const std::string path_;
  const NodeId node_;
  const uint64_t generation_;
  const bool writable_;
  Lock lock_ = Lock::kNone;
};

Status FaultFileSystem::State::OpenFile::read(uint64_t offset, void* buffer, size_t size) {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(check_reading("read"));
  const uint64_t end = self().cached.size_bytes();
  if (size == 0) return {};
  if (offset > end || size > end - offset) {
    return corruption(path_, std::max(offset, end), "the file ends here, before the end of what was to be read");
  }
  self().cached.read(offset, static_cast<uint8_t*>(buffer), size);
  return {};
}

Status FaultFileSystem::State::OpenFile::write(uint64_t offset, const void* data, size_t size) {
  const std::lock_guard guard(state_->mutex);
  if (size == 0) return check_handle("write");
  const uint64_t end = size > kNever - offset ? kNever : offset + size;
  EHUB_RETURN_IF_ERROR(check_change("write", end, EBADF));
  return state_->write(node_, path_, offset, static_cast<const uint8_t*>(data), size);
}

Status FaultFileSystem::State::OpenFile::sync() {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(check_handle("sync"));
  return self().is_directory ? state_->sync_directory(node_, path_) : state_->sync(node_, path_);
}

Status FaultFileSystem::State::OpenFile::truncate(uint64_t size) {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(check_change("truncate", size, EINVAL));
  return state_->truncate(node_, path_, size);
}

Result<uint64_t> FaultFileSystem::State::OpenFile::size() {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(check_reading("stat"));
  return self().cached.size_bytes();
}

Result<Mapping> FaultFileSystem::State::OpenFile::map(size_t size) {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(check_reading("map"));
  if (size == 0) return Mapping{};
  if (size > kImageBytesMax) return io_error("map", path_, ENOMEM);
  return self().cached.map(size);
}

Result<bool> FaultFileSystem::State::OpenFile::try_lock(bool exclusive) {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(check_reading("lock"));
  EHUB_ASSERT(lock_ == Lock::kNone);
  if (self().exclusive_lock || (exclusive && self().shared_locks > 0)) return false;
  lock_ = exclusive ? Lock::kExclusive : Lock::kShared;
  if (exclusive) {
    self().exclusive_lock = true;
  } else {
    ++self().shared_locks;
  }
  return true;
}

void FaultFileSystem::State::OpenFile::unlock() {
  const std::lock_guard guard(state_->mutex);
  if (!is_stale()) release_lock();
}

void FaultFileSystem::State::OpenFile::release_lock() {
  if (lock_ == Lock::kExclusive) self().exclusive_lock = false;
  if (lock_ == Lock::kShared) --self().shared_locks;
  lock_ = Lock::kNone;
}

Result<bool> FaultFileSystem::State::OpenFile::linked() {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(check_reading("stat"));
  const PathPlace place = locate(state_->disk, path_);
  return place.found() && place.node == node_;
}

FaultFileSystem::FaultFileSystem(uint64_t seed) : state_(std::make_shared<State>(seed)) {}

FaultFileSystem::FaultFileSystem(std::shared_ptr<State> state) : state_(std::move(state)) {}

FaultFileSystem::~FaultFileSystem() = default;

Result<std::unique_ptr<File>> FaultFileSystem::open(const std::string& path, Mode mode) {
  const std::lock_guard guard(state_->mutex);
  const PathPlace place = locate(state_->disk, path);
  const bool makes = mode == Mode::kCreate || (mode == Mode::kOpenOrCreate && !place.found());
  EHUB_RETURN_IF_ERROR(state_->plan.check(makes ? Call::kOtherMutating : Call::kReading, "open", path));
  const bool makes_new = makes && place.error_number == 0 && !place.found();
  if (const int error = file_error(state_->disk, place); error != 0 && !makes_new) return failure("open", path, error);
  const NodeId node = makes_new ? state_->disk.create(place.directory, place.name, false) : place.node;
  if (mode == Mode::kCreate) state_->disk.truncate(node, 0);
  return std::unique_ptr<File>(std::make_unique<State::OpenFile>(state_, path, node, mode != Mode::kRead));
}

Result<std::unique_ptr<File>> FaultFileSystem::open_directory(const std::string& directory) {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(state_->plan.check(Call::kReading, "open directory", directory));
  const PathPlace place = locate(state_->disk, directory);
  const int error = directory_error(state_->disk, place);
  if (error != 0) return failure("open directory", directory, error);
  return std::unique_ptr<File>(std::make_unique<State::OpenFile>(state_, directory, place.node, false));
}

Status FaultFileSystem::make_directory(const std::string& path) {
  const std::lock_guard guard(state_->mutex);
  const PathComponents components = split_path(path);
  PathPlace place;
  NodeId parent = FaultDisk::kRoot;  // of the deepest directory that exists
  NodeId deepest = FaultDisk::kRoot;
  size_t existing = 0;
  for (; existing < components.size(); ++existing) {
    place = descend(state_->disk, place, components[existing]);
    if (!place.found()) break;
    if (directory_error(state_->disk, place) != 0) return io_error("make directory", path, ENOTDIR);
    parent = deepest;
    deepest = place.node;
  }
  // The deepest may be the work of a process that died before its sync.
  EHUB_RETURN_IF_ERROR(state_->sync_directory(parent, path));
  return state_->make_missing(components, existing, deepest, path);
}

Result<std::vector<std::string>> FaultFileSystem::list(const std::string& directory) {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(state_->plan.check(Call::kReading, "list", directory));
  const PathPlace place = locate(state_->disk, directory);
  if (const int error = directory_error(state_->disk, place); error != 0) return failure("list", directory, error);
  std::vector<std::string> names;
  for (const auto& [name, id] : state_->disk.node(place.node).names) names.push_back(name);
  return names;
}

Status FaultFileSystem::rename(const std::string& from_path, const std::string& to_path) {
  const std::lock_guard guard(state_->mutex);
  const std::string both = from_path + " to " + to_path;
  EHUB_RETURN_IF_ERROR(state_->plan.check(Call::kOtherMutating, "rename", both));
  const int error = rename_error(state_->disk, split_path(from_path), split_path(to_path));
  if (error != 0) return failure("rename", both, error);
  const PathPlace from = locate(state_->disk, from_path);
  const PathPlace to = locate(state_->disk, to_path);
  if (from.node != to.node) state_->disk.rename(from.directory, from.name, to.directory, to.name);
  return {};
}

Status FaultFileSystem::remove(const std::string& path) {
  const std::lock_guard guard(state_->mutex);
  EHUB_RETURN_IF_ERROR(state_->plan.check(Call::kOtherMutating, "remove", path));
  const PathPlace place = locate(state_->disk, path);
  if (const int error = remove_error(state_->disk, place); error != 0) return failure("remove", path, error);
  state_->disk.remove(place.directory, place.name);
  return {};
}

Status FaultFileSystem::sync_directory(const std::string& directory) {
  const std::lock_guard guard(state_->mutex);
  const PathPlace place = locate(state_->disk, directory);
  const int error = directory_error(state_->disk, place);
  if (error == 0) return state_->sync_directory(place.node, directory);
  EHUB_RETURN_IF_ERROR(state_->plan.check(Call::kSync, "sync directory", directory));
  return failure("sync directory", directory, error);
}

uint64_t FaultFileSystem::calls() const {
  const std::lock_guard guard(state_->mutex);
  return state_->plan.calls();
}

uint64_t FaultFileSystem::mutating_calls() const {
  const std::lock_guard guard(state_->mutex);
  return state_->plan.mutating_calls();
}

void FaultFileSystem::count_reads(bool counted) {
  const std::lock_guard guard(state_->mutex);
  state_->plan.count_reads(counted);
}

void FaultFileSystem::crash_at(uint64_t call, bool torn) {
  const std::lock_guard guard(state_->mutex);
  state_->plan.crash_at(call, torn);
}

bool FaultFileSystem::powered_off() const {
  const std::lock_guard guard(state_->mutex);
  return state_->plan.powered_off();
}

void FaultFileSystem::fail_at(uint64_t call, Fault fault, bool forever) {
  const std::lock_guard guard(state_->mutex);
  state_->plan.fail_at(call, fault, forever);
}

uint64_t FaultFileSystem::faults_injected() const {
  const std::lock_guard guard(state_->mutex);
  return state_->plan.faults_injected();
}

void FaultFileSystem::clear_plan() {
  const std::lock_guard guard(state_->mutex);
  state_->plan.clear();
}

void FaultFileSystem::set_disk_bytes_max(uint64_t bytes) {
  const std::lock_guard guard(state_->mutex);
  state_->disk_bytes_max = bytes;
}

void FaultFileSystem::crash(CrashModel model, uint64_t seed) {
  const std::lock_guard guard(state_->mutex);
  state_->disk.crash(model, seed);
  ++state_->generation;
  state_->plan.restart();
}

std::unique_ptr<FaultFileSystem> FaultFileSystem::clone() const {
  const std::lock_guard guard(state_->mutex);
  return std::unique_ptr<FaultFileSystem>(new FaultFileSystem(std::make_shared<State>(*state_)));
}

std::vector<std::string> FaultFileSystem::paths() const {
  const std::lock_guard guard(state_->mutex);
  return sorted_paths(state_->disk);
}

uint64_t FaultFileSystem::fingerprint() const {
  const std::lock_guard guard(state_->mutex);
  uint64_t number = 0;
  for (const std::string& path : sorted_paths(state_->disk)) {
    number = hash_key(number, path.data(), path.size());
    number = state_->disk.node(locate(state_->disk, path).node).cached.fingerprint(number);
  }
  return number;
}

Result<std::string> FaultFileSystem::contents(const std::string& path) const {
  const std::lock_guard guard(state_->mutex);
  const PathPlace place = locate(state_->disk, path);
  if (const int error = file_error(state_->disk, place); error != 0) return failure("read", path, error);
  const FileImage& image = state_->disk.node(place.node).cached;
  std::string bytes(image.size_bytes(), '\0');
  image.read(0, reinterpret_cast<uint8_t*>(bytes.data()), bytes.size());
  return bytes;
}

Status FaultFileSystem::set_contents(const std::string& path, std::string_view bytes) {
  const std::lock_guard guard(state_->mutex);
  const PathPlace place = locate(state_->disk, path);
  if (const int error = file_error(state_->disk, place); error != 0) return failure("write", path, error);
  state_->disk.replace(place.node, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  return {};
}

}  // namespace ehub
