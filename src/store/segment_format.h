// The bytes of a `.seg` file; FORMAT.md, section Segments, says the same in words.
//
//   header | key ends | key bytes | key table | births | partitions | older rows | CRCs of .f32 | CRCs of .seg | footer
//
// The place of every section follows from the lengths of those before it, so a reader can tell a wrong section table
// from a right one.

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "base/status.h"
#include "store/segment_file.h"
#include "store/types.h"

namespace ehub {

inline constexpr char kSegmentMagic[8] = {'E', 'H', 'U', 'B', 'S', 'E', 'G', '1'};
inline constexpr uint32_t kSegmentFormat = 1;
inline constexpr uint64_t kSectionAlignment = 64;

struct SegmentHeader {
  char magic[8];
  uint32_t format;
  uint32_t reserved;  // 0
  uint8_t padding[48];
};
static_assert(sizeof(SegmentHeader) == kSectionAlignment);

enum class Section : uint32_t {
  kKeyEnds,      // per row, where its key ends in the key bytes (key_end_bytes() each); none for integer keys
  kKeyBytes,     // the keys, row after row
  kKeyTable,     // KeyBucket[]
  kBirths,       // Birth[], ascending
  kPartitions,   // u32 per row; none if all are 0
  kOlderRows,    // OlderRow[], ascending by row
  kVectorCrcs,   // u32 per checksum block of the .f32
  kSegmentCrcs,  // u32 per checksum block of this file from its start to the CRCs of the .f32
};
inline constexpr size_t kSectionCount = 8;

struct SectionRange {
  uint64_t offset;
  uint64_t length;
};

// Rows from `first_row` up to the next birth's were born at `seq`.
struct Birth {
  Row first_row;
  uint32_t reserved;  // 0
  Seq seq;
};
static_assert(sizeof(Birth) == 16);

struct SegmentFooter {
  SectionRange sections[kSectionCount];
  uint64_t hash_seed;
  Seq seq_min;
  Seq seq_max;
  uint32_t rows;
  uint32_t dims;
  uint32_t key_type;
  uint32_t keys;                  // different ones
  uint32_t probes_max;            // as in KeyTable
  uint32_t vector_crcs_checksum;  // masked CRC-32C of that section
  uint32_t segment_crcs_checksum;
  uint32_t checksum;  // masked CRC-32C of the footer's bytes before this field
  char magic[8];      // kSegmentMagic

  SectionRange section(Section s) const { return sections[static_cast<size_t>(s)]; }
};
static_assert(sizeof(SegmentFooter) == 192);
static_assert(offsetof(SegmentFooter, checksum) == 180);

// How wide the end of a key is.
constexpr uint64_t key_end_bytes(uint64_t all_keys_bytes) {
  return all_keys_bytes <= std::numeric_limits<uint32_t>::max() ? sizeof(uint32_t) : sizeof(uint64_t);
}

// Where section `s` begins if the one before it ends at `end`. The CRCs of the .seg follow without a gap, so that no
// byte of the file is without a checksum.
constexpr uint64_t section_offset(Section s, uint64_t end) {
  return s == Section::kSegmentCrcs ? end : (end + kSectionAlignment - 1) & ~(kSectionAlignment - 1);
}

uint32_t footer_checksum(const SegmentFooter& footer);

// Whether `header` is of a `.seg` that this code can read: kCorruption or kFormat if not.
Status check_header(const std::string& path, const SegmentHeader& header);

// What a footer must agree with.
struct SegmentExpectation {
  const Schema& schema;
  uint64_t hash_seed;
  const SegmentInfo& info;
};

// Whether the footer is whole, is the one meant, and agrees with itself, so that every section may be used as its
// length and `rows` say.
Status check_footer(const std::string& path, const SegmentFooter& footer, const SegmentExpectation& expected);

}  // namespace ehub
