#include "hnsw/buffer.h"

#include <sys/mman.h>

#include <utility>

#include "base/check.h"

namespace ehub::hnsw {

Buffer::Buffer(size_t bytes) {
  std::optional<Buffer> made = make(bytes);
  EHUB_ASSERT(made.has_value());
  *this = std::move(*made);
}

std::optional<Buffer> Buffer::make(size_t bytes) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return std::nullopt;
  // A wish: without huge pages everything works as well, a little slower.
  (void)madvise(mapped, bytes, MADV_HUGEPAGE);
  buffer.data_ = static_cast<uint8_t*>(mapped);
  buffer.bytes_ = bytes;
  return buffer;
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace ehub::hnsw
