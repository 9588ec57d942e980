#include "io/block_writer.h"

#include <algorithm>

#include "base/bytes.h"
#include "io/checked_mapping.h"

namespace ehub {
namespace {

// Which the system can then map as one: lookups by key touch places all over a file.
constexpr size_t kBufferBytes = kHugePageBytes;

}  // namespace

BlockWriter::BlockWriter(File& file, uint64_t block_bytes) : file_(file), block_bytes_(block_bytes) {
  buffer_.reserve(kBufferBytes);
}

void BlockWriter::put(const void* data, size_t size) {
  const auto* at = static_cast<const uint8_t*>(data);
  while (size > 0) {
    const size_t part = std::min(size, kBufferBytes - buffer_.size());
    buffer_.insert(buffer_.end(), at, at + part);
    at += part;
    size -= part;
    if (buffer_.size() == kBufferBytes) flush();
  }
}

void BlockWriter::align(size_t alignment) {
  static constexpr uint8_t kZeros[64] = {};
  EHUB_ASSERT(alignment <= sizeof(kZeros));
  put(kZeros, align_up(offset(), alignment) - offset());
}

void BlockWriter::flush() {
  if (status_.ok()) status_ = file_.write(flushed_bytes_, buffer_.data(), buffer_.size());
  if (status_.ok()) file_.start_writeback(flushed_bytes_, buffer_.size());
  add_block_checksums(block_crcs_, flushed_bytes_, buffer_.data(), buffer_.size(), block_bytes_);
  flushed_bytes_ += buffer_.size();
  buffer_.clear();
}

}  // namespace ehub
