#include <algorithm>
#include <cstring>
#include <utility>

#include "store/log_file.h"
#include "store/log_format.h"

namespace ehub {
namespace {

constexpr uint64_t kWindowBytes = 256 << 10;

bool is_header_of(const LogRecordHeader& header, LogNumber number) {
  return header.magic == kLogMagic && header.log_number == number && header.header_crc == log_header_crc(header);
}

bool is_known(uint32_t type) {
  return type >= static_cast<uint32_t>(LogRecordType::kStart) && type <= static_cast<uint32_t>(LogRecordType::kBatch);
}

}  // namespace

std::optional<LogStart> decode_log_start(const LogRecord& record) {
  if (record.type != LogRecordType::kStart || record.payload.size() != sizeof(LogStart)) return std::nullopt;
  return load_le<LogStart>(record.payload.data());
}

LogReader::LogReader(LogNumber number, std::string path, std::unique_ptr<File> file)
    : number_(number), path_(std::move(path)), file_(std::move(file)) {}

Result<std::unique_ptr<LogReader>> LogReader::open(FileSystem& fs, const std::string& directory, LogNumber number) {
  std::string path = log_path(directory, number);
  Result<std::unique_ptr<File>> file = fs.open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return file.status();
  std::unique_ptr<LogReader> log(new LogReader(number, std::move(path), std::move(file.value())));
  EHUB_RETURN_IF_ERROR(log->look_again());
  return log;
}

Result<bool> LogReader::next(LogRecord* record) {
  Result<bool> found = read_record(record);
  const bool cut = found.status().code() == Code::kCorruption;
  if (found.ok() ? found.value() : !cut) return found;
  // What is known of the file is older than this call. Beside a writer there may be more by now, or less: a log is cut
  // behind its last record when it is finished.
  EHUB_RETURN_IF_ERROR(look_again());
  return read_record(record);
}

Result<bool> LogReader::read_record(LogRecord* record) {
  LogRecordHeader header;
  const uint64_t payload_at = offset_ + sizeof(header);
  if (payload_at > size_) return false;
  EHUB_RETURN_IF_ERROR(read(offset_, &header, sizeof(header)));
  if (!is_header_of(header, number_) || header.payload_bytes > size_ - payload_at) return false;
  if (!is_known(header.type)) return unknown_type(header.type);
  const auto type = static_cast<LogRecordType>(header.type);
  if ((type == LogRecordType::kStart) != (offset_ == 0)) return false;

  record->payload.resize(header.payload_bytes);
  EHUB_RETURN_IF_ERROR(read(payload_at, record->payload.data(), record->payload.size()));
  if (log_payload_crc(record->payload.data(), record->payload.size()) != header.payload_crc) return false;
  record->type = type;
  record->seq = header.seq;
  record->synced_seq = header.synced_seq;
  record->offset = offset_;
  offset_ += log_record_bytes(header.payload_bytes);
  return true;
}

// Every header of this log is believed, whatever became of its payload: what it claims was so when it was written.
Result<Seq> LogReader::synced_behind() {
  Seq synced = 0;
  for (uint64_t at = offset_;; at += kLogAlignment) {
    const auto header = find_header(&at);
    if (!header.ok()) return header.status();
    if (!header.value()) break;
    synced = std::max(synced, header.value()->synced_seq);
  }
  EHUB_RETURN_IF_ERROR(look_again());
  return synced;
}

// A header that is whole says where its record ends, so that nothing in a damaged payload is taken for a record.
Result<bool> LogReader::skip_damage() {
  uint64_t at = offset_;
  auto header = find_header(&at);
  if (!header.ok()) return header.status();
  if (header.value() && at == offset_) {
    if (header.value()->payload_bytes > size_ - at) return false;
    at += log_record_bytes(header.value()->payload_bytes);
    header = find_header(&at);
    if (!header.ok()) return header.status();
  }
  if (!header.value()) return false;
  offset_ = at;
  return true;
}

Result<std::optional<LogRecordHeader>> LogReader::find_header(uint64_t* at) {
  for (;; *at += kLogAlignment) {
    *at = skip_in_window(*at);
    if (*at + sizeof(LogRecordHeader) > size_) break;
    LogRecordHeader header;
    EHUB_RETURN_IF_ERROR(read(*at, &header, sizeof(header)));
    if (is_header_of(header, number_)) return std::optional(header);
  }
  return std::optional<LogRecordHeader>();
}

// The first place from `at` on that may begin a header, as far as the window tells.
uint64_t LogReader::skip_in_window(uint64_t at) const {
  if (at < window_at_) return at;
  const uint64_t window_end = window_at_ + window_.size();
  while (at + sizeof(kLogMagic) <= window_end && load_le<uint32_t>(window_.data() + (at - window_at_)) != kLogMagic) {
    at += kLogAlignment;
  }
  return at;
}

Status LogReader::read(uint64_t at, void* buffer, size_t size) {
  if (size == 0) return {};  // the buffer may be null then
  auto* to = static_cast<uint8_t*>(buffer);
  size_t done = copy_from_window(at, to, size);
  if (done == size) return {};
  // What is larger than the window does not go through it.
  if (size - done >= kWindowBytes) return file_->read(at + done, to + done, size - done);
  EHUB_RETURN_IF_ERROR(fill_window(at + done));
  done += copy_from_window(at + done, to + done, size - done);
  EHUB_ASSERT(done == size);
  return {};
}

size_t LogReader::copy_from_window(uint64_t at, uint8_t* to, size_t size) const {
  const uint64_t window_end = window_at_ + window_.size();
  if (at < window_at_ || at >= window_end) return 0;
  const size_t n = std::min<uint64_t>(size, window_end - at);
  std::memcpy(to, window_.data() + (at - window_at_), n);
  return n;
}

Status LogReader::fill_window(uint64_t at) {
  EHUB_ASSERT(at < size_);
  window_.resize(std::min(kWindowBytes, size_ - at));
  window_at_ = at;
  Status status = file_->read(at, window_.data(), window_.size());
  if (!status.ok()) window_.clear();
  return status;
}

Status LogReader::look_again() {
  window_.clear();
  Result<uint64_t> size = file_->size();
  if (!size.ok()) return size.status();
  size_ = size.value();
  return {};
}

Status LogReader::unknown_type(uint32_t type) const {
  return format_error(path_ + ": the record at byte " + std::to_string(offset_) + " has type " + std::to_string(type) +
                      ", which this version of ehub does not know; open the hub with the version that wrote it");
}

}  // namespace ehub
