#include "io/checked_mapping.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/crc32c.h"

namespace ehub {
namespace {

constexpr size_t kFindingsMax = 100;

// Blocks [first, end).
struct BlockRun {
  uint64_t first;
  uint64_t end;
};

}  // namespace

CheckedMapping::CheckedMapping(std::string path, Mapping mapping, uint64_t covered_bytes,
                               std::vector<uint32_t> block_crcs, uint64_t block_bytes)
    : path_(std::move(path)),
      mapping_(std::move(mapping)),
      covered_bytes_(covered_bytes),
      block_shift_(std::countr_zero(block_bytes)),
      block_crcs_(std::move(block_crcs)),
      good_blocks_(std::make_unique<std::atomic<uint64_t>[]>((block_crcs_.size() + 63) / 64)) {
  EHUB_ASSERT(covered_bytes_ <= mapping_.size_bytes);
  EHUB_ASSERT(std::has_single_bit(block_bytes));
  EHUB_ASSERT(block_crcs_.size() == checksum_blocks(covered_bytes_, block_bytes));
}

Status CheckedMapping::check(uint64_t offset, uint64_t size) const {
  const uint64_t last = (offset + size - 1) >> block_shift_;
  for (uint64_t block = offset >> block_shift_; block <= last; ++block) {
    if (!block_known_good(block)) EHUB_RETURN_IF_ERROR(check_block(block));
  }
  return {};
}

Status CheckedMapping::check_block(uint64_t block) const {
  const uint64_t begin = block << block_shift_;
  const uint64_t size = std::min(block_bytes(), covered_bytes_ - begin);
  if (crc32c(0, mapping_.data + begin, size) != block_crcs_[block]) {
    return corruption(path_, begin, "checksum mismatch in a block of " + std::to_string(size) + " bytes");
  }
  good_blocks_[block / 64].fetch_or(uint64_t{1} << (block % 64), std::memory_order_relaxed);
  return {};
}

Status CheckedMapping::verify_all() const {
  for (uint64_t block = 0; block < block_crcs_.size(); ++block) EHUB_RETURN_IF_ERROR(check_block(block));
  return {};
}

std::vector<Finding> CheckedMapping::findings(std::atomic<uint64_t>* checked) const {
  std::vector<BlockRun> runs;
  for (uint64_t block = 0; block < block_crcs_.size(); ++block) {
    if (checked != nullptr) {
      checked->fetch_add(std::min(block_bytes(), covered_bytes_ - (block << block_shift_)), std::memory_order_relaxed);
    }
    if (check_block(block).ok()) continue;
    if (runs.empty() || runs.back().end != block) runs.push_back({block, block});
    runs.back().end = block + 1;
  }
  std::vector<Finding> findings;
  for (const BlockRun& run : runs) {
    if (findings.size() == kFindingsMax) {
      findings.push_back({path_, std::to_string(runs.size() - kFindingsMax) + " more places are damaged"});
      break;
    }
    const uint64_t end = std::min(run.end << block_shift_, covered_bytes_);
    findings.push_back({path_, "damaged from byte " + std::to_string(run.first << block_shift_) + " to " +
                                   std::to_string(end) +
                                   ": checksum mismatch in blocks: " + std::to_string(run.end - run.first)});
  }
  return findings;
}

void add_block_checksums(std::vector<uint32_t>& crcs, uint64_t offset, const void* bytes, uint64_t size,
                         uint64_t block_bytes) {
  EHUB_ASSERT(crcs.size() == checksum_blocks(offset, block_bytes));
  const auto* at = static_cast<const uint8_t*>(bytes);
  while (size > 0) {
    const uint64_t in_block = offset % block_bytes;
    const uint64_t part = std::min(size, block_bytes - in_block);
    if (in_block == 0) crcs.push_back(0);
    crcs.back() = crc32c(crcs.back(), at, part);
    at += part;
    offset += part;
    size -= part;
  }
}

}  // namespace ehub
