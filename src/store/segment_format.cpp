#include "store/segment_format.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/crc32c.h"
#include "base/limits.h"
#include "io/checked_mapping.h"
#include "store/key_table.h"

namespace ehub {
namespace {

// Collects the first thing that is wrong with a footer, by the place of the field in the file.
class FooterCheck {
 public:
  FooterCheck(const std::string& path, const SegmentFooter& footer, uint64_t file_bytes)
      : path_(path), footer_(footer), footer_offset_(file_bytes - sizeof(SegmentFooter)) {}

  template <typename Field>
  void require(bool good, const Field& field, const std::string& what) {
    if (good || !status_.ok()) return;
    const auto at = reinterpret_cast<const char*>(&field) - reinterpret_cast<const char*>(&footer_);
    status_ = corruption(path_, footer_offset_ + static_cast<uint64_t>(at), what);
  }
  void require_length(Section s, bool good, const char* what) {
    const SectionRange& range = footer_.sections[static_cast<size_t>(s)];
    require(good, range.length, std::string(what) + " of " + std::to_string(range.length) + " bytes");
  }
  uint64_t footer_offset() const { return footer_offset_; }
  const Status& status() const { return status_; }

 private:
  const std::string& path_;
  const SegmentFooter& footer_;
  const uint64_t footer_offset_;
  Status status_;
};

void check_identity(FooterCheck& check, const SegmentFooter& footer, const SegmentExpectation& expected) {
  const SegmentInfo& info = expected.info;
  check.require(footer.checksum == info.footer_crc, footer.checksum, "not the segment that the manifest names");
  check.require(footer.rows == info.rows && footer.rows <= kSegmentRowsMax, footer.rows, "wrong number of rows");
  check.require(footer.dims == expected.schema.dims, footer.dims, "wrong dims");
  check.require(footer.key_type == static_cast<uint32_t>(expected.schema.key_type), footer.key_type, "wrong key type");
  check.require(footer.hash_seed == expected.hash_seed, footer.hash_seed, "wrong hash seed");
  check.require(footer.seq_min == info.seq_min, footer.seq_min, "wrong first seq");
  check.require(footer.seq_max == info.seq_max, footer.seq_max, "wrong last seq");
}

// Sections in their order, each where the one before it puts it, the last one up to the footer.
void check_places(FooterCheck& check, const SegmentFooter& footer) {
  uint64_t end = sizeof(SegmentHeader);
  for (size_t i = 0; i < kSectionCount; ++i) {
    const SectionRange& range = footer.sections[i];
    const bool placed = range.offset == section_offset(static_cast<Section>(i), end);
    check.require(placed && range.offset <= check.footer_offset(), range.offset, "a section out of place");
    if (!check.status().ok()) return;
    check.require(range.length <= check.footer_offset() - range.offset, range.length, "a section beyond the file");
    if (!check.status().ok()) return;
    end = range.offset + range.length;
  }
  check.require(end == check.footer_offset(), footer.sections[kSectionCount - 1].length, "sections end elsewhere");
}

void check_key_lengths(FooterCheck& check, const SegmentFooter& footer) {
  const uint64_t rows = footer.rows;
  const uint64_t ends = footer.section(Section::kKeyEnds).length;
  const uint64_t keys = footer.section(Section::kKeyBytes).length;
  const bool integers = footer.key_type == static_cast<uint32_t>(KeyType::kInteger);
  check.require_length(Section::kKeyEnds, ends == (integers ? 0 : rows * key_end_bytes(keys)), "key ends");
  check.require_length(Section::kKeyBytes, integers ? keys == rows * sizeof(int64_t) : keys <= rows * kKeyBytesMax,
                       "keys");
  const uint64_t table = key_table_buckets(footer.rows) * sizeof(KeyBucket);
  check.require_length(Section::kKeyTable, footer.section(Section::kKeyTable).length == table, "key table");
  check.require(footer.keys <= rows && (footer.keys > 0) == (rows > 0), footer.keys, "wrong number of keys");
  check.require(footer.probes_max <= key_table_buckets(footer.rows), footer.probes_max, "too many probes");
}

void check_row_lengths(FooterCheck& check, const SegmentFooter& footer) {
  const uint64_t rows = footer.rows;
  const auto length = [&](Section s) { return footer.section(s).length; };
  const uint64_t births = length(Section::kBirths) / sizeof(Birth);
  check.require_length(Section::kBirths,
                       length(Section::kBirths) % sizeof(Birth) == 0 && births <= rows && (births > 0) == (rows > 0),
                       "births");
  const uint64_t partitions = length(Section::kPartitions);
  check.require_length(Section::kPartitions, partitions == 0 || partitions == rows * sizeof(uint32_t), "partitions");
  check.require_length(Section::kOlderRows, length(Section::kOlderRows) == (rows - footer.keys) * sizeof(OlderRow),
                       "older rows");
  const uint64_t vector_blocks = checksum_blocks(rows * footer.dims * sizeof(float));
  check.require_length(Section::kVectorCrcs, length(Section::kVectorCrcs) == vector_blocks * sizeof(uint32_t),
                       "checksums of vectors");
  const uint64_t segment_blocks = checksum_blocks(footer.section(Section::kVectorCrcs).offset);
  check.require_length(Section::kSegmentCrcs, length(Section::kSegmentCrcs) == segment_blocks * sizeof(uint32_t),
                       "checksums of sections");
}

}  // namespace

uint32_t footer_checksum(const SegmentFooter& footer) {
  return crc_mask(crc32c(0, &footer, offsetof(SegmentFooter, checksum)));
}

Status check_header(const std::string& path, const SegmentHeader& header) {
  if (std::memcmp(header.magic, kSegmentMagic, sizeof(kSegmentMagic)) != 0) {
    return corruption(path, 0, "not a segment file");
  }
  if (header.format != kSegmentFormat) {
    return format_error(path + ": segment format " + std::to_string(header.format) +
                        ", but this version reads format " + std::to_string(kSegmentFormat));
  }
  return {};
}

Status check_footer(const std::string& path, const SegmentFooter& footer, const SegmentExpectation& expected) {
  FooterCheck check(path, footer, expected.info.seg_bytes);
  check.require(std::memcmp(footer.magic, kSegmentMagic, sizeof(kSegmentMagic)) == 0, footer.magic, "no footer");
  check.require(footer.checksum == footer_checksum(footer), footer.checksum, "checksum mismatch in the footer");
  check_identity(check, footer, expected);
  check_places(check, footer);
  if (check.status().ok()) check_key_lengths(check, footer);
  if (check.status().ok()) check_row_lengths(check, footer);
  return check.status();
}

}  // namespace ehub
