// Writes an immutable file from front to back and sums its blocks, as CheckedMapping will ask for them.
//
// Thread-safety: one thread.
// Failure: the first one is kept for close(), and nothing is written after it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/limits.h"
#include "base/status.h"
#include "io/file.h"

namespace ehub {

class BlockWriter {
 public:
  // `file`: empty.
  explicit BlockWriter(File& file, uint64_t block_bytes = kChecksumBlockBytes);

  void put(const void* data, size_t size);
  // Zeros up to the next multiple of `alignment`, at most 64.
  void align(size_t alignment);
  // Of what was put so far.
  uint64_t offset() const { return flushed_bytes_ + buffer_.size(); }
  // The sums of all blocks so far.
  std::vector<uint32_t> block_crcs() {
    flush();
    return block_crcs_;
  }
  // Returns when everything is durable.
  Status close() {
    flush();
    return status_.ok() ? file_.sync() : status_;
  }

 private:
  void flush();

  File& file_;
  const uint64_t block_bytes_;
  std::vector<uint8_t> buffer_;
  uint64_t flushed_bytes_ = 0;
  std::vector<uint32_t> block_crcs_;
  Status status_;
};

}  // namespace ehub
