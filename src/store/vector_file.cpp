#include "store/vector_file.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "io/checked_mapping.h"

namespace ehub {
namespace {

// The system can keep a piece that was written whole as one page, and map it as one, which rows are read from in half
// the time. Small enough that it is still in the cache when it is summed, and that the disk starts early.
constexpr uint64_t kPieceBytes = kHugePageBytes;
static_assert(kPieceBytes % kChecksumBlockBytes == 0);

constexpr uint64_t kReserveBytesMin = 256 << 10;
constexpr uint64_t kReserveAheadBytesMax = 64 << 20;

// Pieces end at multiples of their size, so that all but the last one are whole pages and whole blocks.
uint64_t piece_size(uint64_t at, uint64_t end) { return std::min(end - at, kPieceBytes - at % kPieceBytes); }

}  // namespace

VectorFile::VectorFile(std::string path, std::unique_ptr<File> file, uint64_t row_bytes, Row rows_max)
    : path_(std::move(path)), file_(std::move(file)), row_bytes_(row_bytes), rows_max_(rows_max) {}

Result<std::unique_ptr<VectorFile>> VectorFile::open(FileSystem& fs, const std::string& path, FileSystem::Mode mode,
                                                     uint64_t row_bytes, Row rows_max) {
  EHUB_ASSERT(row_bytes > 0 && row_bytes % sizeof(float) == 0 && row_bytes <= kDimsMax * sizeof(float));
  EHUB_ASSERT(rows_max <= kSegmentRowsMax);
  auto file = fs.open(path, mode);
  if (!file.ok()) return mode == FileSystem::Mode::kCreate ? of_making(file.status()) : file.status();
  std::unique_ptr<VectorFile> vectors(new VectorFile(path, std::move(file.value()), row_bytes, rows_max));
  auto mapping = vectors->file_->map(vectors->end_of(rows_max));
  if (!mapping.ok()) return mapping.status();
  vectors->mapping_ = std::move(mapping.value());
  return vectors;
}

Result<std::unique_ptr<VectorFile>> VectorFile::create(FileSystem& fs, const std::string& path, uint64_t row_bytes,
                                                       Row rows_max) {
  return open(fs, path, FileSystem::Mode::kCreate, row_bytes, rows_max);
}

Result<std::unique_ptr<VectorFile>> VectorFile::adopt(FileSystem& fs, const std::string& path, uint64_t row_bytes,
                                                      Row rows_max, Row rows, std::vector<uint32_t> block_crcs,
                                                      bool writable) {
  const auto mode = writable ? FileSystem::Mode::kWrite : FileSystem::Mode::kRead;
  auto opened = open(fs, path, mode, row_bytes, rows_max);
  if (!opened.ok()) return opened;
  VectorFile& vectors = *opened.value();
  const Result<uint64_t> size = vectors.file_->size();
  if (!size.ok()) return size.status();
  const uint64_t end = rows * row_bytes;
  if (rows > rows_max || block_crcs.size() != checksum_blocks(end)) {
    return corruption(path, 0, "checksums of another number of rows than " + std::to_string(rows));
  }
  if (size.value() < end) return corruption(path, size.value(), "the file ends before its rows do");
  vectors.rows_ = rows;
  vectors.reserved_bytes_ = size.value();
  vectors.dirty_ = vectors.size_doubtful_ = writable;
  vectors.block_crcs_ = std::move(block_crcs);
  return opened;
}

Status VectorFile::append(const float* vectors, Row n, StopFlag stop) {
  EHUB_ASSERT(n <= rows_max_ - rows_);
  const uint64_t begin = end_of(rows_);
  const uint64_t end = end_of(rows_ + n);
  const uint32_t tail_crc = block_crcs_.empty() ? 0 : block_crcs_.back();
  reserve_checksums(checksum_blocks(end));
  Status written = reserve_for(end);
  if (written.ok()) written = write_pieces(reinterpret_cast<const uint8_t*>(vectors), begin, end, stop);
  if (!written.ok()) {
    rollback(rows_, tail_crc);
    give_back();
    return written;
  }
  rows_ += n;
  return {};
}

// Summed is what the file has, not what the caller has: another thread may be changing that.
Status VectorFile::write_pieces(const uint8_t* bytes, uint64_t begin, uint64_t end, StopFlag stop) {
  for (uint64_t at = begin; at < end;) {
    if (is_wanted(stop)) return stopped("the write");
    const uint64_t size = piece_size(at, end);
    dirty_ = true;
    EHUB_RETURN_IF_ERROR(file_->write(at, bytes + (at - begin), size));
    file_->start_writeback(at, size);
    add_block_checksums(block_crcs_, at, mapping_.data + at, size);
    at += size;
  }
  return {};
}

// Memory must not run out between a write and its sum.
void VectorFile::reserve_checksums(size_t blocks) {
  if (blocks > block_crcs_.capacity()) block_crcs_.reserve(std::max(blocks, 2 * block_crcs_.capacity()));
}

// Blocks are reserved ahead in steps that double with the file: few calls for a large one, little waste for a small
// one.
Status VectorFile::reserve_for(uint64_t end) {
  if (end <= reserved_bytes_) return {};
  const uint64_t ahead = std::min(end, kReserveAheadBytesMax);
  const uint64_t wanted = align_up(std::max(end + ahead, kReserveBytesMin), kChecksumBlockBytes);
  const uint64_t target = std::max(end, std::min(wanted, end_of(rows_max_)));
  Status reserved = file_->reserve(target);
  if (reserved.ok()) {
    reserved_bytes_ = target;
    return {};
  }
  if (!reserved.is_full_disk() || target == end) return reserved;
  EHUB_RETURN_IF_ERROR(file_->reserve(end));
  reserved_bytes_ = end;
  return {};
}

void VectorFile::give_back() {
  if (file_->truncate(end_of(rows_)).ok()) reserved_bytes_ = end_of(rows_);
}

void VectorFile::rollback(Row rows, uint32_t tail_crc) {
  EHUB_ASSERT(rows <= rows_);
  const uint64_t end = end_of(rows);
  rows_ = rows;
  block_crcs_.resize(checksum_blocks(end));
  if (end % kChecksumBlockBytes != 0) block_crcs_.back() = tail_crc;
}

void VectorFile::extend(Row rows, const std::vector<uint32_t>& crcs, uint64_t first_block) {
  EHUB_ASSERT(rows_ <= rows && rows <= rows_max_);
  EHUB_ASSERT(first_block <= block_crcs_.size());
  block_crcs_.resize(first_block);
  block_crcs_.insert(block_crcs_.end(), crcs.begin(), crcs.end());
  EHUB_ASSERT(block_crcs_.size() == checksum_blocks(end_of(rows)));
  rows_ = rows;
}

template <typename Use>
Status VectorFile::for_each_piece(uint64_t begin, uint64_t end, Use use) const {
  std::vector<uint8_t> piece(std::min(end - begin, kPieceBytes));
  for (uint64_t at = begin; at < end;) {
    const uint64_t size = piece_size(at, end);
    EHUB_RETURN_IF_ERROR(file_->read(at, piece.data(), size));
    EHUB_RETURN_IF_ERROR(use(piece.data(), at, size));
    at += size;
  }
  return {};
}

Result<bool> VectorFile::matches(Row first) const {
  EHUB_ASSERT(first <= rows_);
  const uint64_t end = end_of(rows_);
  const Result<uint64_t> size = file_->size();
  if (!size.ok()) return size.status();
  if (size.value() < end) return false;
  const uint64_t first_block = end_of(first) / kChecksumBlockBytes;
  // A file whose sums are zeros up to the first block asked for: only those from there on are compared.
  std::vector<uint32_t> crcs(first_block);
  EHUB_RETURN_IF_ERROR(for_each_piece(std::min(first_block * kChecksumBlockBytes, end), end,
                                      [&](const uint8_t* piece, uint64_t at, uint64_t piece_bytes) {
                                        add_block_checksums(crcs, at, piece, piece_bytes);
                                        return Status();
                                      }));
  return std::equal(crcs.begin() + static_cast<ptrdiff_t>(first_block), crcs.end(),
                    block_crcs_.begin() + static_cast<ptrdiff_t>(first_block), block_crcs_.end());
}

Status VectorFile::rewrite(Row first) {
  EHUB_ASSERT(first <= rows_);
  return for_each_piece(end_of(first), end_of(rows_), [&](const uint8_t* piece, uint64_t at, uint64_t size) {
    dirty_ = true;
    EHUB_RETURN_IF_ERROR(file_->write(at, piece, size));
    file_->start_writeback(at, size);
    return Status();
  });
}

Status VectorFile::sync() {
  if (!dirty_) return {};
  EHUB_RETURN_IF_ERROR(file_->sync());
  dirty_ = false;
  return {};
}

Status VectorFile::finish() {
  const uint64_t end = end_of(rows_);
  // After a sync that failed the file may show a size that the disk does not have, and cutting it to that size again
  // would change nothing and sync nothing.
  if (size_doubtful_) EHUB_RETURN_IF_ERROR(file_->truncate(end + 1));
  EHUB_RETURN_IF_ERROR(file_->truncate(end));
  reserved_bytes_ = end;
  size_doubtful_ = true;
  EHUB_RETURN_IF_ERROR(file_->sync());
  dirty_ = size_doubtful_ = false;
  return {};
}

}  // namespace ehub
