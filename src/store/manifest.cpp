#include "store/manifest.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <span>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/limits.h"
#include "store/schema.h"

namespace ehub {
namespace {

constexpr std::string_view kMagic = "EHUBMAN1";
constexpr uint32_t kVersion = 2;
constexpr uint32_t kVersionMin = 1;

// A copy: magic (8), masked CRC (4) of all that follows it, version (4), bytes of the body (8); then the body.
constexpr size_t kCrcAt = 8;
constexpr size_t kCoveredAt = 12;
constexpr size_t kVersionAt = 12;
constexpr size_t kBytesAt = 16;
constexpr size_t kBodyAt = 24;

// The second copy begins at a multiple of this, so that no page of the file holds bytes of both.
constexpr uint64_t kCopyAlignment = 4096;

// The least that one of these takes in a body: a count above what is left over this is refused before memory is taken.
constexpr size_t kTableBytesMin = 16;
constexpr size_t kNameBytesMin = 1;
constexpr size_t kSegmentBytesMin = 10;
constexpr size_t kTagBytesMin = 2;
constexpr size_t kNoteBytesMin = 2;

bool is_name(std::string_view name) { return name.size() <= kNameBytesMax; }

// The rules that a writer asserts and a reader demands.

bool is_sound(const ManifestSegment& segment, SegmentId next_segment) {
  return segment.info.rows <= kSegmentRowsMax && segment.info.id >= 1 && segment.info.id < next_segment &&
         segment.info.seq_min <= segment.info.seq_max;
}

// All of a table but its segments.
bool is_sound(const ManifestTable& table, TableId next_table) {
  if (table.id < 1 || table.id >= next_table || table.partitions.size() > kPartitionsMax) return false;
  for (const std::string& partition : table.partitions) {
    if (!is_name(partition)) return false;
  }
  return is_name(table.space) && is_name(table.version) && table.schema.is_sound();
}

void put_segment(const ManifestSegment& segment, ByteWriter& out) {
  out.varint(segment.info.id);
  out.varint(segment.info.rows);
  out.varint(segment.info.seg_bytes);
  out.fixed<uint32_t>(segment.info.footer_crc);
  out.varint(segment.info.seq_min);
  out.varint(segment.info.seq_max);
  out.varint(segment.deaths.size());
  out.raw(segment.deaths.data(), segment.deaths.size());
  out.varint(segment.gaps.size());
  out.raw(segment.gaps.data(), segment.gaps.size());
}

void put_table(const ManifestTable& table, ByteWriter& out) {
  out.varint(table.id);
  out.string(table.space);
  out.string(table.version);
  encode_schema(table.schema, out);
  out.varint(table.created);
  out.varint(table.partitions.size());
  for (const std::string& partition : table.partitions) out.string(partition);
  out.varint(table.segments.size());
  for (const ManifestSegment& segment : table.segments) put_segment(segment, out);
  out.fixed<uint8_t>(table.frozen ? 1 : 0);
  out.varint(table.tags.size());
  for (const auto& [name, seq] : table.tags) {
    out.string(name);
    out.varint(seq);
  }
}

void put_body(const Manifest& manifest, ByteWriter& out) {
  out.varint(manifest.number);
  out.fixed<uint64_t>(manifest.hash_seed);
  out.varint(manifest.seq);
  out.varint(manifest.first_log);
  out.varint(manifest.carried_bytes);
  out.varint(manifest.durable_seq);
  out.fixed<uint8_t>(manifest.clean ? 1 : 0);
  out.varint(manifest.next_table);
  out.varint(manifest.next_segment);
  out.varint(manifest.tables.size());
  for (const ManifestTable& table : manifest.tables) put_table(table, out);
  out.varint(manifest.notes.size());
  for (const auto& [name, text] : manifest.notes) {
    out.string(name);
    out.string(text);
  }
}

void check_sound(const Manifest& manifest) {
  for (const ManifestTable& table : manifest.tables) {
    EHUB_ASSERT(is_sound(table, manifest.next_table));
    for (const ManifestSegment& segment : table.segments) EHUB_ASSERT(is_sound(segment, manifest.next_segment));
  }
}

// Takes a body apart. Every call says whether it went well; the first that does not leaves a complaint.
class BodyReader {
 public:
  BodyReader(const uint8_t* body, size_t size, uint32_t version) : in_(body, size), version_(version) {}

  bool take(Manifest* manifest) {
    take_numbers(manifest);
    size_t tables = 0;
    if (!take_count("tables", kTableBytesMin, &tables)) return false;
    manifest->tables.resize(tables);
    for (ManifestTable& table : manifest->tables) {
      if (!take_table(*manifest, &table)) return false;
    }
    if (version_ >= 2 && !take_notes(manifest)) return false;
    return in_.left() == 0 || refuse("bytes follow the end");
  }
  const std::string& complaint() const { return complaint_; }
  size_t left() const { return in_.left(); }

 private:
  void take_numbers(Manifest* manifest) {
    manifest->number = in_.varint();
    manifest->hash_seed = in_.fixed<uint64_t>();
    manifest->seq = in_.varint();
    manifest->first_log = in_.varint();
    manifest->carried_bytes = in_.varint();
    manifest->durable_seq = in_.varint();
    manifest->clean = in_.fixed<uint8_t>() != 0;
    manifest->next_table = in_.varint();
    manifest->next_segment = in_.varint();
  }
  bool take_table(const Manifest& manifest, ManifestTable* table) {
    table->id = in_.varint();
    table->space = in_.string();
    table->version = in_.string();
    if (!take_schema(&table->schema)) return false;
    table->created = in_.varint();
    if (!take_partitions(table)) return false;
    if (!is_sound(*table, manifest.next_table)) return refuse("a table with an impossible id or name");
    return take_segments(manifest, table) && (version_ < 2 || take_names(manifest, table));
  }
  bool take_names(const Manifest& manifest, ManifestTable* table) {
    table->frozen = in_.fixed<uint8_t>() != 0;
    size_t tags = 0;
    if (!take_count("tags", kTagBytesMin, &tags)) return false;
    for (; tags > 0; --tags) {
      const std::string name(in_.string());
      table->tags[name] = in_.varint();
      if (!in_.ok()) return refuse("the body ends too early");
      if (name.empty() || !is_name(name)) return refuse("a tag with an impossible name");
      if (table->tags[name] > manifest.seq) return refuse("a tag of a time that had not come yet");
    }
    return true;
  }
  bool take_notes(Manifest* manifest) {
    size_t notes = 0;
    if (!take_count("notes", kNoteBytesMin, &notes)) return false;
    for (; notes > 0; --notes) {
      const std::string name(in_.string());
      manifest->notes[name] = in_.string();
      if (!in_.ok()) return refuse("the body ends too early");
    }
    return true;
  }
  bool take_schema(Schema* schema) {
    *schema = decode_schema(in_);
    return schema->is_sound() || refuse("a table with an impossible schema");
  }
  bool take_partitions(ManifestTable* table) {
    size_t partitions = 0;
    if (!take_count("partitions", kNameBytesMin, &partitions)) return false;
    if (partitions > kPartitionsMax) return refuse("more partitions than a table can have");
    table->partitions.resize(partitions);
    for (std::string& partition : table->partitions) partition = in_.string();
    return in_.ok() || refuse("the body ends too early");
  }
  bool take_segments(const Manifest& manifest, ManifestTable* table) {
    size_t segments = 0;
    if (!take_count("segments", kSegmentBytesMin, &segments)) return false;
    table->segments.resize(segments);
    for (ManifestSegment& segment : table->segments) {
      if (!take_segment(&segment)) return false;
      if (!is_sound(segment, manifest.next_segment)) return refuse("a segment with an impossible id, size or age");
    }
    return true;
  }
  bool take_segment(ManifestSegment* segment) {
    segment->info.id = in_.varint();
    segment->info.rows = take_uint32();
    segment->info.seg_bytes = in_.varint();
    segment->info.footer_crc = in_.fixed<uint32_t>();
    segment->info.seq_min = in_.varint();
    segment->info.seq_max = in_.varint();
    const std::string_view deaths = in_.string();
    segment->deaths.assign(deaths.begin(), deaths.end());
    const std::string_view gaps = version_ < 2 ? std::string_view() : in_.string();
    segment->gaps.assign(gaps.begin(), gaps.end());
    return in_.ok() || refuse("the body ends too early");
  }
  // A value that does not fit becomes one that no rule allows.
  uint32_t take_uint32() {
    const uint64_t value = in_.varint();
    return value <= UINT32_MAX ? static_cast<uint32_t>(value) : UINT32_MAX;
  }
  bool take_count(const char* what, size_t bytes_min, size_t* count) {
    const uint64_t value = in_.varint();
    if (!in_.ok()) return refuse("the body ends too early");
    if (value > in_.left() / bytes_min) return refuse(std::string("more ") + what + " than there are bytes for");
    *count = value;
    return true;
  }
  bool refuse(std::string complaint) {
    complaint_ = std::move(complaint);
    return false;
  }

  ByteReader in_;
  const uint32_t version_;
  std::string complaint_;
};

using Bytes = std::span<const uint8_t>;

struct Body {
  Bytes bytes;
  uint32_t version;
};

// Whether `copy` begins with a whole copy, of which it gives the body. `at`: its place in the file.
Result<Body> check_copy(const std::string& path, uint64_t at, Bytes copy) {
  if (copy.size() < kBodyAt) return corruption(path, at + copy.size(), "the file ends within its header");
  if (kMagic != std::string_view(reinterpret_cast<const char*>(copy.data()), kMagic.size())) {
    return corruption(path, at, "not a manifest: the magic number is missing");
  }
  const auto body_bytes = load_le<uint64_t>(copy.data() + kBytesAt);
  if (body_bytes > copy.size() - kBodyAt) return corruption(path, at + kBytesAt, "the file ends before its body does");
  const Bytes covered = copy.subspan(kCoveredAt, kBodyAt - kCoveredAt + body_bytes);
  if (load_le<uint32_t>(copy.data() + kCrcAt) != crc_mask(crc32c(0, covered.data(), covered.size()))) {
    return corruption(path, at + kCrcAt, "the checksum does not match");
  }
  const auto version = load_le<uint32_t>(copy.data() + kVersionAt);
  if (version >= kVersionMin && version <= kVersion) return Body{copy.subspan(kBodyAt, body_bytes), version};
  return format_error(path + ": format version " + std::to_string(version) + ", but this version of ehub reads " +
                      std::to_string(kVersionMin) + " to " + std::to_string(kVersion) +
                      "; open the hub with the version that wrote it");
}

Result<Manifest> decode_copy(const std::string& path, uint64_t at, Bytes copy) {
  const Result<Body> checked = check_copy(path, at, copy);
  if (!checked.ok()) return checked.status();
  const Bytes bytes = checked.value().bytes;
  BodyReader body(bytes.data(), bytes.size(), checked.value().version);
  Manifest manifest;
  if (body.take(&manifest)) return manifest;
  return corruption(path, at + kBodyAt + bytes.size() - body.left(), body.complaint());
}

// Where the second of two copies begins in a file of this size: the first one ends less than an alignment before.
uint64_t second_copy_at(uint64_t file_bytes) { return align_up(file_bytes / 2 + file_bytes % 2, kCopyAlignment); }

Status check_copies(const std::string& path, const std::vector<uint8_t>& bytes) {
  const uint64_t at = second_copy_at(bytes.size());
  const uint64_t size = bytes.size() - std::min<uint64_t>(at, bytes.size());
  const auto padding = bytes.begin() + static_cast<ptrdiff_t>(size);
  const auto second = bytes.begin() + static_cast<ptrdiff_t>(bytes.size() - size);
  const auto [wrong, other] = std::mismatch(bytes.begin(), padding, second, bytes.end());
  if (wrong != padding) {
    return corruption(path, static_cast<uint64_t>(other - bytes.begin()), "the second copy is not as the first one");
  }
  const auto stray = std::find_if(padding, second, [](uint8_t byte) { return byte != 0; });
  if (stray == second) return {};
  return corruption(path, static_cast<uint64_t>(stray - bytes.begin()), "bytes between the two copies");
}

}  // namespace

std::string manifest_path(const std::string& root, uint64_t number) {
  char name[48];
  std::snprintf(name, sizeof(name), "/manifest-%012" PRIu64, number);
  return root + name;
}

std::vector<uint8_t> encode_manifest(const Manifest& manifest) {
  check_sound(manifest);
  ByteWriter out;
  out.fixed(load_le<uint64_t>(kMagic.data()));
  out.fixed<uint32_t>(0);
  out.fixed<uint32_t>(kVersion);
  out.fixed<uint64_t>(0);
  put_body(manifest, out);
  store_le<uint64_t>(out.data() + kBytesAt, out.size() - kBodyAt);
  store_le(out.data() + kCrcAt, crc_mask(crc32c(0, out.data() + kCoveredAt, out.size() - kCoveredAt)));
  std::vector<uint8_t> bytes(out.data(), out.data() + out.size());
  bytes.resize(align_up(out.size(), kCopyAlignment));
  bytes.insert(bytes.end(), out.data(), out.data() + out.size());
  return bytes;
}

Result<Manifest> decode_manifest(const std::string& path, const std::vector<uint8_t>& bytes) {
  Result<Manifest> first = decode_copy(path, 0, bytes);
  if (first.ok()) return first;
  const uint64_t at = second_copy_at(bytes.size());
  if (at >= bytes.size()) return first;
  Result<Manifest> second = decode_copy(path, at, Bytes(bytes).subspan(at));
  return second.ok() || second.status().code() == Code::kFormat ? second : first;
}

Status check_manifest(const std::string& path, const std::vector<uint8_t>& bytes) {
  Result<Manifest> first = decode_copy(path, 0, bytes);
  if (!first.ok()) return first.status();
  // One of an older format version: its two copies are compared with each other.
  if (load_le<uint32_t>(bytes.data() + kVersionAt) != kVersion) return check_copies(path, bytes);
  const std::vector<uint8_t> right = encode_manifest(first.value());
  const auto [wrong, other] = std::mismatch(bytes.begin(), bytes.end(), right.begin(), right.end());
  if (wrong == bytes.end() && other == right.end()) return {};
  return corruption(path, static_cast<uint64_t>(wrong - bytes.begin()), "the second copy is not as the first one");
}

}  // namespace ehub
