// Reading everything and comparing: each checksum, each key, each count.

#include <set>

#include "io/checked_mapping.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

constexpr size_t kRowsAtOnce = 4096;

class Verifier {
 public:
  Verifier(Store::Impl& impl, StopFlag stop) : impl_(impl), stop_(stop) {}

  Result<VerifyReport> run() {
    check_manifest();
    check_logs();
    check_fresh_files();
    for (const auto& table : impl_.all_tables()) check_table(*table);
    if (is_wanted(stop_)) return stopped("the check");
    return std::move(report_);
  }

 private:
  void find(const std::string& path, const Status& status) { report_.findings.push_back(finding_of(path, status)); }
  void find_all(const std::vector<Finding>& findings) {
    report_.findings.insert(report_.findings.end(), findings.begin(), findings.end());
  }

  void count_file(const std::string& path) {
    const auto file = impl_.fs.open(path, FileSystem::Mode::kRead);
    if (!file.ok()) return;
    const Result<uint64_t> size = file.value()->size();
    ++report_.files;
    report_.bytes += size.ok() ? size.value() : 0;
  }

  // The writer of a hub that is only read here may switch to another one meanwhile.
  void check_manifest() {
    count_file(impl_.root + "/CURRENT");
    while (true) {
      const Result<uint64_t> number = read_current(impl_.fs, impl_.root);
      if (!number.ok()) return find(impl_.root + "/CURRENT", number.status());
      const std::string path = manifest_path(impl_.root, number.value());
      const Status status = verify_manifest(impl_.fs, impl_.root, number.value());
      const Result<uint64_t> now = read_current(impl_.fs, impl_.root);
      if (!status.ok() && now.ok() && now.value() != number.value()) continue;
      count_file(path);
      if (!status.ok()) find(path, status);
      return;
    }
  }

  // Each log from the first that counts, as far as batches have been acknowledged.
  void check_logs() {
    Seq seq = impl_.manifest.seq;
    const Seq acknowledged = impl_.visible_seq.load();
    const LogNumber first = impl_.manifest.first_log;
    for (LogNumber number = first;; ++number) {
      const std::string path = log_path(impl_.log_directory, number);
      const auto reader = LogReader::open(impl_.fs, impl_.log_directory, number);
      if (reader.status().code() == Code::kNotFound) {
        if (number == first) return find(path, missing(path));
        if (seq < acknowledged) find_batch(number - 1, seq + 1);
        return;
      }
      if (!reader.ok()) return find(path, reader.status());
      count_file(path);
      const Status status = read_through(*reader.value(), &seq);
      if (!status.ok()) return find(path, status);
      const uint64_t end = reader.value()->offset();
      if (number == first && end < impl_.manifest.carried_bytes) {
        return find(path, corruption(path, end, "a carried record is damaged"));
      }
    }
  }

  void find_batch(LogNumber number, Seq seq) {
    report_.findings.push_back({log_path(impl_.log_directory, number),
                                "batch " + std::to_string(seq) + " was acknowledged and is damaged or missing"});
  }

  static Status read_through(LogReader& reader, Seq* seq) {
    LogRecord record;
    while (true) {
      const Result<bool> found = reader.next(&record);
      if (!found.ok() || !found.value()) return found.status();
      if (record.type == LogRecordType::kBatch) *seq = record.seq;
    }
  }

  // A `.f32` that grows, as of one batch: what was written by then does not change any more.
  struct FreshFile {
    std::string path;
    uint64_t bytes;
    std::vector<uint32_t> block_crcs;
  };

  void check_fresh_files() {
    std::vector<FreshFile> files;
    (void)impl_.queue.run_alone([&] {
      for (const auto& table : impl_.all_tables()) {
        for (const FreshRef& fresh : table->fresh()) {
          const VectorFile* file = fresh.segment->file();
          if (file == nullptr) continue;
          files.push_back({file->path(), file->rows() * table->schema.row_bytes(), file->block_crcs()});
        }
      }
      return Status();
    });
    for (FreshFile& file : files) {
      if (is_wanted(stop_)) return;
      check_fresh_file(file);
    }
  }

  void check_fresh_file(FreshFile& fresh) {
    count_file(fresh.path);
    const auto file = impl_.fs.open(fresh.path, FileSystem::Mode::kRead);
    if (!file.ok())
      return find(fresh.path, file.status().code() == Code::kNotFound ? missing(fresh.path) : file.status());
    const Result<uint64_t> size = file.value()->size();
    if (!size.ok()) return find(fresh.path, size.status());
    if (size.value() < fresh.bytes) {
      find(fresh.path, corruption(fresh.path, size.value(), "the file ends before its rows do"));
      fresh.bytes = size.value() / kChecksumBlockBytes * kChecksumBlockBytes;
      fresh.block_crcs.resize(checksum_blocks(fresh.bytes));
    }
    if (fresh.bytes == 0) return;
    Result<Mapping> mapping = file.value()->map(fresh.bytes);
    if (!mapping.ok()) return find(fresh.path, mapping.status());
    const CheckedMapping checked(fresh.path, std::move(mapping.value()), fresh.bytes, std::move(fresh.block_crcs));
    find_all(checked.findings(&impl_.bytes_checked));
  }

  void check_table(const Table& table) {
    const std::shared_ptr<const TableState> state = table.state();
    bool readable = true;
    for (const SegmentRef& ref : state->segments) {
      const auto* sealed = dynamic_cast<const SealedSegment*>(ref.segment.get());
      if (sealed == nullptr) continue;
      if (is_wanted(stop_)) return;
      count_file(vector_path(impl_.segment_directory, sealed->info().id));
      count_file(segment_path(impl_.segment_directory, sealed->info().id));
      const std::vector<Finding> findings = sealed->findings(&impl_.bytes_checked);
      readable &= findings.empty();
      find_all(findings);
    }
    if (!readable) return;
    const Seq now = impl_.visible_seq.load();
    uint64_t rows = 0;
    find_rows(table, "", check_rows({state, now, table.schema, impl_.hash_seed}, &rows));
    report_.rows += rows;
    std::set<Seq> checked = {now};
    for (const auto& [tag, seq] : table.pins().tags()) {
      if (!checked.insert(seq).second) continue;
      find_rows(table, " at its tag '" + tag + "'", check_rows({state, seq, table.schema, impl_.hash_seed}, &rows));
    }
  }

  void find_rows(const Table& table, const std::string& when, const Status& status) {
    if (status.ok()) return;
    report_.findings.push_back({impl_.root, "version '" + table.version + "' of space '" + table.space + "'" + when +
                                                ": " + status.message()});
  }

  // Every row that the view shows is what its key leads to, so no key has two. `counted_rows`: how many there are.
  Status check_rows(const View& shown, uint64_t* counted_rows) {
    const auto view = std::make_shared<const View>(shown);
    ScanCursor cursor(view);
    uint64_t rows = 0;
    while (true) {
      if (is_wanted(stop_)) return stopped("the check");
      const Result<ScanCursor::Batch> batch = cursor.next(kRowsAtOnce);
      if (!batch.ok()) return batch.status();
      if (batch.value().rows.empty()) break;
      EHUB_RETURN_IF_ERROR(check_keys(*view, batch.value().rows));
      rows += batch.value().rows.size();
    }
    *counted_rows = rows;
    const Result<uint64_t> counted = view->row_count();
    if (!counted.ok()) return counted.status();
    if (counted.value() == rows) return {};
    return {Code::kCorruption, std::to_string(rows) + " rows are visible, but the deletion vectors leave " +
                                   std::to_string(counted.value())};
  }

  static Status check_keys(const View& view, const std::vector<Ordinal>& rows) {
    std::vector<std::string_view> keys;
    for (const Ordinal row : rows) {
      const Result<std::string_view> key = view.key(row);
      if (!key.ok()) return key.status();
      keys.push_back(key.value());
    }
    std::vector<Ordinal> located(rows.size());
    EHUB_RETURN_IF_ERROR(view.locate(keys.data(), keys.size(), located.data()));
    if (located == rows) return {};
    return {Code::kCorruption, "a key does not lead to its row"};
  }

  Store::Impl& impl_;
  const StopFlag stop_;
  VerifyReport report_;
};

}  // namespace

// A checkpoint meanwhile would remove the files that are being read.
Result<VerifyReport> Store::Impl::verify(StopFlag stop) {
  if (!maintenance_mutex.lock_unless(stop)) return stopped("the check");
  const std::lock_guard maintenance(maintenance_mutex, std::adopt_lock);
  const std::shared_lock refreshing(refresh_mutex);
  return Verifier(*this, stop).run();
}

}  // namespace ehub
