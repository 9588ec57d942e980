#include "hnsw/buffer.h"

#include <sys/mman.h>

#include <utility>

#include "base/check.h"

namespace ehub::hnsw {

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EHUB_ASSERT(mapped != MAP_FAILED);
  // A wish: without huge pages everything works as well, a little slower.
  (void)madvise(mapped, bytes, MADV_HUGEPAGE);
  data_ = static_cast<uint8_t*>(mapped);
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
