// Memory that runs out on request: the n-th allocation of this thread throws bad_alloc, while counting is on.
//
// bind_nth_allocation.cpp replaces operator new by one that asks allocation_fails(). Where another library's comes
// first (AddressSanitizer's), nothing ever fails: allocations_can_fail() says so.
//
// Thread-safety: each thread counts for itself.

#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "io/file.h"

namespace ehub::crash {

struct AllocationCounter {
  bool counting = false;
  uint64_t made = 0;
  uint64_t failing = UINT64_MAX;  // the number of the one that fails
};

inline thread_local AllocationCounter allocation_counter;

inline bool allocation_fails() {
  AllocationCounter& counter = allocation_counter;
  return counter.counting && counter.made++ == counter.failing;
}

// Turns counting on or off for its life.
class Counting {
 public:
  explicit Counting(bool on) : before_(std::exchange(allocation_counter.counting, on)) {}
  ~Counting() { allocation_counter.counting = before_; }
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

 private:
  bool before_;
};

inline bool allocations_can_fail() {
  const AllocationCounter before = std::exchange(allocation_counter, {true, 0, 0});
  bool failed = false;
  try {
    ::operator delete(::operator new(1));
  } catch (const std::bad_alloc&) {
    failed = true;
  }
  allocation_counter = before;
  return failed;
}

// A file system whose own allocations are not counted: it stands for the kernel.
class CalmFileSystem : public FileSystem {
 public:
  explicit CalmFileSystem(FileSystem& below) : below_(below) {}

  Result<std::unique_ptr<File>> open(const std::string& path, Mode mode) override {
    const Counting off(false);
    return calm(below_.open(path, mode));
  }
  Result<std::unique_ptr<File>> open_directory(const std::string& directory) override {
    const Counting off(false);
    return calm(below_.open_directory(directory));
  }
  Status make_directory(const std::string& path) override {
    const Counting off(false);
    return below_.make_directory(path);
  }
  Result<std::vector<std::string>> list(const std::string& directory) override {
    const Counting off(false);
    return below_.list(directory);
  }
  Status rename(const std::string& from, const std::string& to) override {
    const Counting off(false);
    return below_.rename(from, to);
  }
  Status remove(const std::string& path) override {
    const Counting off(false);
    return below_.remove(path);
  }
  Status sync_directory(const std::string& directory) override {
    const Counting off(false);
    return below_.sync_directory(directory);
  }

 private:
  class CalmFile : public File {
   public:
    explicit CalmFile(std::unique_ptr<File> below) : below_(std::move(below)) {}
    ~CalmFile() override {
      const Counting off(false);
      below_.reset();
    }
    Status read(uint64_t offset, void* buffer, size_t size) override {
      const Counting off(false);
      return below_->read(offset, buffer, size);
    }
    Status write(uint64_t offset, const void* data, size_t size) override {
      const Counting off(false);
      return below_->write(offset, data, size);
    }
    Status sync() override {
      const Counting off(false);
      return below_->sync();
    }
    void start_writeback(uint64_t, uint64_t) override {}
    Status truncate(uint64_t size) override {
      const Counting off(false);
      return below_->truncate(size);
    }
    Result<uint64_t> size() override {
      const Counting off(false);
      return below_->size();
    }
    Result<Mapping> map(size_t size) override {
      const Counting off(false);
      return below_->map(size);
    }
    Result<bool> try_lock(bool exclusive) override {
      const Counting off(false);
      return below_->try_lock(exclusive);
    }
    void unlock() override {
      const Counting off(false);
      below_->unlock();
    }
    Result<bool> linked() override {
      const Counting off(false);
      return below_->linked();
    }

   private:
    std::unique_ptr<File> below_;
  };

  static Result<std::unique_ptr<File>> calm(Result<std::unique_ptr<File>> file) {
    if (!file.ok()) return file;
    return std::unique_ptr<File>(std::make_unique<CalmFile>(std::move(file.value())));
  }

  FileSystem& below_;
};

}  // namespace ehub::crash
