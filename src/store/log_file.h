// The WAL as a file: records that are whole or not there. FORMAT.md has every byte; log_record.h what is in a payload.
//
// A record is a 48-byte header with a checksum of its own and a payload with another, 8-byte aligned:
//
//    0  u32  magic "EHWR"
//    4  u32  masked CRC-32C of bytes 8..47
//    8  u64  log number: a record left over from an earlier life of a recycled file never matches
//   16  u64  seq
//   24  u64  synced_seq: the highest seq known to be on the disk when this was written
//   32  u64  payload bytes
//   40  u32  masked CRC-32C of the payload
//   44  u32  record type
//
// The first record of a log is its start: number of the log before it, its end and its last seq, so that a missing or
// shortened log in the middle is noticed.
//
// The disk is faster at writing over blocks than at growing a file, so for small groups a log grows by whole zeroed
// steps, and the file of a log that is no longer needed becomes the next one.
//
// Thread-safety: one thread at a time.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/file.h"
#include "store/types.h"

namespace ehub {

using LogNumber = uint64_t;

struct LogRecordHeader;  // log_format.h

enum class LogRecordType : uint32_t {
  kStart = 1,    // LogStart
  kCarried = 2,  // rows that a checkpoint left in the log instead of sealing them; only of use in the first log
  kBatch = 3,    // one batch
};

// What log `number` continues.
struct LogStart {
  LogNumber previous = 0;       // 0: none
  uint64_t previous_bytes = 0;  // where its last record ended
  Seq previous_seq = 0;         // the last seq before this log
};

struct LogRecord {
  LogRecordType type = LogRecordType::kBatch;
  Seq seq = 0;
  Seq synced_seq = 0;
  uint64_t offset = 0;  // of its header
  std::vector<uint8_t> payload;
};

// "<directory>/<number, 12 digits>.log"
std::string log_path(const std::string& directory, LogNumber number);

class LogWriter {
 public:
  // Begins log `number` with its start record, unsynced. `spare`: path of a file whose blocks may be written over and
  // which is renamed; if it is "" or missing, the log gets a new file. `ahead`: as of write(). A small log grows by
  // `step_bytes`, a larger one by more. The caller syncs the directory before it writes anything else.
  static Result<std::unique_ptr<LogWriter>> create(FileSystem& fs, const std::string& directory, LogNumber number,
                                                   const LogStart& start, const std::string& spare, uint64_t step_bytes,
                                                   bool ahead = true);

  // Adds a record to the group that write() will write. The payload is copied. If this or write() throws bad_alloc, the
  // caller calls discard().
  void add(LogRecordType type, Seq seq, Seq synced_seq, const void* payload, size_t size);
  // Writes the group with one call. `ahead`: the file may grow by a whole step for a small group, if the disk has room
  // for that; false where room is scarce. On failure the group is dropped and nothing of it will ever be replayed; a
  // failure to ensure that is reported as kReadOnly: then write no more.
  Status write(bool ahead = true);
  // Forgets the group.
  void discard();
  Status sync();
  // Cuts what was allocated beyond the last record, and syncs. Write no more.
  Status finish();

  LogNumber number() const { return number_; }
  // Where the last written record ends.
  uint64_t bytes() const { return end_; }
  // Bytes of the group not yet written.
  uint64_t pending_bytes() const { return group_.size(); }

 private:
  LogWriter(LogNumber number, std::unique_ptr<File> file, uint64_t allocated, uint64_t step_bytes);
  static Result<std::unique_ptr<LogWriter>> begin(FileSystem& fs, const std::string& path, LogNumber number,
                                                  const LogStart& start, const std::string& spare, uint64_t step_bytes,
                                                  bool ahead);
  // How large the file becomes when records up to `end` no longer fit.
  uint64_t grown_bytes(uint64_t end) const;
  Status write_to_file(uint64_t group_bytes);
  // Makes sure that nothing of a group whose write failed can be read; gives the failure back, or kReadOnly.
  Status undo(uint64_t group_bytes, const Status& failure);

  LogNumber number_;
  std::unique_ptr<File> file_;
  uint64_t end_ = 0;
  uint64_t allocated_;  // bytes of the file that have been written at least once
  uint64_t step_bytes_;
  std::vector<uint8_t> group_;
};

// What a start record says; nothing if it is not a well-formed one.
std::optional<LogStart> decode_log_start(const LogRecord& record);

// Reads a log from its beginning, one record at a time, in memory bounded by the largest record.
class LogReader {
 public:
  // kNotFound if the file is missing.
  static Result<std::unique_ptr<LogReader>> open(FileSystem& fs, const std::string& directory, LogNumber number);

  // The next record, or false at the first place where none is: the end, a torn record or a damaged one. May be called
  // again after false, and then sees what has been written since. kFormat for a record of an unknown type.
  Result<bool> next(LogRecord* record);
  // Where next() stopped, or will read on: the end of the last good record.
  uint64_t offset() const { return offset_; }
  // After next() gave false: the highest synced_seq that any record behind this place claims (0 if there is none). If
  // it reaches the seq that is missing here, that record was on the disk once, and this is damage and not a torn tail.
  Result<Seq> synced_behind();
  // After next() gave false: moves on to the next header of this log behind that place, whatever became of its payload.
  // False, and stays, if there is none. For repair.
  Result<bool> skip_damage();

 private:
  LogReader(LogNumber number, std::string path, std::unique_ptr<File> file);
  Result<bool> read_record(LogRecord* record);
  // The first header of this log at or behind `at`, a multiple of 8, to which it moves; nothing up to the end.
  Result<std::optional<LogRecordHeader>> find_header(uint64_t* at);
  // Copies bytes of the file, through the window. Requires: they lie below size_.
  Status read(uint64_t at, void* buffer, size_t size);
  size_t copy_from_window(uint64_t at, uint8_t* to, size_t size) const;
  uint64_t skip_in_window(uint64_t at) const;
  Status fill_window(uint64_t at);
  // Forgets what has been seen of the file beyond offset_.
  Status look_again();
  Status unknown_type(uint32_t type) const;

  LogNumber number_;
  std::string path_;
  std::unique_ptr<File> file_;
  uint64_t size_ = 0;
  uint64_t offset_ = 0;
  uint64_t window_at_ = 0;  // where window_ begins in the file
  std::vector<uint8_t> window_;
};

}  // namespace ehub
