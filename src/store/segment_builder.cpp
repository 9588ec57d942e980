#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/limits.h"
#include "io/block_writer.h"
#include "io/checked_mapping.h"
#include "store/key_table.h"
#include "store/segment_file.h"
#include "store/segment_format.h"

namespace ehub {
namespace {

constexpr size_t kIdDigits = 12;

std::string file_path(const std::string& directory, SegmentId id, const char* suffix) {
  const std::string digits = std::to_string(id);
  const size_t zeros = digits.size() < kIdDigits ? kIdDigits - digits.size() : 0;
  return directory + "/" + std::string(zeros, '0') + digits + suffix;
}

}  // namespace

std::string vector_path(const std::string& directory, SegmentId id) { return file_path(directory, id, ".f32"); }
std::string segment_path(const std::string& directory, SegmentId id) { return file_path(directory, id, ".seg"); }

// The file, section by section.
class SegmentBuilder::Output {
 public:
  explicit Output(File& file) : writer_(file) {}

  void put(const void* data, size_t size) { writer_.put(data, size); }

  void begin(Section s) {
    writer_.put(kZeros, section_offset(s, offset()) - offset());
    footer.sections[static_cast<size_t>(s)].offset = offset();
  }
  void end(Section s) {
    SectionRange& range = footer.sections[static_cast<size_t>(s)];
    range.length = offset() - range.offset;
  }
  template <typename T>
  void put_section(Section s, const std::vector<T>& values) {
    begin(s);
    put(values.data(), values.size() * sizeof(T));
    end(s);
  }

  uint64_t offset() const { return writer_.offset(); }
  std::vector<uint32_t> block_crcs() { return writer_.block_crcs(); }
  Status close() { return writer_.close(); }

  SegmentFooter footer{};

 private:
  static constexpr uint8_t kZeros[kSectionAlignment] = {};

  BlockWriter writer_;
};

SegmentBuilder::SegmentBuilder(Schema schema, uint64_t hash_seed) : schema_(schema), hash_seed_(hash_seed) {}

void SegmentBuilder::add(const Key& key, Seq born, uint32_t partition) {
  EHUB_ASSERT(rows_ < kSegmentRowsMax);
  EHUB_ASSERT(born > 0 && (births_.empty() || born >= births_.back().second));
  EHUB_ASSERT(schema_.key_type == KeyType::kInteger ? key.bytes.size() == sizeof(int64_t)
                                                    : key.bytes.size() <= kKeyBytesMax);
  hashes_.push_back(key.hash);
  key_bytes_.insert(key_bytes_.end(), key.bytes.begin(), key.bytes.end());
  if (schema_.key_type == KeyType::kString) key_ends_.push_back(key_bytes_.size());
  if (births_.empty() || births_.back().second != born) births_.emplace_back(rows_, born);
  if (partition != 0 && partitions_.empty()) partitions_.resize(rows_);
  if (partition != 0 || !partitions_.empty()) partitions_.push_back(partition);
  ++rows_;
}

std::string_view SegmentBuilder::key(Row row) const {
  if (schema_.key_type == KeyType::kInteger) {
    return {key_bytes_.data() + uint64_t{row} * sizeof(int64_t), sizeof(int64_t)};
  }
  const uint64_t begin = row == 0 ? 0 : key_ends_[row - 1];
  return {key_bytes_.data() + begin, key_ends_[row] - begin};
}

void SegmentBuilder::put_keys(Output& out) const {
  out.begin(Section::kKeyEnds);
  const uint64_t width = key_end_bytes(key_bytes_.size());
  for (const uint64_t end : key_ends_) out.put(&end, width);  // little-endian: the low bytes come first
  out.end(Section::kKeyEnds);
  out.put_section(Section::kKeyBytes, key_bytes_);
}

void SegmentBuilder::put_births(Output& out) const {
  out.begin(Section::kBirths);
  for (const auto& [first_row, seq] : births_) {
    const Birth birth{first_row, 0, seq};
    out.put(&birth, sizeof(birth));
  }
  out.end(Section::kBirths);
}

Result<SegmentInfo> SegmentBuilder::write(FileSystem& fs, const std::string& directory, SegmentId id,
                                          const std::vector<uint32_t>& block_crcs, StopFlag stop) {
  EHUB_ASSERT(block_crcs.size() == checksum_blocks(rows_ * schema_.row_bytes()));
  const std::string path = segment_path(directory, id);
  auto file = fs.open(path, FileSystem::Mode::kCreate);
  if (!file.ok()) return of_making(file.status());
  Result<SegmentInfo> info = write_file(*file.value(), id, block_crcs, stop);
  if (!info.ok()) (void)fs.remove(path);
  return info;
}

Result<SegmentInfo> SegmentBuilder::write_file(File& file, SegmentId id, const std::vector<uint32_t>& block_crcs,
                                               StopFlag stop) const {
  const KeyTable table = build_key_table(hashes_, [this](Row a, Row b) { return key(a) == key(b); });
  Output out(file);
  SegmentHeader header{};
  std::memcpy(header.magic, kSegmentMagic, sizeof(kSegmentMagic));
  header.format = kSegmentFormat;
  out.put(&header, sizeof(header));

  if (is_wanted(stop)) return stopped("the writing of a segment");
  put_keys(out);
  if (is_wanted(stop)) return stopped("the writing of a segment");
  out.put_section(Section::kKeyTable, table.buckets);
  put_births(out);
  out.put_section(Section::kPartitions, partitions_);
  out.put_section(Section::kOlderRows, table.older);
  out.begin(Section::kVectorCrcs);
  const std::vector<uint32_t> segment_crcs = out.block_crcs();
  out.put_section(Section::kVectorCrcs, block_crcs);
  out.put_section(Section::kSegmentCrcs, segment_crcs);

  SegmentFooter& footer = out.footer;
  footer.hash_seed = hash_seed_;
  footer.seq_min = rows_ == 0 ? 0 : births_.front().second;
  footer.seq_max = rows_ == 0 ? 0 : births_.back().second;
  footer.rows = rows_;
  footer.dims = schema_.dims;
  footer.key_type = static_cast<uint32_t>(schema_.key_type);
  footer.keys = table.keys;
  footer.probes_max = table.probes_max;
  footer.vector_crcs_checksum = crc_mask(crc32c(0, block_crcs.data(), block_crcs.size() * sizeof(uint32_t)));
  footer.segment_crcs_checksum = crc_mask(crc32c(0, segment_crcs.data(), segment_crcs.size() * sizeof(uint32_t)));
  footer.checksum = footer_checksum(footer);
  std::memcpy(footer.magic, kSegmentMagic, sizeof(kSegmentMagic));
  out.put(&footer, sizeof(footer));

  if (is_wanted(stop)) return stopped("the writing of a segment");  // the sync takes as long as the disk does
  const uint64_t seg_bytes = out.offset();
  EHUB_RETURN_IF_ERROR(out.close());
  return SegmentInfo{id, rows_, seg_bytes, footer.checksum, footer.seq_min, footer.seq_max};
}

}  // namespace ehub
