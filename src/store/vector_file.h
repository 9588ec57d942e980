// A growing `.f32` file: nothing but the vectors of a segment, row after row, and the checksum of each block so far.
//
// Rows are appended unsynced and become durable with sync(). Writing overlaps with the disk: the file reserves blocks
// ahead, and each piece starts its way to the disk while the next one is copied and summed.
//
// Thread-safety: one thread at a time; the mapping may be read by any thread up to the rows appended before.
// Failure: after a failed append nothing is appended, nor if memory runs out in it. After a failed sync() discard the
// object.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/stop.h"
#include "io/file.h"
#include "store/types.h"

namespace ehub {

class VectorFile {
 public:
  // Makes the file, emptied if it exists. `row_bytes`: of one vector. `rows_max`: what the mapping will reach.
  static Result<std::unique_ptr<VectorFile>> create(FileSystem& fs, const std::string& path, uint64_t row_bytes,
                                                    Row rows_max);
  // Takes over a file that another process wrote. `block_crcs`: as block_crcs() was when it had `rows` rows; that the
  // bytes match them is for matches() to say. kCorruption if the file is too short or the sums are of another number of
  // rows. `writable` false: for a reader; then only extend(), rollback() and the const calls are of use.
  static Result<std::unique_ptr<VectorFile>> adopt(FileSystem& fs, const std::string& path, uint64_t row_bytes,
                                                   Row rows_max, Row rows, std::vector<uint32_t> block_crcs,
                                                   bool writable);

  // Another thread may write to `vectors` meanwhile: what the file then has of them, its sums are of. Requires: rows()
  // + n <= rows_max.
  // kDeadline once `stop` is wanted.
  Status append(const float* vectors, Row n, StopFlag stop = nullptr);
  // Forgets the rows from `rows` on; the next append writes over them. `tail_crc`: block_crcs() value of the block that
  // holds the end of the rows that stay, as it was then (ignored if they end at a block boundary).
  void rollback(Row rows, uint32_t tail_crc);
  // Extends the rows to `rows` that another process has written, with these sums from block `first_block` on, which
  // take the place of those held so far. Ask matches() before touching the mapping there. Requires: rows() <= rows <=
  // rows_max, first_block <= blocks of rows(), as many sums as the rows take.
  void extend(Row rows, const std::vector<uint32_t>& crcs, uint64_t first_block);
  // True if the bytes of all rows in the blocks from the one of row `first` on match the sums held here. False, too, if
  // the file ends before them. Requires: first <= rows().
  Result<bool> matches(Row first) const;
  // Writes rows [first, rows()) again as they read now, so that the next sync() moves them to the disk whatever an
  // earlier, failed sync did to them. Requires: first <= rows().
  Status rewrite(Row first);
  // Returns at once if nothing was written since the last sync.
  Status sync();
  // Cuts what was reserved beyond the rows and syncs: the file is final. May be called again after a failure.
  Status finish();

  // On a full disk, what was reserved for rows that were taken back is the room that a delete needs in the log.
  void give_back();

  Row rows() const { return rows_; }
  // Whether rows may not be on the disk yet; after adopt() nobody knows, so they may not.
  bool dirty() const { return dirty_; }
  // One CRC-32C per kChecksumBlockBytes of the rows so far; the last one may be of a part of a block.
  const std::vector<uint32_t>& block_crcs() const { return block_crcs_; }
  // Stable for the life of `owner`: reaches to rows_max.
  const Mapping& mapping() const { return mapping_; }
  const std::string& path() const { return path_; }

 private:
  VectorFile(std::string path, std::unique_ptr<File> file, uint64_t row_bytes, Row rows_max);
  static Result<std::unique_ptr<VectorFile>> open(FileSystem& fs, const std::string& path, FileSystem::Mode mode,
                                                  uint64_t row_bytes, Row rows_max);

  uint64_t end_of(Row rows) const { return rows * row_bytes_; }
  Status reserve_for(uint64_t end);
  void reserve_checksums(size_t blocks);
  Status write_pieces(const uint8_t* bytes, uint64_t begin, uint64_t end, StopFlag stop);
  // Reads bytes [begin, end), piece by piece, in memory of one piece, until `use(bytes, offset, size)` fails.
  template <typename Use>
  Status for_each_piece(uint64_t begin, uint64_t end, Use use) const;

  std::string path_;
  std::unique_ptr<File> file_;
  uint64_t row_bytes_;
  Row rows_max_;
  Row rows_ = 0;
  uint64_t reserved_bytes_ = 0;
  bool dirty_ = false;
  bool size_doubtful_ = false;  // the disk may have another size than size() says
  std::vector<uint32_t> block_crcs_;
  Mapping mapping_;
};

}  // namespace ehub
