#include "store/rewrite.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "store/vector_file.h"

namespace ehub {
namespace {

// Rows copied at a time: enough that each write is large, little enough to stay in the cache.
constexpr uint64_t kCopyBytes = 1 << 20;

struct Origin {
  Seq born;
  uint32_t source;
  Row row;
};

Status append_origins(const SegmentRef& ref, uint32_t source, Seq cut, const std::function<bool(size_t, Row)>& usable,
                      std::vector<Origin>& out) {
  const Result<Row> rows = ref.segment->rows_at(cut);
  if (!rows.ok()) return rows.status();
  for (Row row = 0; row < rows.value(); ++row) {
    if (ref.deaths->dead_at(row, cut)) continue;
    if (usable && !usable(source, row)) continue;
    const Result<Seq> born = ref.segment->born(row);
    if (!born.ok()) return born.status();
    out.push_back({born.value(), source, row});
  }
  return {};
}

Result<std::vector<Origin>> collect_origins(const std::vector<SegmentRef>& sources, Seq cut,
                                            const std::function<bool(size_t, Row)>& usable) {
  std::vector<Origin> origins;
  for (uint32_t s = 0; s < sources.size(); ++s) {
    EHUB_RETURN_IF_ERROR(append_origins(sources[s], s, cut, usable, origins));
  }
  // Sources are each in order of birth, and mostly among each other.
  std::stable_sort(origins.begin(), origins.end(), [](const Origin& a, const Origin& b) { return a.born < b.born; });
  return origins;
}

Status copy_vectors(const std::vector<SegmentRef>& sources, const std::vector<Origin>& origins, size_t row_bytes,
                    VectorFile& file) {
  const size_t step = std::max<size_t>(1, kCopyBytes / row_bytes);
  std::vector<float> buffer(std::min(step, origins.size()) * row_bytes / sizeof(float));
  for (size_t begin = 0; begin < origins.size(); begin += step) {
    const size_t n = std::min(step, origins.size() - begin);
    for (size_t i = 0; i < n; ++i) {
      const Origin& origin = origins[begin + i];
      Row run = 0;
      const Result<const float*> vector = sources[origin.source].segment->vectors(origin.row, 1, &run);
      if (!vector.ok()) return vector.status();
      std::memcpy(reinterpret_cast<uint8_t*>(buffer.data()) + i * row_bytes, vector.value(), row_bytes);
    }
    EHUB_RETURN_IF_ERROR(file.append(buffer.data(), static_cast<Row>(n)));
  }
  return file.finish();
}

Status add_rows(const std::vector<SegmentRef>& sources, const std::vector<Origin>& origins, uint64_t hash_seed,
                SegmentBuilder& builder) {
  for (const Origin& origin : origins) {
    const Segment& segment = *sources[origin.source].segment;
    const Result<std::string_view> key = segment.key(origin.row);
    if (!key.ok()) return key.status();
    const Result<uint32_t> partition = segment.partition(origin.row);
    if (!partition.ok()) return partition.status();
    builder.add(make_key(hash_seed, key.value()), origin.born, partition.value());
  }
  return {};
}

}  // namespace

Result<Rewritten> rewrite_segments(const RewriteTarget& target, const std::vector<SegmentRef>& sources, Seq cut,
                                   const std::function<bool(size_t, Row)>& usable) {
  const Result<std::vector<Origin>> origins = collect_origins(sources, cut, usable);
  if (!origins.ok()) return origins.status();
  Rewritten rewritten;
  if (origins.value().empty()) return rewritten;
  EHUB_ASSERT(origins.value().size() <= kSegmentRowsMax);
  const Row rows = static_cast<Row>(origins.value().size());
  auto file = VectorFile::create(target.fs, vector_path(target.directory, target.id), target.schema.row_bytes(), rows);
  if (!file.ok()) return file.status();
  EHUB_RETURN_IF_ERROR(copy_vectors(sources, origins.value(), target.schema.row_bytes(), *file.value()));
  SegmentBuilder builder(target.schema, target.hash_seed);
  EHUB_RETURN_IF_ERROR(add_rows(sources, origins.value(), target.hash_seed, builder));
  const Result<SegmentInfo> info = builder.write(target.fs, target.directory, target.id, file.value()->block_crcs());
  if (!info.ok()) return info.status();
  rewritten.segment =
      std::make_shared<const SealedSegment>(target.fs, target.directory, target.schema, target.hash_seed, info.value());
  for (const Origin& origin : origins.value()) rewritten.origins.emplace_back(origin.source, origin.row);
  return rewritten;
}

void carry_deaths(const Rewritten& rewritten, const std::vector<SegmentRef>& sources, DeletionVector& deaths) {
  for (Row row = 0; row < rewritten.origins.size(); ++row) {
    const auto& [source, origin] = rewritten.origins[row];
    const Seq death = sources[source].deaths->death(origin);
    if (death != 0) deaths.kill(row, death);
  }
}

}  // namespace ehub
