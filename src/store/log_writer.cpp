#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <utility>

#include "store/log_file.h"
#include "store/log_format.h"

namespace ehub {
namespace {

// A log that has so many steps grows by as many at once: while it is small it takes little space.
constexpr uint64_t kSmallSteps = 4;

// A group of at least this size grows the file by itself, because zeros ahead of it would cost more than they save. And
// the disk begins with it at once, not at the sync.
constexpr uint64_t kLargeGroupBytes = 64 << 10;

// A group buffer is kept for the next group unless it has grown beyond this.
constexpr size_t kKeptGroupBytes = 4 << 20;

Result<std::unique_ptr<File>> open_for_log(FileSystem& fs, const std::string& path, const std::string& spare) {
  if (spare.empty()) return fs.open(path, FileSystem::Mode::kCreate);
  const Status renamed = fs.rename(spare, path);
  // An earlier attempt that failed may have used the spare up.
  if (renamed.code() == Code::kNotFound) return fs.open(path, FileSystem::Mode::kCreate);
  EHUB_RETURN_IF_ERROR(renamed);
  return fs.open(path, FileSystem::Mode::kWrite);
}

Status cannot_undo(const Status& failure, const Status& undoing) {
  return read_only(failure.message() + "; the log could not be cleaned up after it (" + undoing.message() +
                   "); reopen the hub to write again");
}

}  // namespace

std::string log_path(const std::string& directory, LogNumber number) {
  char name[32];
  std::snprintf(name, sizeof(name), "/%012" PRIu64 ".log", number);
  return directory + name;
}

LogWriter::LogWriter(LogNumber number, std::unique_ptr<File> file, uint64_t allocated, uint64_t step_bytes)
    : number_(number), file_(std::move(file)), allocated_(allocated), step_bytes_(step_bytes) {}

Result<std::unique_ptr<LogWriter>> LogWriter::create(FileSystem& fs, const std::string& directory, LogNumber number,
                                                     const LogStart& start, const std::string& spare,
                                                     uint64_t step_bytes, bool ahead) {
  const std::string path = log_path(directory, number);
  Result<std::unique_ptr<LogWriter>> log = begin(fs, path, number, start, spare, step_bytes, ahead);
  // The log before may go on instead, and then a start record that says where it ended would be a lie.
  if (!log.ok()) (void)fs.remove(path);
  return log;
}

Result<std::unique_ptr<LogWriter>> LogWriter::begin(FileSystem& fs, const std::string& path, LogNumber number,
                                                    const LogStart& start, const std::string& spare,
                                                    uint64_t step_bytes, bool ahead) {
  Result<std::unique_ptr<File>> file = open_for_log(fs, path, spare);
  if (!file.ok()) return of_making(file.status());
  Result<uint64_t> size = file.value()->size();
  if (!size.ok()) return size.status();
  std::unique_ptr<LogWriter> log(new LogWriter(number, std::move(file.value()), size.value(), step_bytes));
  log->add(LogRecordType::kStart, start.previous_seq, 0, &start, sizeof(start));
  EHUB_RETURN_IF_ERROR(log->write(ahead));
  return log;
}

void LogWriter::add(LogRecordType type, Seq seq, Seq synced_seq, const void* payload, size_t size) {
  LogRecordHeader header;
  header.log_number = number_;
  header.seq = seq;
  header.synced_seq = synced_seq;
  header.payload_bytes = size;
  header.payload_crc = log_payload_crc(payload, size);
  header.type = static_cast<uint32_t>(type);
  header.header_crc = log_header_crc(header);

  const auto* header_bytes = reinterpret_cast<const uint8_t*>(&header);
  const auto* payload_bytes = static_cast<const uint8_t*>(payload);
  group_.insert(group_.end(), header_bytes, header_bytes + sizeof(header));
  group_.insert(group_.end(), payload_bytes, payload_bytes + size);
  group_.resize(align_up(group_.size(), kLogAlignment));
}

Status LogWriter::write(bool ahead) {
  if (group_.empty()) return {};
  const uint64_t group_bytes = group_.size();
  const bool is_large = group_bytes >= kLargeGroupBytes;
  if (ahead && !is_large && end_ + group_bytes > allocated_) group_.resize(grown_bytes(end_ + group_bytes) - end_);
  Status status = write_to_file(group_bytes);
  if (status.ok()) {
    allocated_ = std::max<uint64_t>(allocated_, end_ + group_.size());
    if (is_large) file_->start_writeback(end_, group_bytes);
    end_ += group_bytes;
  } else {
    status = undo(group_bytes, status);
  }
  discard();
  return status;
}

uint64_t LogWriter::grown_bytes(uint64_t end) const {
  const uint64_t step = end < kSmallSteps * step_bytes_ ? step_bytes_ : kSmallSteps * step_bytes_;
  return align_up(end + step, step);
}

// A step that does not fit is not needed. What there was room for is zeros behind the group, or the group's beginning,
// which is written again.
Status LogWriter::write_to_file(uint64_t group_bytes) {
  Status status = file_->write(end_, group_.data(), group_.size());
  if (!status.is_full_disk() || group_.size() == group_bytes) return status;
  group_.resize(group_bytes);
  return file_->write(end_, group_.data(), group_bytes);
}

Status LogWriter::undo(uint64_t group_bytes, const Status& failure) {
  Result<uint64_t> size = file_->size();
  if (!size.ok()) return cannot_undo(failure, size.status());
  if (size.value() <= end_) return failure;
  // Not only the first header: a whole record further on would come back to life if a shorter group ended before it.
  // And at once to the disk: after a power cut the failed write may be there and this one not.
  const uint64_t written_bytes = std::min(group_bytes, size.value() - end_);
  std::fill_n(group_.begin(), written_bytes, uint8_t{0});
  Status undone = file_->write(end_, group_.data(), written_bytes);
  if (undone.ok()) undone = file_->sync();
  return undone.ok() ? failure : cannot_undo(failure, undone);
}

void LogWriter::discard() {
  group_.clear();
  if (group_.capacity() > kKeptGroupBytes) group_.shrink_to_fit();
}

Status LogWriter::sync() { return file_->sync(); }

Status LogWriter::finish() {
  EHUB_RETURN_IF_ERROR(file_->truncate(end_));
  allocated_ = end_;
  return file_->sync();
}

}  // namespace ehub
