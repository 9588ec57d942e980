#include "store/salvage.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "base/crc32c.h"
#include "base/limits.h"
#include "io/checked_mapping.h"
#include "store/log_format.h"
#include "store/numbered.h"

namespace ehub {
namespace {

constexpr uint64_t kStartBytes = log_record_bytes(sizeof(LogStart));

std::string batches_text(Seq first, Seq last) {
  if (first == last) return "batch " + std::to_string(first);
  return "batches " + std::to_string(first) + " to " + std::to_string(last);
}

// Per block of an extent, whether the file has it as it was when the batch was written.
std::vector<bool> sound_blocks(const Mapping& mapping, const Extent& extent, uint64_t row_bytes) {
  const uint64_t end = (uint64_t{extent.first_row} + extent.rows) * row_bytes;
  const uint64_t first_block = extent.first_row * row_bytes / kChecksumBlockBytes;
  std::vector<bool> sound(checksum_blocks(end) - first_block, false);
  if (sound.size() != extent.block_crcs.size()) return sound;
  for (size_t i = 0; i < sound.size(); ++i) {
    const uint64_t from = (first_block + i) * kChecksumBlockBytes;
    const uint64_t to = std::min(from + kChecksumBlockBytes, end);
    sound[i] = to <= mapping.size_bytes && crc32c(0, mapping.data + from, to - from) == extent.block_crcs[i];
  }
  return sound;
}

// Per row of an extent, whether all blocks are sound that it lies in.
std::vector<bool> sound_rows(const Mapping& mapping, const Extent& extent, uint64_t row_bytes) {
  const std::vector<bool> blocks = sound_blocks(mapping, extent, row_bytes);
  const uint64_t first_block = extent.first_row * row_bytes / kChecksumBlockBytes;
  std::vector<bool> rows(extent.rows);
  for (Row i = 0; i < extent.rows; ++i) {
    const uint64_t begin = (uint64_t{extent.first_row} + i) * row_bytes;
    const auto first = static_cast<ptrdiff_t>(begin / kChecksumBlockBytes - first_block);
    const auto last = static_cast<ptrdiff_t>((begin + row_bytes - 1) / kChecksumBlockBytes - first_block);
    rows[i] = std::all_of(blocks.begin() + first, blocks.begin() + last + 1, [](bool sound) { return sound; });
  }
  return rows;
}

}  // namespace

Salvage::Salvage(Store::Impl& impl, Seq acknowledged, LostRows& lost, RepairReport& report)
    : LogApplier(impl),
      acknowledged_(acknowledged),
      lost_(lost),
      report_(report),
      read_seq_(impl.manifest.seq),
      synced_(std::max(impl.manifest.durable_seq, acknowledged)) {}

Status Salvage::run() {
  const Result<std::vector<LogNumber>> logs = choose_logs();
  if (!logs.ok()) return logs.status();
  LogNumber last = impl_.manifest.first_log;
  const std::string first_path = log_path(impl_.log_directory, last);
  if (logs.value().empty() || logs.value().front() != last) note_log_gone(first_path);
  for (const LogNumber number : logs.value()) {
    last = number;
    const Result<bool> more = read_log(number);
    if (!more.ok()) return more.status();
    if (!more.value()) break;
  }
  if (synced_ > read_seq_) note_missing(log_path(impl_.log_directory, last), read_seq_ + 1, synced_);
  report_sources();
  return {};
}

// The first log and all that continue it, and what they say of each other.
Result<std::vector<LogNumber>> Salvage::choose_logs() {
  const Result<std::vector<uint64_t>> numbers = list_numbered(impl_.fs, impl_.log_directory, log_path);
  if (!numbers.ok()) return numbers.status();
  std::vector<LogNumber> chosen;
  for (const LogNumber number : numbers.value()) {
    if (number < impl_.manifest.first_log) continue;
    const auto log = LogReader::open(impl_.fs, impl_.log_directory, number);
    if (!log.ok()) return log.status();
    LogRecord record;
    const Result<bool> found = log.value()->next(&record);
    if (!found.ok()) return found.status();
    const std::optional<LogStart> start = found.value() ? decode_log_start(record) : std::nullopt;
    const bool first = number == impl_.manifest.first_log;
    // A recovery that was cut short began a log of its own: until a manifest names it, the old ones count.
    if (!first && start && start->previous == 0) break;
    if (!first && start) synced_ = std::max(synced_, start->previous_seq);
    const Result<Seq> behind = log.value()->synced_behind();
    if (!behind.ok()) return behind.status();
    synced_ = std::max(synced_, behind.value());
    chosen.push_back(number);
  }
  return chosen;
}

Result<bool> Salvage::read_log(LogNumber number) {
  const std::string path = log_path(impl_.log_directory, number);
  const auto opened = LogReader::open(impl_.fs, impl_.log_directory, number);
  if (!opened.ok()) return opened.status();
  LogReader& log = *opened.value();
  while (true) {
    LogRecord record;
    const Result<bool> found = log.next(&record);
    if (!found.ok()) return found.status();
    if (found.value()) {
      const Result<bool> taken = take(number, path, record);
      if (!taken.ok() || !taken.value()) return taken;
      continue;
    }
    const uint64_t begin = log.offset();
    const Result<bool> more = log.skip_damage();
    if (!more.ok()) return more.status();
    note_gap(number, begin, more.value() ? log.offset() : std::numeric_limits<uint64_t>::max());
    if (!more.value()) return true;
  }
}

Result<bool> Salvage::take(LogNumber number, const std::string& path, const LogRecord& record) {
  if (record.type == LogRecordType::kStart) return true;
  if (record.type == LogRecordType::kCarried) {
    return number == impl_.manifest.first_log ? apply_whole({path, record, true}) : Result<bool>(true);
  }
  if (record.seq <= read_seq_) return true;
  if (record.seq - 1 > read_seq_) {
    if (record.seq - 1 > synced_) return false;
    note_missing(path, read_seq_ + 1, record.seq - 1);
  }
  const Result<bool> applied = apply_whole({path, record, record.seq <= synced_});
  if (applied.ok() && applied.value()) read_seq_ = record.seq;
  return applied;
}

Result<bool> Salvage::apply_whole(const LoggedBatch& batch) {
  const Result<bool> applied = apply(batch);
  if (applied.ok() || applied.status().code() != Code::kCorruption) return applied;
  drop_batches(batch.path, 1, finding_of(batch.path, applied.status()).what);
  return true;
}

// Bytes [begin, end) of a log are no records. What batches are missing the next one's seq will tell; carried rows have
// none.
void Salvage::note_gap(LogNumber number, uint64_t begin, uint64_t end) {
  if (number != impl_.manifest.first_log) return;
  const std::string path = log_path(impl_.log_directory, number);
  if (begin == 0 && end == std::numeric_limits<uint64_t>::max()) return note_log_gone(path);
  if (begin == 0) report_.dropped.push_back({path, "the log does not begin with a start record"});
  if (std::max(begin, kStartBytes) >= std::min(end, impl_.manifest.carried_bytes)) return;
  drop_batches(path, 1,
               "damaged at byte " + std::to_string(begin) +
                   ": rows of a small space, carried over by a checkpoint, are gone; which ones is not known");
}

void Salvage::note_log_gone(const std::string& path) {
  const bool carried = impl_.manifest.carried_bytes > kStartBytes;
  // After a clean close nothing but carried rows was in it, and if somebody knows the last batch, that will be said.
  const bool unknown = !impl_.manifest.clean && acknowledged_ == 0;
  const std::string what = "the log is missing or nothing of it is readable";
  if (!carried && !unknown) return report_.dropped.push_back({path, what});
  drop_batches(path, 1, what + "; what it held is gone: how much is not known");
}

void Salvage::note_missing(const std::string& path, Seq first, Seq last) {
  drop_batches(path, last - first + 1,
               batches_text(first, last) + (first == last ? " is" : " are") +
                   " damaged or missing: what was set, deleted or overwritten there is not known, so rows of it are "
                   "gone or show older values");
  read_seq_ = last;
}

void Salvage::drop_batches(const std::string& path, uint64_t batches, const std::string& what) {
  report_.batches_dropped += batches;
  report_.dropped.push_back({path, what});
}

void Salvage::report_sources() {
  for (const auto& [id, source] : sources_) {
    if (source.rows_lost == 0) continue;
    report_.dropped.push_back(
        {source.path, "vectors of " + std::to_string(source.rows_lost) + " rows of space '" + source.space + "' (" +
                          batches_text(source.first_seq, source.last_seq) +
                          ") are damaged or missing; those rows are gone that no later batch set or deleted"});
  }
}

Result<bool> Salvage::apply_op(const LogOp& op, const LoggedBatch& batch) {
  if (op.kind == LogOp::Kind::kCreateTable) {
    // Names are unique: the batch that dropped the other one is missing.
    const Result<std::shared_ptr<Table>> other = impl_.find_version(std::string(op.space), std::string(op.version));
    if (other.ok()) {
      lost_.forget_all(other.value()->id);
      apply_drop(*other.value());
    }
  } else if (op.kind == LogOp::Kind::kDeleteAll || op.kind == LogOp::Kind::kDropTable) {
    lost_.forget_all(op.table);
  } else if (op.kind == LogOp::Kind::kRestore) {
    lost_.restore(op.table);
  }
  // Of a set with extents, copy_rows() knows which rows there are.
  if (op.extents.empty()) {
    for (const Key& key : hashed(op.keys)) lost_.forget(op.table, key.hash);
  }
  if (op.kind == LogOp::Kind::kSet && !impl_.tables.contains(op.table)) lose_rows_without_space(op, batch);
  return LogApplier::apply_op(op, batch);
}

// The batch that made the space is missing, and with it all that its rows mean.
void Salvage::lose_rows_without_space(const LogOp& op, const LoggedBatch& batch) {
  for (const Key& key : hashed(op.keys)) lost_.add(op.table, key.hash);
  if (!unknown_tables_.insert(op.table).second) return;
  report_.dropped.push_back({batch.path, "damaged at byte " + std::to_string(batch.record.offset) + ": from batch " +
                                             std::to_string(batch.record.seq) +
                                             " on there are rows of a space whose creation is missing; they are gone"});
}

Result<bool> Salvage::set_from_files(Rows& rows, const LogOp& op, const LoggedBatch& batch) {
  const uint64_t row_bytes = rows.table().schema.row_bytes();
  std::vector<std::pair<Source*, std::vector<bool>>> parts;
  for (const Extent& extent : op.extents) {
    const Result<Source*> source = source_of(rows.table(), extent.segment);
    if (!source.ok()) return source.status();
    std::vector<bool> sound = sound_rows(source.value()->mapping, extent, row_bytes);
    const bool whole = std::find(sound.begin(), sound.end(), false) == sound.end();
    if (!whole && !batch.proven) return false;
    parts.emplace_back(source.value(), std::move(sound));
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto& [source, sound] = parts[i];
    EHUB_RETURN_IF_ERROR(copy_sound_rows(rows, *source, op.extents[i], sound, batch.record.seq));
  }
  return true;
}

Result<Salvage::Source*> Salvage::source_of(const Table& table, SegmentId segment) {
  const auto [at, made] = sources_.try_emplace(segment);
  Source& source = at->second;
  if (!made) return &source;
  source.path = vector_path(impl_.segment_directory, segment);
  source.space = table.space;
  const auto file = impl_.fs.open(source.path, FileSystem::Mode::kRead);
  if (file.status().code() == Code::kNotFound) return &source;
  if (!file.ok()) return file.status();
  const Result<uint64_t> size = file.value()->size();
  if (!size.ok()) return size.status();
  if (size.value() == 0) return &source;
  Result<Mapping> mapping = file.value()->map(size.value());
  if (!mapping.ok()) return mapping.status();
  source.mapping = std::move(mapping.value());
  return &source;
}

Status Salvage::copy_sound_rows(Rows& rows, Source& source, const Extent& extent, const std::vector<bool>& sound,
                                Seq seq) {
  const uint64_t row_bytes = rows.table().schema.row_bytes();
  for (Row i = 0; i < extent.rows;) {
    if (sound[i]) {
      const auto from = sound.begin() + i;
      const auto n = static_cast<Row>(std::find(from, sound.end(), false) - from);
      EHUB_RETURN_IF_ERROR(copy_rows(rows, source.mapping.data + (uint64_t{extent.first_row} + i) * row_bytes, n));
      i += n;
      continue;
    }
    lost_.add(rows.table().id, rows.key().hash);
    rows.leave_out();
    if (source.rows_lost++ == 0) source.first_seq = seq;
    source.last_seq = seq;
    ++i;
  }
  return {};
}

// To new files: those of the damaged hub stay as they are.
Status Salvage::copy_rows(Rows& rows, const uint8_t* vectors, size_t n) {
  Table& table = rows.table();
  while (n > 0) {
    const Result<std::shared_ptr<FreshSegment>> segment = impl_.file_for(table);
    if (!segment.ok()) return segment.status();
    VectorFile& file = *segment.value()->file();
    const Row part = static_cast<Row>(std::min<size_t>(n, impl_.segment_rows_max(table.schema) - file.rows()));
    EHUB_RETURN_IF_ERROR(file.append(reinterpret_cast<const float*>(vectors), part));
    for (Row i = 0; i < part; ++i) lost_.forget(table.id, rows.key(i).hash);  // lost earlier in this batch
    rows.put(*segment.value(), part);
    vectors += part * table.schema.row_bytes();
    n -= part;
  }
  return {};
}

}  // namespace ehub
