#include "store/rewrite.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "store/vector_file.h"

namespace ehub {
namespace {

// Rows copied at a time: so many that most of the file's pages can be huge, little enough to stay in the cache.
constexpr uint64_t kCopyBytes = 16 << 20;

// Rows that are looked at, or packed, between two questions whether to stop: some ten milliseconds.
constexpr Row kRowsBetweenStops = 1 << 16;

Status stop_wanted() { return stopped("the rewriting of segments"); }

struct Origin {
  Seq born;
  uint32_t source;
  Row row;
};

Status append_origins(const SegmentRef& ref, uint32_t source, const Times& times,
                      const std::function<bool(size_t, Row)>& usable, StopFlag stop, std::vector<Origin>& out) {
  const Result<Row> rows = ref.segment->rows_at(times.now);
  if (!rows.ok()) return rows.status();
  for (Row row = 0; row < rows.value(); ++row) {
    if (row % kRowsBetweenStops == 0 && is_wanted(stop)) return stop_wanted();
    if (!times.all && times.pinned.empty() && ref.deaths->dead_at(row, times.now)) continue;
    if (usable && !usable(source, row)) continue;
    const Result<Seq> born = ref.segment->born(row);
    if (!born.ok()) return born.status();
    if (times.need(*ref.deaths, row, born.value())) out.push_back({born.value(), source, row});
  }
  return {};
}

Result<std::vector<Origin>> collect_origins(const std::vector<SegmentRef>& sources, const Times& times,
                                            const std::function<bool(size_t, Row)>& usable, StopFlag stop) {
  std::vector<Origin> origins;
  for (uint32_t s = 0; s < sources.size(); ++s) {
    EHUB_RETURN_IF_ERROR(append_origins(sources[s], s, times, usable, stop, origins));
  }
  // Sources are each in order of birth, and mostly among each other.
  std::stable_sort(origins.begin(), origins.end(), [](const Origin& a, const Origin& b) { return a.born < b.born; });
  return origins;
}

Status copy_vectors(const RewriteTarget& target, const std::vector<SegmentRef>& sources,
                    const std::vector<Origin>& origins, VectorFile& file) {
  const size_t row_bytes = target.schema.row_bytes();
  const size_t step = std::max<size_t>(1, kCopyBytes / row_bytes);
  std::vector<float> buffer(std::min(step, origins.size()) * row_bytes / sizeof(float));
  for (size_t begin = 0; begin < origins.size(); begin += step) {
    if (is_wanted(target.stop)) return stop_wanted();
    const size_t n = std::min(step, origins.size() - begin);
    for (size_t i = 0; i < n; ++i) {
      const Origin& origin = origins[begin + i];
      Row run = 0;
      const Result<const float*> vector = sources[origin.source].segment->vectors(origin.row, 1, &run);
      if (!vector.ok()) return vector.status();
      std::memcpy(reinterpret_cast<uint8_t*>(buffer.data()) + i * row_bytes, vector.value(), row_bytes);
    }
    EHUB_RETURN_IF_ERROR(file.append(buffer.data(), static_cast<Row>(n)));
    if (target.rows_rewritten != nullptr) target.rows_rewritten->fetch_add(n, std::memory_order_relaxed);
  }
  return file.finish();
}

Status add_rows(const RewriteTarget& target, const std::vector<SegmentRef>& sources, const std::vector<Origin>& origins,
                SegmentBuilder& builder) {
  for (const Origin& origin : origins) {
    if (builder.rows() % kRowsBetweenStops == 0 && is_wanted(target.stop)) return stop_wanted();
    const Segment& segment = *sources[origin.source].segment;
    const Result<std::string_view> key = segment.key(origin.row);
    if (!key.ok()) return key.status();
    const Result<uint32_t> partition = segment.partition(origin.row);
    if (!partition.ok()) return partition.status();
    builder.add(make_key(target.hash_seed, key.value()), origin.born, partition.value());
  }
  return {};
}

// The rows from this one on are younger than every pinned time. Births are looked up for those before it only.
Row rows_pinned(const SegmentRef& ref, const Times& times) {
  if (times.pinned.empty()) return 0;
  const Result<Row> rows = ref.segment->rows_at(times.pinned.back());
  return rows.ok() ? rows.value() : ref.segment->row_count();
}

bool is_needed(const SegmentRef& ref, const Times& times, Row row, Row pinned) {
  if (!ref.deaths->dead_at(row, times.now)) return true;
  if (row >= pinned) return false;
  const Result<Seq> born = ref.segment->born(row);
  return !born.ok() || ref.deaths->lives_at_any(row, born.value(), times.pinned);
}

uint64_t count_needed(const SegmentRef& ref, const Times& times) {
  const Row rows = ref.segment->row_count();
  const Row pinned = rows_pinned(ref, times);
  uint64_t needed = 0;
  for (Row row = 0; row < rows; ++row) needed += is_needed(ref, times, row, pinned);
  return needed;
}

// Writes these rows, of which there is one at least.
Result<Rewritten> write_rows(const RewriteTarget& target, const std::vector<SegmentRef>& sources,
                             const std::vector<Origin>& origins) {
  EHUB_ASSERT(origins.size() <= kSegmentRowsMax);
  const Row rows = static_cast<Row>(origins.size());
  auto file = VectorFile::create(target.fs, vector_path(target.directory, target.id), target.schema.row_bytes(), rows);
  if (!file.ok()) return file.status();
  EHUB_RETURN_IF_ERROR(copy_vectors(target, sources, origins, *file.value()));
  SegmentBuilder builder(target.schema, target.hash_seed);
  EHUB_RETURN_IF_ERROR(add_rows(target, sources, origins, builder));
  const Result<SegmentInfo> info =
      builder.write(target.fs, target.directory, target.id, file.value()->block_crcs(), target.stop);
  if (!info.ok()) return info.status();
  Rewritten rewritten;
  rewritten.segment =
      std::make_shared<const SealedSegment>(target.fs, target.directory, target.schema, target.hash_seed, info.value());
  for (const Origin& origin : origins) rewritten.origins.emplace_back(origin.source, origin.row);
  return rewritten;
}

// Takes those rows out of `origins` that go to history.
std::vector<Origin> take_history(const std::vector<SegmentRef>& sources, Seq now, std::vector<Origin>& origins) {
  const auto lives = [&](const Origin& origin) { return !sources[origin.source].deaths->dead_at(origin.row, now); };
  const auto dead = static_cast<uint64_t>(std::count_if(origins.begin(), origins.end(), std::not_fn(lives)));
  if (!are_many(dead, origins.size())) return {};
  const auto first = std::stable_partition(origins.begin(), origins.end(), lives);
  std::vector<Origin> history(first, origins.end());
  origins.erase(first, origins.end());
  return history;
}

uint64_t old_searches_of(const std::vector<SegmentRef>& sources) {
  uint64_t searches = 0;
  for (const SegmentRef& ref : sources) {
    const auto* sealed = dynamic_cast<const SealedSegment*>(ref.segment.get());
    if (sealed != nullptr) searches = std::max(searches, sealed->old_searches());
  }
  return searches;
}

}  // namespace

bool Times::need(const DeletionVector& deaths, Row row, Seq born) const {
  return all || (born <= now && !deaths.dead_at(row, now)) || deaths.lives_at_any(row, born, pinned);
}

uint64_t needed_rows(const SegmentRef& ref, const Times& times) {
  const Row rows = ref.segment->row_count();
  if (ref.deaths->dead_count() == 0) return rows;
  if (!ref.is_gone(times.now)) return count_needed(ref, times);
  // Later times see none of it, so that they may come and go.
  const auto later = std::lower_bound(times.pinned.begin(), times.pinned.end(), ref.deaths->last_death());
  if (later == times.pinned.begin()) return 0;
  const Times before = {times.now, {times.pinned.begin(), later}};
  const auto count = [&]() -> Result<uint64_t> { return count_needed(ref, before); };
  return ref.deaths->memory().needed.of({rows, before.pinned}, count).value();
}

// A segment may have no row, if those of the only batch for it were taken back.
bool is_needless(const SegmentRef& ref, const Times& times) {
  return ref.deaths->dead_count() == ref.segment->row_count() && needed_rows(ref, times) == 0;
}

Result<Rewritten> rewrite_segments(const RewriteTarget& target, const std::vector<SegmentRef>& sources,
                                   const Times& times, const std::function<bool(size_t, Row)>& usable) {
  const Result<std::vector<Origin>> origins = collect_origins(sources, times, usable, target.stop);
  if (!origins.ok()) return origins.status();
  return origins.value().empty() ? Result<Rewritten>(Rewritten()) : write_rows(target, sources, origins.value());
}

Result<RewrittenApart> rewrite_apart(const RewriteTarget& target, SegmentId history,
                                     const std::vector<SegmentRef>& sources, const Times& times) {
  Result<std::vector<Origin>> origins = collect_origins(sources, times, nullptr, target.stop);
  if (!origins.ok()) return origins.status();
  const std::vector<Origin> old = take_history(sources, times.now, origins.value());
  RewrittenApart apart;
  const auto write = [&](const std::vector<Origin>& rows, SegmentId id, Rewritten& out) -> Status {
    if (rows.empty()) return {};
    RewriteTarget one = target;
    one.id = id;
    Result<Rewritten> written = write_rows(one, sources, rows);
    if (!written.ok()) return written.status();
    out = std::move(written.value());
    return {};
  };
  EHUB_RETURN_IF_ERROR(write(origins.value(), target.id, apart.living));
  EHUB_RETURN_IF_ERROR(write(old, history, apart.history));
  if (apart.history.segment != nullptr) apart.history.segment->add_old_searches(old_searches_of(sources));
  return apart;
}

std::shared_ptr<DeletionVector> carry_deaths(const Rewritten& rewritten, const std::vector<SegmentRef>& sources) {
  auto deaths = std::make_shared<DeletionVector>();
  for (Row row = 0; row < rewritten.origins.size(); ++row) {
    const auto& [source, origin] = rewritten.origins[row];
    deaths->copy_row(*sources[source].deaths, origin, row);
  }
  return deaths;
}

}  // namespace ehub
