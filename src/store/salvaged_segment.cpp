#include "store/salvaged_segment.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/crc32c.h"

namespace ehub {
namespace {

// As much of a file as there is of its first `bytes_max` bytes; nothing if it is missing.
Result<Mapping> map_some(FileSystem& fs, const std::string& path, uint64_t bytes_max) {
  const auto file = fs.open(path, FileSystem::Mode::kRead);
  if (file.status().code() == Code::kNotFound) return Mapping{};
  if (!file.ok()) return file.status();
  const Result<uint64_t> size = file.value()->size();
  if (!size.ok()) return size.status();
  const uint64_t bytes = std::min(size.value(), bytes_max);
  return bytes == 0 ? Mapping{} : file.value()->map(bytes);
}

std::vector<uint32_t> block_crcs_of(const uint8_t* bytes, uint64_t size) {
  std::vector<uint32_t> crcs;
  add_block_checksums(crcs, 0, bytes, size);
  return crcs;
}

uint32_t checksum_of(const std::vector<uint32_t>& crcs) {
  return crc_mask(crc32c(0, crcs.data(), crcs.size() * sizeof(uint32_t)));
}

// Puts a footer right of which one byte is damaged: the manifest knows its checksum.
SegmentFooter mended(const SegmentFooter& damaged, uint32_t checksum) {
  SegmentFooter footer = damaged;
  footer.checksum = checksum;
  std::memcpy(footer.magic, kSegmentMagic, sizeof(kSegmentMagic));
  if (footer_checksum(footer) == checksum) return footer;
  auto* bytes = reinterpret_cast<uint8_t*>(&footer);
  for (size_t at = 0; at < offsetof(SegmentFooter, checksum); ++at) {
    for (int tries = 0; tries < 255; ++tries) {
      ++bytes[at];
      if (footer_checksum(footer) == checksum) return footer;
    }
    ++bytes[at];  // as it was
  }
  return damaged;
}

// The files of a damaged segment, as far as they are there.
class Remains {
 public:
  Remains(FileSystem& fs, const std::string& directory, const Schema& schema, uint64_t hash_seed,
          const SegmentInfo& info)
      : fs_(fs), directory_(directory), schema_(schema), hash_seed_(hash_seed), info_(info) {}

  Status read() {
    const std::string path = segment_path(directory_, info_.id);
    Result<Mapping> sections = map_some(fs_, path, info_.seg_bytes);
    if (!sections.ok()) return sections.status();
    sections_ = std::move(sections.value());
    if (sections_.size_bytes == 0) return missing(path);
    if (sections_.size_bytes < info_.seg_bytes || info_.seg_bytes < sizeof(SegmentHeader) + sizeof(SegmentFooter)) {
      return corruption(path, sections_.size_bytes, "the file ends before its footer");
    }
    const auto footer = load_le<SegmentFooter>(sections_.data + info_.seg_bytes - sizeof(SegmentFooter));
    footer_ = mended(footer, info_.footer_crc);
    EHUB_RETURN_IF_ERROR(check_footer(path, footer_, {schema_, hash_seed_, info_}));
    Result<Mapping> vectors = map_some(fs_, vector_path(directory_, info_.id), info_.rows * schema_.row_bytes());
    if (!vectors.ok()) return vectors.status();
    vectors_ = std::move(vectors.value());
    return {};
  }

  // The checksums of the blocks of sections 0 to 5.
  std::vector<uint32_t> segment_crcs() const {
    const std::vector<uint32_t> stored = stored_crcs(Section::kSegmentCrcs);
    return checksum_of(stored) == footer_.segment_crcs_checksum ? stored : crcs_that_are_there();
  }
  std::vector<uint32_t> crcs_that_are_there() const {
    return block_crcs_of(sections_.data, footer_.section(Section::kVectorCrcs).offset);
  }

  std::vector<uint32_t> vector_crcs() const {
    std::vector<uint32_t> stored = stored_crcs(Section::kVectorCrcs);
    if (checksum_of(stored) == footer_.vector_crcs_checksum) return stored;
    std::vector<uint32_t> there = block_crcs_of(vectors_.data, vectors_.size_bytes);
    return checksum_of(there) == footer_.vector_crcs_checksum ? there : stored;
  }

  std::shared_ptr<const SegmentReader> reader(std::vector<uint32_t> segment_crcs) const {
    // Of a file that was cut, the blocks count that are there in full.
    const bool whole = vectors_.size_bytes == info_.rows * schema_.row_bytes();
    const uint64_t covered =
        whole ? vectors_.size_bytes : vectors_.size_bytes / kChecksumBlockBytes * kChecksumBlockBytes;
    std::vector<uint32_t> vector_crcs = this->vector_crcs();
    vector_crcs.resize(checksum_blocks(covered));
    CheckedMapping vectors(vector_path(directory_, info_.id), vectors_, covered, std::move(vector_crcs));
    CheckedMapping sections(segment_path(directory_, info_.id), sections_, footer_.section(Section::kVectorCrcs).offset,
                            std::move(segment_crcs));
    return std::make_shared<const SegmentReader>(std::move(vectors), std::move(sections), footer_);
  }

  // Whether a `.seg` of what `reader` reads is the one that the manifest knows.
  Result<bool> proves(const SegmentReader& reader, SegmentId scratch) const {
    SegmentBuilder builder(schema_, hash_seed_);
    Seq previous = 1;
    for (Row row = 0; row < info_.rows; ++row) {
      const auto key = reader.key(row);
      const auto born = reader.born(row);
      const auto partition = reader.partition(row);
      if (!key.ok() || !born.ok() || !partition.ok() || born.value() < previous) return false;
      previous = born.value();
      builder.add(make_key(hash_seed_, key.value()), born.value(), partition.value());
    }
    const Result<SegmentInfo> written = builder.write(fs_, directory_, scratch, vector_crcs());
    if (!written.ok()) return written.status();
    EHUB_RETURN_IF_ERROR(fs_.remove(segment_path(directory_, scratch)));
    return written.value().footer_crc == info_.footer_crc;
  }

 private:
  std::vector<uint32_t> stored_crcs(Section s) const {
    const SectionRange range = footer_.section(s);
    std::vector<uint32_t> crcs(range.length / sizeof(uint32_t));
    if (!crcs.empty()) std::memcpy(crcs.data(), sections_.data + range.offset, range.length);
    return crcs;
  }

  FileSystem& fs_;
  const std::string& directory_;
  const Schema& schema_;
  const uint64_t hash_seed_;
  const SegmentInfo& info_;
  Mapping sections_;
  Mapping vectors_;
  SegmentFooter footer_{};
};

}  // namespace

Result<std::shared_ptr<const SalvagedSegment>> SalvagedSegment::open(FileSystem& fs, const std::string& directory,
                                                                     const Schema& schema, uint64_t hash_seed,
                                                                     const SegmentInfo& info, SegmentId scratch) {
  Remains remains(fs, directory, schema, hash_seed, info);
  EHUB_RETURN_IF_ERROR(remains.read());
  std::shared_ptr<const SegmentReader> reader = remains.reader(remains.crcs_that_are_there());
  const Result<bool> proven = remains.proves(*reader, scratch);
  if (!proven.ok()) return proven.status();
  if (!proven.value()) reader = remains.reader(remains.segment_crcs());
  return std::make_shared<const SalvagedSegment>(std::move(reader), info);
}

Result<const float*> SalvagedSegment::vectors(Row row, Row, Row* n) const {
  *n = 1;
  return reader_->vectors(row, 1);
}

Result<Seq> SalvagedSegment::born(Row row) const {
  const Result<Seq> born = reader_->born(row);
  return born.ok() ? born : info_.seq_max;
}

Result<uint32_t> SalvagedSegment::partition(Row row) const {
  const Result<uint32_t> partition = reader_->partition(row);
  return partition.ok() ? partition : uint32_t{0};
}

}  // namespace ehub
