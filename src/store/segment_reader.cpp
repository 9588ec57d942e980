#include "store/segment_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/limits.h"

namespace ehub {
namespace {

Result<Mapping> map_file(FileSystem& fs, const std::string& path, uint64_t expected_bytes) {
  auto file = fs.open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return file.status().code() == Code::kNotFound ? missing(path) : file.status();
  const Result<uint64_t> size = file.value()->size();
  if (!size.ok()) return size.status();
  if (size.value() != expected_bytes) {
    return corruption(
        path, std::min(size.value(), expected_bytes),
        "the file has " + std::to_string(size.value()) + " bytes and should have " + std::to_string(expected_bytes));
  }
  return expected_bytes == 0 ? Mapping{} : file.value()->map(expected_bytes);
}

Result<SegmentFooter> read_footer(const std::string& path, const Mapping& mapping, const SegmentExpectation& expected) {
  if (mapping.size_bytes < sizeof(SegmentHeader) + sizeof(SegmentFooter)) {
    return corruption(path, mapping.size_bytes, "too short for a segment file");
  }
  EHUB_RETURN_IF_ERROR(check_header(path, load_le<SegmentHeader>(mapping.data)));
  const auto footer = load_le<SegmentFooter>(mapping.data + mapping.size_bytes - sizeof(SegmentFooter));
  EHUB_RETURN_IF_ERROR(check_footer(path, footer, expected));
  return footer;
}

// The block checksums in a section. They are read at open, so their own checksum is in the footer.
Result<std::vector<uint32_t>> read_crcs(const std::string& path, const Mapping& mapping, SectionRange range,
                                        uint32_t checksum) {
  const uint8_t* from = mapping.data + range.offset;
  if (crc_mask(crc32c(0, from, range.length)) != checksum) {
    return corruption(path, range.offset, "checksum mismatch in block checksums");
  }
  std::vector<uint32_t> crcs(range.length / sizeof(uint32_t));
  if (!crcs.empty()) std::memcpy(crcs.data(), from, range.length);
  return crcs;
}

}  // namespace

Result<std::shared_ptr<const SegmentReader>> SegmentReader::open(FileSystem& fs, const std::string& directory,
                                                                 const Schema& schema, uint64_t hash_seed,
                                                                 const SegmentInfo& info) {
  const std::string path = segment_path(directory, info.id);
  auto sections = map_file(fs, path, info.seg_bytes);
  if (!sections.ok()) return sections.status();
  const auto footer = read_footer(path, sections.value(), {schema, hash_seed, info});
  if (!footer.ok()) return footer.status();
  const std::string vectors_path = vector_path(directory, info.id);
  auto vectors = map_file(fs, vectors_path, info.rows * schema.row_bytes());
  if (!vectors.ok()) return vectors.status();

  const SegmentFooter& f = footer.value();
  auto vector_crcs = read_crcs(path, sections.value(), f.section(Section::kVectorCrcs), f.vector_crcs_checksum);
  if (!vector_crcs.ok()) return vector_crcs.status();
  auto segment_crcs = read_crcs(path, sections.value(), f.section(Section::kSegmentCrcs), f.segment_crcs_checksum);
  if (!segment_crcs.ok()) return segment_crcs.status();
  const uint64_t vector_bytes = vectors.value().size_bytes;
  CheckedMapping checked_vectors(vectors_path, std::move(vectors.value()), vector_bytes,
                                 std::move(vector_crcs.value()));
  CheckedMapping checked_sections(path, std::move(sections.value()), f.section(Section::kVectorCrcs).offset,
                                  std::move(segment_crcs.value()));
  return std::shared_ptr<const SegmentReader>(
      std::make_shared<SegmentReader>(std::move(checked_vectors), std::move(checked_sections), f));
}

SegmentReader::SegmentReader(CheckedMapping vectors, CheckedMapping sections, const SegmentFooter& footer)
    : vectors_(std::move(vectors)),
      sections_(std::move(sections)),
      footer_(footer),
      buckets_(count(Section::kKeyTable, sizeof(KeyBucket))) {}

Status SegmentReader::damaged(Section s, uint64_t offset, const std::string& what) const {
  return corruption(sections_.path(), footer_.section(s).offset + offset, what);
}

template <typename T, typename Before>
Result<uint64_t> SegmentReader::partition_point(Section s, Before before) const {
  uint64_t low = 0;
  uint64_t high = count(s, sizeof(T));
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    const Result<T> value = item<T>(s, middle);
    if (!value.ok()) return value.status();
    if (before(value.value())) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

Result<const float*> SegmentReader::vectors(Row row, Row n) const {
  const uint64_t row_bytes = uint64_t{footer_.dims} * sizeof(float);
  const auto bytes = vectors_.bytes(row * row_bytes, n * row_bytes);
  if (!bytes.ok()) return bytes.status();
  return reinterpret_cast<const float*>(bytes.value());
}

bool SegmentReader::has_vectors(Row row) const {
  const uint64_t row_bytes = uint64_t{footer_.dims} * sizeof(float);
  return (row + uint64_t{1}) * row_bytes <= vectors_.covered_bytes() && vectors_.good(row * row_bytes, row_bytes);
}

Result<std::string_view> SegmentReader::key(Row row) const {
  if (has_string_keys()) return string_key(row);
  const uint64_t offset = footer_.section(Section::kKeyBytes).offset + uint64_t{row} * sizeof(int64_t);
  const auto bytes = sections_.bytes(offset, sizeof(int64_t));
  if (!bytes.ok()) return bytes.status();
  return std::string_view(reinterpret_cast<const char*>(bytes.value()), sizeof(int64_t));
}

SectionRange SegmentReader::key_ends(Row row) const {
  const uint64_t width = key_end_bytes(footer_.section(Section::kKeyBytes).length);
  const uint64_t first = row == 0 ? 0 : row - 1;
  return {footer_.section(Section::kKeyEnds).offset + first * width, (row - first + 1) * width};
}

bool SegmentReader::key_range(const uint8_t* ends, Row row, SectionRange& range) const {
  const uint64_t all = footer_.section(Section::kKeyBytes).length;
  const uint64_t width = key_end_bytes(all);
  const auto load = [&](const uint8_t* at) -> uint64_t {
    return width == sizeof(uint32_t) ? load_le<uint32_t>(at) : load_le<uint64_t>(at);
  };
  const uint64_t begin = row == 0 ? 0 : load(ends);
  const uint64_t end = load(row == 0 ? ends : ends + width);
  range = {begin, end - begin};
  return begin <= end && end <= all && end - begin <= kKeyBytesMax;
}

Result<std::string_view> SegmentReader::string_key(Row row) const {
  const SectionRange at = key_ends(row);
  const auto ends = sections_.bytes(at.offset, at.length);
  if (!ends.ok()) return ends.status();
  SectionRange range;
  if (!key_range(ends.value(), row, range)) {
    const uint64_t width = key_end_bytes(footer_.section(Section::kKeyBytes).length);
    return damaged(Section::kKeyEnds, row * width, "key " + std::to_string(row) + " ends out of order");
  }
  const auto bytes = sections_.bytes(footer_.section(Section::kKeyBytes).offset + range.offset, range.length);
  if (!bytes.ok()) return bytes.status();
  return std::string_view(reinterpret_cast<const char*>(bytes.value()), range.length);
}

Result<Seq> SegmentReader::born(Row row) const {
  const auto later = partition_point<Birth>(Section::kBirths, [&](const Birth& b) { return b.first_row <= row; });
  if (!later.ok()) return later.status();
  if (later.value() == 0) return damaged(Section::kBirths, 0, "the first row has no birth");
  const auto birth = item<Birth>(Section::kBirths, later.value() - 1);
  if (!birth.ok()) return birth.status();
  return birth.value().seq;
}

Result<Row> SegmentReader::rows_at(Seq seq) const {
  if (seq >= footer_.seq_max) return footer_.rows;
  if (seq < footer_.seq_min) return Row{0};
  const auto later = partition_point<Birth>(Section::kBirths, [&](const Birth& b) { return b.seq <= seq; });
  if (!later.ok()) return later.status();
  if (later.value() == count(Section::kBirths, sizeof(Birth))) return footer_.rows;
  const auto birth = item<Birth>(Section::kBirths, later.value());
  if (!birth.ok()) return birth.status();
  if (birth.value().first_row >= footer_.rows) {
    return damaged(Section::kBirths, later.value() * sizeof(Birth), "a birth of a row beyond the last");
  }
  return birth.value().first_row;
}

Result<uint32_t> SegmentReader::partition(Row row) const {
  if (footer_.section(Section::kPartitions).length == 0) return uint32_t{0};
  return item<uint32_t>(Section::kPartitions, row);
}

Status SegmentReader::labels(Row row, Row n, uint32_t* out) const {
  const SectionRange section = footer_.section(Section::kPartitions);
  if (section.length == 0) {
    std::fill_n(out, n, 0U);
    return {};
  }
  const auto bytes = sections_.bytes(section.offset + uint64_t{row} * sizeof(uint32_t), n * sizeof(uint32_t));
  if (!bytes.ok()) return bytes.status();
  for (Row i = 0; i < n; ++i) out[i] = load_le<uint32_t>(bytes.value() + i * sizeof(uint32_t));
  return {};
}

Result<Row> SegmentReader::older(Row row) const {
  const auto index = partition_point<OlderRow>(Section::kOlderRows, [&](const OlderRow& o) { return o.row < row; });
  if (!index.ok()) return index.status();
  if (index.value() == count(Section::kOlderRows, sizeof(OlderRow))) return kNoRow;
  const auto found = item<OlderRow>(Section::kOlderRows, index.value());
  if (!found.ok()) return found.status();
  if (found.value().row != row) return kNoRow;
  if (found.value().older >= row) {
    return damaged(Section::kOlderRows, index.value() * sizeof(OlderRow), "an older row that is not older");
  }
  return found.value().older;
}

}  // namespace ehub
