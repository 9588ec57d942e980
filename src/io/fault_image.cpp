#include "io/fault_image.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace ehub {

// Zeroed memory that keeps its address. Above the threshold the kernel gives out pages as they are touched, so that a
// mapping may reserve far more than the file will fill.
class FileImage::Memory {
 public:
  explicit Memory(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {
    data_ = static_cast<uint8_t*>(lazy() ? map_pages() : std::calloc(1, capacity_bytes));
    EHUB_ASSERT(data_ != nullptr);
  }
  ~Memory() {
    if (lazy()) {
      ::munmap(data_, capacity_bytes_);
    } else {
      std::free(data_);
    }
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uint8_t* data() const { return data_; }
  uint64_t capacity_bytes() const { return capacity_bytes_; }

  // How many images have it: a disk and its clones, which may be in use by several threads.
  std::atomic<int> images = 1;

 private:
  static constexpr uint64_t kLazyBytesMin = 64 << 10;

  bool lazy() const { return capacity_bytes_ >= kLazyBytesMin; }
  void* map_pages() const {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* const start = ::mmap(nullptr, capacity_bytes_, PROT_READ | PROT_WRITE, flags, -1, 0);
    return start == MAP_FAILED ? nullptr : start;
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
  return {memory_->data(), size, memory_};
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
    std::erase_if(outgrown_, [](const std::weak_ptr<Memory>& weak) { return weak.expired(); });
    const bool mapped = !shared && memory_.use_count() > 1;
    if (mapped) outgrown_.push_back(memory_);
    --memory_->images;
  }
  memory_ = std::move(grown);
}

}  // namespace ehub
