#include "store/replay.h"

#include <algorithm>
#include <optional>

#include "base/limits.h"
#include "io/checked_mapping.h"

namespace ehub {
namespace {

// What extend_files() gives for a record whose vectors did not all reach the disk.
const char* const kTorn = "torn";

bool is_torn(const Status& status) { return status.message() == kTorn; }

Status torn() { return {Code::kCorruption, kTorn}; }

}  // namespace

Replay::Replay(Store::Impl& impl, bool rewrite)
    : LogApplier(impl),
      rewrite_(rewrite),
      log_number_(impl.manifest.first_log),
      seq_(impl.manifest.seq),
      read_seq_(impl.manifest.seq),
      synced_(impl.manifest.durable_seq) {}

Status Replay::run(Seq acknowledged_max) {
  if (reader_ == nullptr) EHUB_RETURN_IF_ERROR(open_first_log());
  EHUB_RETURN_IF_ERROR(apply_proven(acknowledged_max == kSeqMax ? synced_ : acknowledged_max));
  EHUB_RETURN_IF_ERROR(read_logs(acknowledged_max));
  if (acknowledged_max != kSeqMax) return apply_proven(acknowledged_max);
  EHUB_RETURN_IF_ERROR(judge_end());
  EHUB_RETURN_IF_ERROR(apply_proven(synced_));
  return apply_unproven();
}

std::map<LogNumber, uint64_t> Replay::log_ends() const {
  std::map<LogNumber, uint64_t> ends = ends_before_;
  ends[log_number_] = reader_->offset();
  return ends;
}

Status Replay::open_first_log() {
  const std::string path = log_path(impl_.log_directory, log_number_);
  auto reader = LogReader::open(impl_.fs, impl_.log_directory, log_number_);
  if (!reader.ok()) {
    return reader.status().code() == Code::kNotFound ? missing(path) : reader.status();
  }
  LogRecord start;
  const Result<bool> found = reader.value()->next(&start);
  if (!found.ok()) return found.status();
  if (!found.value() || !decode_log_start(start))
    return corruption(path, 0, "the log does not begin with a start record");
  reader_ = std::move(reader.value());
  return {};
}

Status Replay::read_logs(Seq seq_max) {
  while (true) {
    EHUB_RETURN_IF_ERROR(read_log(seq_max));
    if (read_seq_ >= seq_max) return {};
    const Result<bool> more = next_log();
    if (!more.ok()) return more.status();
    if (!more.value()) return {};
  }
}

Status Replay::read_log(Seq seq_max) {
  const auto carried_left = [&] {
    return log_number_ == impl_.manifest.first_log && reader_->offset() < impl_.manifest.carried_bytes;
  };
  while (read_seq_ < seq_max || carried_left()) {
    LogRecord record;
    const Result<bool> found = reader_->next(&record);
    if (!found.ok()) return found.status();
    if (!found.value()) return {};
    EHUB_RETURN_IF_ERROR(take(std::move(record)));
  }
  return {};
}

// Memory stays bounded: a record is held only until a later one vouches for it.
Status Replay::take(LogRecord record) {
  if (record.type == LogRecordType::kCarried) {
    if (log_number_ != impl_.manifest.first_log) return {};
    return apply(as_batch(record, true)).status();
  }
  found_more_ = true;
  if (record.seq != read_seq_ + 1) {
    return corruption(log_path(impl_.log_directory, log_number_), record.offset,
                      "batch " + std::to_string(record.seq) + " follows batch " + std::to_string(read_seq_));
  }
  read_seq_ = record.seq;
  synced_ = std::max(synced_, record.synced_seq);
  held_.push_back(std::move(record));
  return apply_proven(synced_);
}

Result<bool> Replay::next_log() {
  auto next = LogReader::open(impl_.fs, impl_.log_directory, log_number_ + 1);
  if (!next.ok()) {
    if (next.status().code() == Code::kNotFound) return false;
    return next.status();
  }
  found_more_ = true;
  LogRecord record;
  const Result<bool> found = next.value()->next(&record);
  if (!found.ok()) return found.status();
  const std::optional<LogStart> start = found.value() ? decode_log_start(record) : std::nullopt;
  if (!start || start->previous != log_number_) {
    const Result<Seq> behind = next.value()->synced_behind();
    if (!behind.ok()) return behind.status();
    if (!start) synced_ = std::max(synced_, behind.value());
    return false;
  }
  // The next log was begun after this one was complete: what was written since it was read last is there now.
  EHUB_RETURN_IF_ERROR(read_log(kSeqMax));
  if (start->previous_bytes != reader_->offset() || start->previous_seq != read_seq_) {
    return corruption(log_path(impl_.log_directory, log_number_), reader_->offset(),
                      "the log ends here with batch " + std::to_string(read_seq_) + ", but went on to batch " +
                          std::to_string(start->previous_seq));
  }
  ends_before_[log_number_] = reader_->offset();
  reader_ = std::move(next.value());
  ++log_number_;
  return true;
}

Status Replay::judge_end() {
  const std::string path = log_path(impl_.log_directory, log_number_);
  if (log_number_ == impl_.manifest.first_log && reader_->offset() < impl_.manifest.carried_bytes) {
    return corruption(path, reader_->offset(), "a carried record is damaged");
  }
  const Result<Seq> behind = reader_->synced_behind();
  if (!behind.ok()) return behind.status();
  synced_ = std::max(synced_, behind.value());
  if (synced_ <= read_seq_) return {};
  return corruption(path, reader_->offset(),
                    "batch " + std::to_string(read_seq_ + 1) + " is damaged or missing; batches up to " +
                        std::to_string(synced_) + " were on the disk");
}

Status Replay::apply_proven(Seq proven) {
  while (!held_.empty() && held_.front().seq <= proven) {
    const Result<bool> applied = apply(as_batch(held_.front(), true));
    if (!applied.ok()) return applied.status();
    seq_ = held_.front().seq;
    held_.pop_front();
  }
  return {};
}

Status Replay::apply_unproven() {
  for (; !held_.empty(); held_.pop_front()) {
    const Result<bool> applied = apply(as_batch(held_.front(), false));
    if (!applied.ok()) return applied.status();
    if (!applied.value()) break;
    seq_ = held_.front().seq;
  }
  held_.clear();
  return {};
}

LoggedBatch Replay::as_batch(const LogRecord& record, bool proven) const {
  return {log_path(impl_.log_directory, log_number_), record, proven};
}

Result<bool> Replay::set_from_files(Rows& rows, const LogOp& op, const LoggedBatch& batch) {
  const Result<std::vector<Placed>> placed = extend_files(rows.table(), op, batch.proven);
  if (!placed.ok()) return is_torn(placed.status()) ? Result<bool>(false) : placed.status();
  for (const Placed& part : placed.value()) rows.put(*part.segment, part.extent.rows);
  return true;
}

Result<std::vector<Placed>> Replay::extend_files(Table& table, const LogOp& op, bool proven) {
  std::vector<Placed> placed;
  for (const Extent& extent : op.extents) {
    Result<Placed> part = extend_file(table, extent, proven);
    if (part.ok()) {
      placed.push_back(std::move(part.value()));
      continue;
    }
    for (auto done = placed.rbegin(); done != placed.rend(); ++done) {
      done->segment->file()->rollback(done->extent.first_row, done->tail_crc);
    }
    return part.status();
  }
  return placed;
}

Result<Placed> Replay::extend_file(Table& table, const Extent& extent, bool proven) {
  Result<std::shared_ptr<FreshSegment>> segment = file_segment(table, extent);
  if (segment.status().code() == Code::kNotFound) {
    return proven ? missing(vector_path(impl_.segment_directory, extent.segment)) : torn();
  }
  if (!segment.ok()) return segment.status();
  VectorFile& file = *segment.value()->file();
  const uint64_t row_bytes = table.schema.row_bytes();
  const uint64_t end = uint64_t{extent.first_row} + extent.rows;
  const uint64_t first_block = extent.first_row * row_bytes / kChecksumBlockBytes;
  if (extent.first_row != file.rows() || end > impl_.segment_rows_max(table.schema) ||
      first_block + extent.block_crcs.size() != checksum_blocks(end * row_bytes)) {
    return corruption(file.path(), extent.first_row * row_bytes, "the log's rows do not follow those of the file");
  }
  const uint32_t tail_crc = file.block_crcs().empty() ? 0 : file.block_crcs().back();
  file.extend(static_cast<Row>(end), extent.block_crcs, first_block);
  const Result<bool> whole = file.matches(extent.first_row);
  if (!whole.ok() || !whole.value()) {
    file.rollback(extent.first_row, tail_crc);
    if (!whole.ok()) return whole.status();
    return proven ? corruption(file.path(), extent.first_row * row_bytes, "vectors of a batch are damaged or missing")
                  : torn();
  }
  if (!proven && rewrite_) EHUB_RETURN_IF_ERROR(file.rewrite(extent.first_row));
  vector_ends_[extent.segment] = {end * row_bytes, row_bytes};
  return Placed{segment.value(), extent, tail_crc};
}

Result<std::shared_ptr<FreshSegment>> Replay::file_segment(Table& table, const Extent& extent) {
  if (std::shared_ptr<FreshSegment> known = table.find_file(extent.segment)) return known;
  auto file = VectorFile::adopt(impl_.fs, vector_path(impl_.segment_directory, extent.segment),
                                table.schema.row_bytes(), impl_.segment_rows_max(table.schema), 0, {}, rewrite_);
  if (!file.ok()) return file.status();
  auto segment = std::make_shared<FreshSegment>(table.schema, extent.segment, std::move(file.value()));
  table.add_fresh(segment);
  const SegmentId next = impl_.next_segment;
  impl_.next_segment = std::max(next, extent.segment + 1);
  return segment;
}

}  // namespace ehub
