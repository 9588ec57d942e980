#include "io/fault_image.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/hash.h"

namespace ehub {
namespace {

constexpr uint64_t kLazyBytesMin = 64 << 10;
constexpr uint64_t kKeptBytesMax = 4 << 20;  // of one block

// Blocks of zeros for the files of the next simulated disk: to have the kernel take pages back and give them out again
// costs more than all that an attack does with them. Nobody waits for it: the process may be a fork of one in which
// another thread was in here.
//
// Thread-safety: all calls, from any thread.
class KeptBlocks {
 public:
  // Of so many bytes, a power of two; null: there is none.
  void* take(uint64_t bytes) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock || bytes > kKeptBytesMax || of(bytes).empty()) return nullptr;
    void* const block = of(bytes).back();
    of(bytes).pop_back();
    return block;
  }
  // Whether it is kept; then it must be zeros.
  bool keep(void* block, uint64_t bytes) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock || bytes > kKeptBytesMax || of(bytes).size() >= kBlocksMax) return false;
    of(bytes).push_back(block);
    return true;
  }

 private:
  static constexpr size_t kBlocksMax = 32;  // of one size

  std::vector<void*>& of(uint64_t bytes) { return blocks_[std::countr_zero(bytes)]; }

  std::mutex mutex_;
  std::array<std::vector<void*>, std::bit_width(kKeptBytesMax)> blocks_;
};

KeptBlocks& kept_blocks() {
  static auto* const blocks = new KeptBlocks;  // disks may outlive what ends before them at the process's end
  return *blocks;
}

uint64_t capacity_for(uint64_t bytes) { return bytes < kLazyBytesMin ? bytes : std::bit_ceil(bytes); }

void* map_pages(uint64_t bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const start = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  return start == MAP_FAILED ? nullptr : start;
}

}  // namespace

// Zeroed memory that keeps its address. Above the threshold the kernel gives out pages as they are touched, so that a
// mapping may reserve far more than the file will fill.
class FileImage::Memory {
 public:
  explicit Memory(uint64_t bytes) : capacity_bytes_(capacity_for(bytes)) {
    data_ = static_cast<uint8_t*>(lazy() ? kept_blocks().take(capacity_bytes_) : std::calloc(1, capacity_bytes_));
    if (data_ == nullptr && lazy()) data_ = static_cast<uint8_t*>(map_pages(capacity_bytes_));
    EHUB_ASSERT(data_ != nullptr);
  }
  ~Memory() {
    if (!lazy()) {
      std::free(data_);
    } else if (!is_kept()) {
      ::munmap(data_, capacity_bytes_);
    }
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uint8_t* data() const { return data_; }
  uint64_t capacity_bytes() const { return capacity_bytes_; }

  // How many images have it: a disk and its clones, which may be in use by several threads.
  std::atomic<int> images = 1;
  uint64_t written_bytes = 0;  // beyond, all is zero
  bool mapped = false;         // at some time

 private:
  bool lazy() const { return capacity_bytes_ >= kLazyBytesMin; }

  // What was mapped goes back to the kernel, so that whoever reads it too late does not get away with it.
  bool is_kept() const {
    if (mapped || capacity_bytes_ > kKeptBytesMax) return false;
    std::memset(data_, 0, written_bytes);
    return kept_blocks().keep(data_, capacity_bytes_);
  }

  uint64_t capacity_bytes_;
  uint8_t* data_;
};

namespace {

constexpr uint64_t kFirstCapacityBytes = 1024;

}  // namespace

FileImage::FileImage(const FileImage& other) : size_bytes_(other.size_bytes_), touched_bytes_(other.touched_bytes_) {
  if (touched_bytes_ == 0) return;
  const bool mapped = other.memory_.use_count() > other.memory_->images;
  if (mapped) {
    own(touched_bytes_);
    std::memcpy(memory_->data(), other.memory_->data(), touched_bytes_);
    memory_->written_bytes = touched_bytes_;
  } else {
    memory_ = other.memory_;
    ++memory_->images;
  }
}

FileImage& FileImage::operator=(const FileImage& other) {
  if (this != &other) *this = FileImage(other);
  return *this;
}

FileImage::FileImage(FileImage&& other) noexcept { *this = std::move(other); }

FileImage& FileImage::operator=(FileImage&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(outgrown_, other.outgrown_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(touched_bytes_, other.touched_bytes_);
  return *this;
}

FileImage::~FileImage() {
  if (memory_ != nullptr) --memory_->images;
}

void FileImage::read(uint64_t offset, uint8_t* to, size_t size) const {
  EHUB_ASSERT(size <= size_bytes_ && offset <= size_bytes_ - size);
  const size_t touched = offset >= touched_bytes_ ? 0 : std::min<uint64_t>(size, touched_bytes_ - offset);
  if (touched > 0) std::memcpy(to, memory_->data() + offset, touched);
  if (touched < size) std::memset(to + touched, 0, size - touched);
}

void FileImage::write(uint64_t offset, const uint8_t* data, size_t size) {
  EHUB_ASSERT(size <= kImageBytesMax && offset <= kImageBytesMax - size);
  if (size == 0) return;
  own(offset + size);
  std::memcpy(memory_->data() + offset, data, size);
  memory_->written_bytes = std::max(memory_->written_bytes, offset + size);
  for (const std::weak_ptr<Memory>& weak : outgrown_) {
    const std::shared_ptr<Memory> old = weak.lock();
    if (old == nullptr || old->capacity_bytes() <= offset) continue;
    std::memcpy(old->data() + offset, data, std::min<uint64_t>(size, old->capacity_bytes() - offset));
  }
  size_bytes_ = std::max(size_bytes_, offset + size);
  touched_bytes_ = std::max(touched_bytes_, offset + size);
}

void FileImage::resize(uint64_t size) {
  EHUB_ASSERT(size <= kImageBytesMax);
  if (size < touched_bytes_) {
    own(touched_bytes_);
    zero_from(size);
    touched_bytes_ = size;
  }
  size_bytes_ = size;
}

Mapping FileImage::map(size_t size) {
  EHUB_ASSERT(0 < size && size <= kImageBytesMax);
  own(size);
  memory_->mapped = true;
  return {memory_->data(), size, memory_};
}

uint64_t FileImage::fingerprint(uint64_t seed) const {
  const uint8_t* const data = touched_bytes_ == 0 ? nullptr : memory_->data();
  uint64_t end = touched_bytes_;
  while (end >= sizeof(uint64_t) && load_le<uint64_t>(data + end - sizeof(uint64_t)) == 0) end -= sizeof(uint64_t);
  while (end > 0 && data[end - 1] == 0) --end;
  const uint64_t sized = hash_key(seed, reinterpret_cast<const char*>(&size_bytes_), sizeof(size_bytes_));
  return hash_key(sized, reinterpret_cast<const char*>(data), end);
}

void FileImage::zero_from(uint64_t offset) {
  std::memset(memory_->data() + offset, 0, touched_bytes_ - offset);
  for (const std::weak_ptr<Memory>& weak : outgrown_) {
    const std::shared_ptr<Memory> old = weak.lock();
    if (old == nullptr || old->capacity_bytes() <= offset) continue;
    std::memset(old->data() + offset, 0, std::min(touched_bytes_, old->capacity_bytes()) - offset);
  }
}

void FileImage::own(uint64_t capacity_bytes) {
  const uint64_t present = memory_ == nullptr ? 0 : memory_->capacity_bytes();
  const bool shared = memory_ != nullptr && memory_->images > 1;
  if (capacity_bytes <= present && !shared) return;
  const uint64_t grown_bytes = capacity_bytes <= present ? present : std::max(2 * present, kFirstCapacityBytes);
  auto grown = std::make_shared<Memory>(std::max(capacity_bytes, grown_bytes));
  if (memory_ != nullptr) {
    std::memcpy(grown->data(), memory_->data(), touched_bytes_);
    grown->written_bytes = touched_bytes_;
    std::erase_if(outgrown_, [](const std::weak_ptr<Memory>& weak) { return weak.expired(); });
    const bool mapped = !shared && memory_.use_count() > 1;
    if (mapped) outgrown_.push_back(memory_);
    --memory_->images;
  }
  memory_ = std::move(grown);
}

}  // namespace ehub
