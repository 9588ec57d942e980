// A mapped immutable file whose blocks are checked against their checksums the first time they are touched.
//
// Open costs nothing in the size of the file; a damaged block is found by the first read that touches it, and never
// returned. A block that was found good stays so: one bit in memory.
//
// Thread-safety: all calls from any thread; two threads may check the same block twice, with the same result. (One bit
// guards bytes that never change, so its order against them does not matter.)

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/finding.h"
#include "base/limits.h"
#include "base/status.h"
#include "io/file.h"

namespace ehub {

class CheckedMapping {
 public:
  // Covers the first `covered_bytes` bytes of `mapping` with one CRC-32C per `block_bytes`, the last block being what
  // is left. Requires: covered_bytes <= mapping.size_bytes, block_crcs.size() == blocks needed, block_bytes a power of
  // two.
  CheckedMapping(std::string path, Mapping mapping, uint64_t covered_bytes, std::vector<uint32_t> block_crcs,
                 uint64_t block_bytes = kChecksumBlockBytes);

  // A pointer to bytes [offset, offset + size), every block of which is good. kCorruption names the file and the
  // block's offset. Requires: offset + size <= covered bytes.
  Result<const uint8_t*> bytes(uint64_t offset, uint64_t size) const {
    EHUB_ASSERT(size <= covered_bytes_ && offset <= covered_bytes_ - size);
    if (!known_good(offset, size)) [[unlikely]]
      EHUB_RETURN_IF_ERROR(check(offset, size));
    return mapping_.data + offset;
  }
  // The same if those bytes are in a block that was found good before, else null: for loops that then ask bytes().
  const uint8_t* known(uint64_t offset, uint64_t size) const {
    EHUB_ASSERT(size <= covered_bytes_ && offset <= covered_bytes_ - size);
    return known_good(offset, size) ? mapping_.data + offset : nullptr;
  }
  // The same without checking, for a prefetch.
  const uint8_t* unchecked(uint64_t offset) const { return mapping_.data + offset; }
  // Checks every block again, also those found good before. The first damaged one, or ok.
  Status verify_all() const;
  // The same, and tells of each run of damaged blocks, up to a hundred, and of how many more there are. `checked`:
  // where bytes are counted as they are checked; null: nowhere.
  std::vector<Finding> findings(std::atomic<uint64_t>* checked = nullptr) const;
  // Whether the blocks of [offset, offset + size) are good; for salvage.
  bool good(uint64_t offset, uint64_t size) const { return bytes(offset, size).ok(); }

  const std::string& path() const { return path_; }
  uint64_t covered_bytes() const { return covered_bytes_; }

 private:
  bool block_known_good(uint64_t block) const {
    return ((good_blocks_[block / 64].load(std::memory_order_relaxed) >> (block % 64)) & 1) != 0;
  }
  // True only for bytes within one block; check() sees to the rest.
  bool known_good(uint64_t offset, uint64_t size) const {
    if (size == 0) return true;
    const uint64_t block = offset >> block_shift_;
    return block == (offset + size - 1) >> block_shift_ && block_known_good(block);
  }
  // Checks those blocks of a range that are not known to be good.
  Status check(uint64_t offset, uint64_t size) const;
  Status check_block(uint64_t block) const;
  uint64_t block_bytes() const { return uint64_t{1} << block_shift_; }

  std::string path_;
  Mapping mapping_;
  uint64_t covered_bytes_;
  int block_shift_;
  std::vector<uint32_t> block_crcs_;
  std::unique_ptr<std::atomic<uint64_t>[]> good_blocks_;  // one bit per block
};

// How many checksum blocks `bytes` take.
constexpr uint64_t checksum_blocks(uint64_t bytes, uint64_t block_bytes = kChecksumBlockBytes) {
  return (bytes + block_bytes - 1) / block_bytes;
}

// Carries `crcs`, one CRC-32C per block of a file's first `offset` bytes, on over the `size` bytes that follow. The
// last one is of what its block holds so far.
void add_block_checksums(std::vector<uint32_t>& crcs, uint64_t offset, const void* bytes, uint64_t size,
                         uint64_t block_bytes = kChecksumBlockBytes);

}  // namespace ehub
