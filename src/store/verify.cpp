// Reading everything and comparing: each checksum, each key, each count.

#include "io/checked_mapping.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

constexpr size_t kRowsAtOnce = 4096;

class Verifier {
 public:
  explicit Verifier(Store::Impl& impl) : impl_(impl) {}

  VerifyReport run() {
    check_manifest();
    check_logs();
    for (const auto& table : impl_.all_tables()) check_table(*table);
    return std::move(report_);
  }

 private:
  void find(const std::string& path, const std::string& what) { report_.findings.push_back({path, what}); }

  void count_file(const std::string& path) {
    const auto file = impl_.fs.open(path, FileSystem::Mode::kRead);
    if (!file.ok()) return;
    const Result<uint64_t> size = file.value()->size();
    ++report_.files;
    report_.bytes += size.ok() ? size.value() : 0;
  }

  void check_manifest() {
    count_file(impl_.root + "/CURRENT");
    const Result<uint64_t> number = read_current(impl_.fs, impl_.root);
    if (!number.ok()) return find(impl_.root + "/CURRENT", number.status().message());
    const std::string path = manifest_path(impl_.root, number.value());
    count_file(path);
    const Result<Manifest> manifest = read_manifest(impl_.fs, impl_.root, number.value());
    if (!manifest.ok()) find(path, manifest.status().message());
  }

  // Each log from the first that counts, as far as batches have been acknowledged.
  void check_logs() {
    Seq seq = impl_.manifest.seq;
    const Seq acknowledged = impl_.visible_seq.load();
    for (LogNumber number = impl_.manifest.first_log;; ++number) {
      const std::string path = log_path(impl_.log_directory, number);
      const auto reader = LogReader::open(impl_.fs, impl_.log_directory, number);
      if (!reader.ok()) {
        if (seq < acknowledged || number == impl_.manifest.first_log) find(path, reader.status().message());
        return;
      }
      count_file(path);
      const Status status = read_through(*reader.value(), &seq);
      if (!status.ok()) return find(path, status.message());
      const bool first = number == impl_.manifest.first_log;
      if (first && reader.value()->offset() < impl_.manifest.carried_bytes) find(path, "a carried record is damaged");
    }
  }

  static Status read_through(LogReader& reader, Seq* seq) {
    LogRecord record;
    while (true) {
      const Result<bool> found = reader.next(&record);
      if (!found.ok() || !found.value()) return found.status();
      if (record.type == LogRecordType::kBatch) *seq = record.seq;
    }
  }

  void check_table(const Table& table) {
    const std::shared_ptr<const TableState> state = table.state();
    bool readable = true;
    for (const SegmentRef& ref : state->segments) {
      const auto* sealed = dynamic_cast<const SealedSegment*>(ref.segment.get());
      if (sealed == nullptr) continue;
      count_file(vector_path(impl_.segment_directory, sealed->info().id));
      count_file(segment_path(impl_.segment_directory, sealed->info().id));
      const Status status = sealed->verify();
      readable &= status.ok();
      if (!status.ok()) find(segment_path(impl_.segment_directory, sealed->info().id), status.message());
    }
    if (!readable) return;
    const Status status = check_rows(table);
    if (!status.ok()) find(impl_.root, "space '" + table.space + "': " + status.message());
  }

  // Every visible row is what its key leads to, so no key has two.
  Status check_rows(const Table& table) {
    const auto view =
        std::make_shared<const View>(table.state(), impl_.visible_seq.load(), table.schema, impl_.hash_seed);
    ScanCursor cursor(view);
    uint64_t rows = 0;
    while (true) {
      const Result<ScanCursor::Batch> batch = cursor.next(kRowsAtOnce);
      if (!batch.ok()) return batch.status();
      if (batch.value().rows.empty()) break;
      EHUB_RETURN_IF_ERROR(check_keys(*view, batch.value().rows));
      rows += batch.value().rows.size();
    }
    report_.rows += rows;
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
  VerifyReport report_;
};

}  // namespace

// A checkpoint meanwhile would remove the files that are being read.
Result<VerifyReport> Store::Impl::verify() {
  const std::lock_guard maintenance(maintenance_mutex);
  const std::shared_lock refreshing(refresh_mutex);
  return Verifier(*this).run();
}

}  // namespace ehub
