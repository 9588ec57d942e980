#include "hnsw/hnswlib_file.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/limits.h"

namespace ehub::hnsw {
namespace {

constexpr uint32_t kNoPlace = std::numeric_limits<uint32_t>::max();

// Where records are left out, a row passes through so many of them, and gets so many links to choose from, in units of
// those that it may have.
constexpr size_t kDetoursMax = 256;
constexpr size_t kChoice = 4;

uint64_t end_of_level0(const HnswlibHeader& header) {
  return sizeof(HnswlibHeader) + header.records * header.record_bytes;
}

}  // namespace

HnswlibFile::HnswlibFile(std::string path, Mapping mapping)
    : path_(std::move(path)), mapping_(std::move(mapping)), header_(load_le<HnswlibHeader>(mapping_.data)) {}

Result<HnswlibFile> HnswlibFile::open(FileSystem& fs, const std::string& path, uint32_t dims) {
  auto file = fs.open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return file.status();
  const Result<uint64_t> size = file.value()->size();
  if (!size.ok()) return size.status();
  if (size.value() < sizeof(HnswlibHeader)) return corruption(path, size.value(), "too short for an hnswlib index");
  auto mapping = file.value()->map(size.value());
  if (!mapping.ok()) return mapping.status();
  HnswlibFile opened(path, std::move(mapping.value()));
  EHUB_RETURN_IF_ERROR(opened.check_header(dims));
  EHUB_RETURN_IF_ERROR(opened.check_level0());
  EHUB_RETURN_IF_ERROR(opened.check_upper_levels());
  return opened;
}

Status HnswlibFile::check_header(uint32_t dims) const {
  const HnswlibHeader& h = header_;
  const bool right_M = h.M >= 1 && h.M <= kHnswlibMMax && h.M_upper == h.M && h.M_level0 == 2 * h.M;
  if (!right_M) return damaged(offsetof(HnswlibHeader, M_upper), "M is out of range");
  const bool right_offsets = h.level0_offset == 0 && h.vector_offset == hnswlib_list_bytes(h.M_level0) &&
                             h.label_offset > h.vector_offset && h.record_bytes > h.label_offset &&
                             h.record_bytes - h.label_offset == sizeof(uint64_t);
  const uint64_t vector_bytes = h.label_offset - h.vector_offset;
  if (!right_offsets || vector_bytes % sizeof(float) != 0 || vector_bytes / sizeof(float) > kDimsMax) {
    return damaged(offsetof(HnswlibHeader, record_bytes), "the parts of a record have sizes that cannot be");
  }
  const uint64_t records_max = (mapping_.size_bytes - sizeof(HnswlibHeader)) / h.record_bytes;
  if (h.records > std::min<uint64_t>({records_max, kSegmentRowsMax, h.capacity})) {
    return damaged(offsetof(HnswlibHeader, records),
                   std::to_string(h.records) + " records are more than there is room for");
  }
  const bool right_entry = h.records == 0 ? h.level_max == -1 : h.level_max >= 0 && h.entry < h.records;
  if (!right_entry) return damaged(offsetof(HnswlibHeader, level_max), "the entry point is out of range");
  if (vector_bytes == uint64_t{dims} * sizeof(float)) return {};
  return {Code::kDimension, path_ + ": its vectors have " + std::to_string(vector_bytes / sizeof(float)) +
                                " dims; dims=" + std::to_string(dims) + " was given"};
}

Status HnswlibFile::check_list(const uint8_t* list, uint64_t links_max) const {
  const uint32_t count = load_le<uint32_t>(list) & kHnswlibCountMask;
  const auto offset = static_cast<uint64_t>(list - mapping_.data);
  if (count > links_max) return damaged(offset, "more links than fit");
  for (uint32_t i = 1; i <= count; ++i) {
    const auto link = load_le<uint32_t>(list + i * sizeof(uint32_t));
    if (link >= header_.records) return damaged(offset + i * sizeof(uint32_t), "a link to a record that is not there");
  }
  return {};
}

Status HnswlibFile::check_level0() const {
  for (uint64_t record = 0; record < header_.records; ++record) {
    EHUB_RETURN_IF_ERROR(check_list(at(record), header_.M_level0));
  }
  return {};
}

// The number of upper levels of each record, whose lists end where the file does.
Result<std::vector<uint32_t>> HnswlibFile::read_levels() const {
  const uint64_t list_bytes = hnswlib_list_bytes(header_.M_upper);
  std::vector<uint32_t> levels(header_.records);
  uint64_t offset = end_of_level0(header_);
  for (uint32_t& level : levels) {
    if (mapping_.size_bytes - offset < sizeof(uint32_t)) return damaged(offset, "the file ends within its levels");
    const auto length = load_le<uint32_t>(mapping_.data + offset);
    offset += sizeof(uint32_t);
    if (length > mapping_.size_bytes - offset) return damaged(offset, "the file ends within its levels");
    level = static_cast<uint32_t>(length / list_bytes);
    if (length % list_bytes != 0 || level > static_cast<uint32_t>(header_.level_max)) {
      return damaged(offset - sizeof(uint32_t), "a level is out of range");
    }
    offset += length;
  }
  if (offset != mapping_.size_bytes) return damaged(offset, "there is more in the file than an index");
  return levels;
}

Status HnswlibFile::check_upper_levels() const {
  const auto read = read_levels();
  if (!read.ok()) return read.status();
  const std::vector<uint32_t>& levels = read.value();
  if (levels.empty()) return {};
  if (levels[header_.entry] != static_cast<uint32_t>(header_.level_max)) {
    return damaged(offsetof(HnswlibHeader, entry), "the entry point is not on the highest level");
  }
  const uint64_t list_bytes = hnswlib_list_bytes(header_.M_upper);
  const uint8_t* list = mapping_.data + end_of_level0(header_);
  for (const uint32_t top : levels) {
    list += sizeof(uint32_t);
    for (uint32_t level = 1; level <= top; ++level, list += list_bytes) {
      EHUB_RETURN_IF_ERROR(check_list(list, header_.M_upper));
      const uint32_t count = load_le<uint32_t>(list) & kHnswlibCountMask;
      for (uint32_t i = 1; i <= count; ++i) {
        const uint8_t* link = list + i * sizeof(uint32_t);
        if (levels[load_le<uint32_t>(link)] >= level) continue;
        return damaged(static_cast<uint64_t>(link - mapping_.data), "a link to a record that is not on its level");
      }
    }
  }
  return {};
}

std::span<const uint32_t> HnswlibFile::links(uint32_t record) const {
  const auto* list = reinterpret_cast<const uint32_t*>(at(record));
  return {list + 1, *list & kHnswlibCountMask};
}

std::vector<uint32_t> HnswlibFile::live_records() const {
  std::vector<std::pair<uint64_t, uint32_t>> labelled(records());
  for (uint32_t record = 0; record < records(); ++record) labelled[record] = {label(record), record};
  std::sort(labelled.begin(), labelled.end());
  std::vector<uint32_t> live;
  for (size_t i = 0; i < labelled.size(); ++i) {
    const bool is_last = i + 1 == labelled.size() || labelled[i + 1].first != labelled[i].first;
    if (is_last && !deleted(labelled[i].second)) live.push_back(labelled[i].second);
  }
  std::sort(live.begin(), live.end());
  return live;
}

LinkLists HnswlibFile::links_among(const std::vector<uint32_t>& kept) const {
  std::vector<uint32_t> places(records(), kNoPlace);
  for (size_t i = 0; i < kept.size(); ++i) places[kept[i]] = static_cast<uint32_t>(i);
  const size_t links_max = kChoice * header_.M_level0;
  LinkLists lists;
  std::vector<uint32_t> detours;  // the row's own record, and those left out to be passed through
  std::vector<uint32_t> passed_for(records(), kNoPlace);  // per record left out the last row that has it in its detours
  for (size_t i = 0; i < kept.size(); ++i) {
    const size_t begin = lists.targets.size();
    detours.assign(1, kept[i]);
    for (size_t next = 0; next < detours.size() && lists.targets.size() - begin < links_max; ++next) {
      for (const uint32_t link : links(detours[next])) {
        if (places[link] == i) continue;
        if (places[link] != kNoPlace) {
          lists.targets.push_back(places[link]);
        } else if (passed_for[link] != i && detours.size() < kDetoursMax) {
          passed_for[link] = static_cast<uint32_t>(i);
          detours.push_back(link);
        }
      }
    }
    lists.begins.push_back(lists.targets.size());
  }
  return lists;
}

}  // namespace ehub::hnsw
