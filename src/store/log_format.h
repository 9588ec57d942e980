// The bytes of a log record, for the two who must agree on them: the writer and the reader. FORMAT.md, section "Log".
//
// Thread-safety: values and pure functions.

#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/log_file.h"

namespace ehub {

// "EHWR", as the integer that these four bytes are in a file.
inline constexpr uint32_t kLogMagic = 0x52574845;
inline constexpr uint64_t kLogAlignment = 8;

struct LogRecordHeader {
  uint32_t magic = kLogMagic;
  uint32_t header_crc = 0;  // masked, of all that follows it
  uint64_t log_number = 0;
  uint64_t seq = 0;
  uint64_t synced_seq = 0;
  uint64_t payload_bytes = 0;
  uint32_t payload_crc = 0;  // masked
  uint32_t type = 0;         // a LogRecordType
};

static_assert(std::is_trivially_copyable_v<LogRecordHeader>);
static_assert(sizeof(LogRecordHeader) == 48 && sizeof(LogRecordHeader) % kLogAlignment == 0);
static_assert(offsetof(LogRecordHeader, header_crc) == 4);
static_assert(offsetof(LogRecordHeader, log_number) == 8);
static_assert(offsetof(LogRecordHeader, seq) == 16);
static_assert(offsetof(LogRecordHeader, synced_seq) == 24);
static_assert(offsetof(LogRecordHeader, payload_bytes) == 32);
static_assert(offsetof(LogRecordHeader, payload_crc) == 40);
static_assert(offsetof(LogRecordHeader, type) == 44);

// What header_crc of this header should be.
inline uint32_t log_header_crc(const LogRecordHeader& header) {
  constexpr size_t kCovered = offsetof(LogRecordHeader, log_number);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&header);
  return crc_mask(crc32c(0, bytes + kCovered, sizeof(header) - kCovered));
}

inline uint32_t log_payload_crc(const void* payload, size_t size) { return crc_mask(crc32c(0, payload, size)); }

// From the start of a record to the start of the next.
constexpr uint64_t log_record_bytes(uint64_t payload_bytes) {
  return align_up(sizeof(LogRecordHeader) + payload_bytes, kLogAlignment);
}

// The payload of a start record is this struct as it is.
static_assert(std::is_trivially_copyable_v<LogStart> && sizeof(LogStart) == 24);
static_assert(offsetof(LogStart, previous) == 0);
static_assert(offsetof(LogStart, previous_bytes) == 8);
static_assert(offsetof(LogStart, previous_seq) == 16);

}  // namespace ehub
