#include "io/posix_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <string_view>

namespace ehub {
namespace {

Status failure(const char* operation, const std::string& path, int error_number) {
  if (error_number == ENOENT) return not_found(std::string(operation) + " " + path + ": no such file or directory");
  Status failed = io_error(operation, path, error_number);
  return error_number == ENOMEM ? Status(Code::kOutOfMemory, failed.message(), ENOMEM) : failed;
}

template <typename Call>
auto retry_interrupted(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

// An interrupted sync has reported nothing yet, so unlike a failed one it may be made again.
int sync_descriptor(int descriptor, bool directory) {
#if defined(__APPLE__)
  (void)directory;
  return retry_interrupted([&] { return ::fcntl(descriptor, F_FULLFSYNC); });
#else
  return retry_interrupted([&] { return directory ? ::fsync(descriptor) : ::fdatasync(descriptor); });
#endif
}

using Descriptor = std::atomic<int>;
static_assert(Descriptor::is_always_lock_free, "the fork handler may not wait");

// The descriptors that a forked child must close. A slot is null or points into a live PosixFile.
std::array<std::atomic<Descriptor*>, kLockedFilesMax> locked_descriptors;

// Runs in the child before fork() returns: only close(), which is safe there whatever other threads were doing. Not
// flock(LOCK_UN): that would take the lock from the parent.
void close_locked_descriptors() {
  for (auto& slot : locked_descriptors) {
    if (Descriptor* descriptor = slot.exchange(nullptr)) ::close(descriptor->exchange(-1));
  }
}

// 0 or an errno.
int register_locked(Descriptor* descriptor) {
  static const int handler_error = ::pthread_atfork(nullptr, nullptr, close_locked_descriptors);
  if (handler_error != 0) return handler_error;
  for (auto& slot : locked_descriptors) {
    Descriptor* expected = nullptr;
    if (slot.compare_exchange_strong(expected, descriptor)) return 0;
  }
  return ENOLCK;
}

// No effect in a child that has closed the descriptor already.
void unregister_locked(Descriptor* descriptor) {
  for (auto& slot : locked_descriptors) {
    Descriptor* expected = descriptor;
    if (slot.compare_exchange_strong(expected, nullptr)) return;
  }
}

class PosixFile : public File {
 public:
  PosixFile(std::string path, int descriptor, bool directory = false)
      : path_(std::move(path)), directory_(directory), descriptor_(descriptor) {}

  ~PosixFile() override {
    if (locked_) unlock();
    const int descriptor = descriptor_.exchange(-1);
    if (descriptor >= 0) ::close(descriptor);
  }

  Status read(uint64_t offset, void* buffer, size_t size) override;
  Status write(uint64_t offset, const void* data, size_t size) override;
  Status sync() override;
  void start_writeback(uint64_t offset, uint64_t size) override;
  Status truncate(uint64_t size) override;
  Status reserve(uint64_t size) override;
  Result<uint64_t> size() override;
  Result<Mapping> map(size_t size) override;
  Result<bool> try_lock(bool exclusive) override;
  void unlock() override;
  Result<bool> linked() override;

 private:
  Status fail(const char* operation) const { return failure(operation, path_, errno); }

  const std::string path_;
  const bool directory_;
  Descriptor descriptor_;  // -1 in a child that was forked while the file was locked
  bool locked_ = false;
};

Status PosixFile::read(uint64_t offset, void* buffer, size_t size) {
  auto* to = static_cast<uint8_t*>(buffer);
  for (size_t done = 0; done < size;) {
    const ssize_t count = retry_interrupted(
        [&] { return ::pread(descriptor_, to + done, size - done, static_cast<off_t>(offset + done)); });
    if (count < 0) return fail("read");
    if (count == 0)
      return corruption(path_, offset + done, "the file ends here, before the end of what was to be read");
    done += static_cast<size_t>(count);
  }
  return {};
}

Status PosixFile::write(uint64_t offset, const void* data, size_t size) {
  const auto* from = static_cast<const uint8_t*>(data);
  for (size_t done = 0; done < size;) {
    const ssize_t count = retry_interrupted(
        [&] { return ::pwrite(descriptor_, from + done, size - done, static_cast<off_t>(offset + done)); });
    if (count < 0) return fail("write");
    if (count == 0) return io_error("write", path_, EIO);
    done += static_cast<size_t>(count);
  }
  return {};
}

Status PosixFile::sync() {
  if (sync_descriptor(descriptor_, directory_) != 0) return fail(directory_ ? "sync directory" : "sync");
  return {};
}

void PosixFile::start_writeback(uint64_t offset, uint64_t size) {
#if defined(__linux__)
  // Without the WAIT flags this call neither blocks on the disk nor consumes a write error that sync() must report. To
  // the kernel a size of 0 means "to the end".
  if (size == 0) return;
  (void)::sync_file_range(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(size), SYNC_FILE_RANGE_WRITE);
#else
  (void)offset;
  (void)size;
#endif
}

Status PosixFile::truncate(uint64_t size) {
  if (retry_interrupted([&] { return ::ftruncate(descriptor_, static_cast<off_t>(size)); }) != 0) {
    return fail("truncate");
  }
  return {};
}

Status PosixFile::reserve(uint64_t size) {
#if defined(__linux__)
  // Not posix_fallocate(): where the file system cannot reserve, that writes zeros over the whole range.
  if (size == 0) return {};
  const Result<uint64_t> before = this->size();
  if (!before.ok()) return before.status();
  if (retry_interrupted([&] { return ::fallocate(descriptor_, 0, 0, static_cast<off_t>(size)); }) == 0) return {};
  if (errno != EOPNOTSUPP) {
    const Status failed = fail("reserve");
    // Some file systems keep what they could find before the disk was full, and that was all of it.
    (void)truncate(before.value());
    return failed;
  }
#endif
  return File::reserve(size);
}

Result<uint64_t> PosixFile::size() {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) return fail("stat");
  return static_cast<uint64_t>(status.st_size);
}

Result<Mapping> PosixFile::map(size_t size) {
  if (size == 0) return Mapping{};
  void* const start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor_, 0);
  if (start == MAP_FAILED) return fail("map");
  std::shared_ptr<const void> owner(start, [size](const void* at) { ::munmap(const_cast<void*>(at), size); });
  return Mapping{static_cast<const uint8_t*>(start), size, std::move(owner)};
}

Result<bool> PosixFile::try_lock(bool exclusive) {
  if (descriptor_ < 0) return io_error("lock", path_, EBADF);
  EHUB_ASSERT(!locked_);
  // Registered before it is locked, so that no child can be forked with a lock that it does not know of.
  if (const int error = register_locked(&descriptor_); error != 0) return io_error("lock", path_, error);
  const int operation = (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
  locked_ = retry_interrupted([&] { return ::flock(descriptor_, operation); }) == 0;
  if (locked_) return true;
  const int error = errno;
  unregister_locked(&descriptor_);
  if (error == EWOULDBLOCK) return false;
  return failure("lock", path_, error);
}

void PosixFile::unlock() {
  if (!locked_) return;
  // In this order no child can inherit the lock without knowing of it.
  (void)retry_interrupted([&] { return ::flock(descriptor_, LOCK_UN); });
  unregister_locked(&descriptor_);
  locked_ = false;
}

Result<bool> PosixFile::linked() {
  struct stat opened{};
  if (::fstat(descriptor_, &opened) != 0) return fail("stat");
  if (opened.st_nlink == 0) return false;
  struct stat named{};
  if (::stat(path_.c_str(), &named) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return fail("stat");
  }
  return opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

int open_flags(FileSystem::Mode mode) {
  switch (mode) {
    case FileSystem::Mode::kRead:
      return O_RDONLY;
    case FileSystem::Mode::kWrite:
      return O_RDWR;
    case FileSystem::Mode::kCreate:
      return O_RDWR | O_CREAT | O_TRUNC;
    case FileSystem::Mode::kOpenOrCreate:
      return O_RDWR | O_CREAT;
  }
  EHUB_ASSERT(!"a mode of FileSystem::open");
}

bool is_file(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

// A FIFO is not waited for, which might be for ever; a file that another program holds a lease of is.
int open_at_once(const std::string& path, int flags) {
  const auto open = [&](int more) {
    return retry_interrupted([&] { return ::open(path.c_str(), flags | more, 0600); });
  };
  const int descriptor = open(O_NONBLOCK);
  const int error = errno;
  if (descriptor < 0 && error == EWOULDBLOCK && is_file(path)) return open(0);
  errno = error;
  return descriptor;
}

// Ok if it is a file that has the path.
Status require_file(const struct stat& status, const std::string& path) {
  if (S_ISREG(status.st_mode)) return {};
  if (S_ISDIR(status.st_mode)) return io_error("open", path, EISDIR);
  return {Code::kIo, "open " + path + ": it is a FIFO, a socket or a device; expected a file: move it away", ENXIO};
}

// Of what is no file: that it is none, whatever the kernel had against it first.
Status open_failure(const std::string& path, int error_number) {
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0) EHUB_RETURN_IF_ERROR(require_file(status, path));
  return failure("open", path, error_number);
}

// The path that holds the last component of `path`, which has no slash at its end.
std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  const size_t last = path.find_last_not_of('/', slash);
  return last == std::string::npos ? "/" : path.substr(0, last + 1);
}

std::string without_trailing_slashes(const std::string& path) {
  const size_t last = path.find_last_not_of('/');
  return last == std::string::npos ? path.substr(0, 1) : path.substr(0, last + 1);
}

// Ok(true) if `path` is a directory, Ok(false) if there is nothing.
Result<bool> directory_exists(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return true;
    return io_error("make directory", path, ENOTDIR);
  }
  if (errno == ENOENT) return false;
  return io_error("make directory", path, errno);
}

Status make_one_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return failure("make directory", path, errno);
}

}  // namespace

Result<std::unique_ptr<File>> PosixFileSystem::open(const std::string& path, Mode mode) {
  const int flags = open_flags(mode) | O_CLOEXEC;
  const int descriptor = open_at_once(path, flags);
  if (descriptor < 0) return open_failure(path, errno);
  auto file = std::make_unique<PosixFile>(path, descriptor);
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) return failure("stat", path, errno);
  EHUB_RETURN_IF_ERROR(require_file(status, path));
  return std::unique_ptr<File>(std::move(file));
}

Result<std::unique_ptr<File>> PosixFileSystem::open_directory(const std::string& directory) {
  const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  const int descriptor = retry_interrupted([&] { return ::open(directory.c_str(), flags); });
  if (descriptor < 0) return failure("open directory", directory, errno);
  return std::unique_ptr<File>(std::make_unique<PosixFile>(directory, descriptor, true));
}

Status PosixFileSystem::make_directory(const std::string& given) {
  std::vector<std::string> missing;  // deepest first
  std::string path = without_trailing_slashes(given);
  for (;;) {
    const Result<bool> exists = directory_exists(path);
    if (!exists.ok()) return exists.status();
    if (exists.value()) break;
    missing.push_back(path);
    path = parent_of(path);
  }
  // The deepest that exists may be the work of a process that died before its sync, unless its parent is not ours to
  // change, in which case we may also be forbidden to sync it.
  const std::string parent = parent_of(path);
  const Status synced = sync_directory(parent);
  if (!synced.ok() && ::access(parent.c_str(), W_OK) == 0) return synced;
  for (; !missing.empty(); missing.pop_back()) {
    EHUB_RETURN_IF_ERROR(make_one_directory(missing.back()));
    EHUB_RETURN_IF_ERROR(sync_directory(parent_of(missing.back())));
  }
  return {};
}

Result<std::vector<std::string>> PosixFileSystem::list(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), ::closedir);
  if (stream == nullptr) return failure("list", directory, errno);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return failure("list", directory, errno);
  std::sort(names.begin(), names.end());
  return names;
}

Status PosixFileSystem::rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return failure("rename", from + " to " + to, errno);
  return {};
}

Status PosixFileSystem::remove(const std::string& path) {
  if (std::remove(path.c_str()) != 0) return failure("remove", path, errno);
  return {};
}

Status PosixFileSystem::sync_directory(const std::string& directory) {
  const auto opened = open_directory(directory);
  return opened.ok() ? opened.value()->sync() : opened.status();
}

FileSystem& posix_file_system() {
  static PosixFileSystem instance;
  return instance;
}

}  // namespace ehub
