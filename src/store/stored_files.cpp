#include "store/stored_files.h"

#include <cinttypes>
#include <cstdio>
#include <map>

#include "store/replay.h"
#include "store/store_impl.h"

namespace ehub {
namespace {

// The footer's checksum covers those of all blocks of both files.
std::string stamp_of(const SegmentInfo& info) {
  char text[96];
  std::snprintf(text, sizeof(text), "%08" PRIx32 "-%" PRIu32 "-%" PRIu64 "-%" PRIu64, info.footer_crc, info.rows,
                info.seq_min, info.seq_max);
  return text;
}

class Lister {
 public:
  explicit Lister(const Store::Impl& impl) : impl_(impl) {}

  Result<StoredFiles> run() {
    // The pinned one, which has what the log has dropped since, too.
    const Result<Manifest> manifest = read_manifest(impl_.fs, impl_.root, impl_.manifest.number);
    if (!manifest.ok()) return manifest.status();
    found_.manifest = manifest.value().number;
    found_.seq = impl_.visible_seq.load();
    found_.hash_seed = manifest.value().hash_seed;
    found_.current = current_text(found_.manifest);
    EHUB_RETURN_IF_ERROR(add_whole({manifest_path(impl_.root, found_.manifest)}));
    for (const ManifestTable& table : manifest.value().tables) {
      for (const ManifestSegment& segment : table.segments) segments_[segment.info.id] = {segment.info, &table.schema};
    }
    for (const auto& [id, segment] : segments_) add_segment(segment.info, segment.schema->row_bytes());
    add_growing();
    EHUB_RETURN_IF_ERROR(add_graphs());
    return std::move(found_);
  }

 private:
  struct Segment {
    SegmentInfo info;
    const Schema* schema = nullptr;
  };

  std::string below_root(const std::string& path) const { return path.substr(impl_.root.size() + 1); }

  Status add_whole(StoredFile file) {
    const auto opened = impl_.fs.open(file.path, FileSystem::Mode::kRead);
    if (!opened.ok()) return opened.status();
    const Result<uint64_t> size = opened.value()->size();
    if (!size.ok()) return size.status();
    file.path = below_root(file.path);
    file.bytes = size.value();
    found_.files.push_back(std::move(file));
    return {};
  }

  void add_segment(const SegmentInfo& info, uint64_t row_bytes) {
    const std::string vectors = below_root(vector_path(impl_.segment_directory, info.id));
    const std::string rest = below_root(segment_path(impl_.segment_directory, info.id));
    found_.files.push_back({vectors, info.rows * row_bytes, row_bytes, info.id, stamp_of(info)});
    found_.files.push_back({rest, info.seg_bytes, 0, info.id, stamp_of(info)});
  }

  // Logs, and the vectors that are not in them.
  void add_growing() {
    for (const auto& [number, bytes] : impl_.replay->log_ends()) {
      found_.files.push_back({below_root(log_path(impl_.log_directory, number)), bytes});
    }
    for (const auto& [id, part] : impl_.replay->vector_ends()) {
      if (segments_.contains(id)) continue;
      found_.files.push_back({below_root(vector_path(impl_.segment_directory, id)), part.bytes, part.row_bytes});
    }
  }

  Status add_graphs() {
    const Result<std::vector<std::string>> names = impl_.fs.list(impl_.index_files_directory);
    if (names.status().code() == Code::kNotFound) return {};
    if (!names.ok()) return names.status();
    for (const std::string& name : names.value()) {
      const std::optional<hnsw::GraphName> graph = hnsw::graph_of_name(name);
      if (!graph || !segments_.contains(graph->segment)) continue;
      const std::string path = impl_.index_files_directory + "/" + name;
      const Status status = add_whole({path, 0, 0, graph->segment, "", true});
      // What is no file is not ours, whatever its name.
      if (!status.ok() && status.code() != Code::kNotFound && !is_no_file(status)) return status;
    }
    return {};
  }

  const Store::Impl& impl_;
  std::map<SegmentId, Segment> segments_;
  StoredFiles found_;
};

}  // namespace

Result<StoredFiles> Store::files() const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  if (!impl_->options.read_only) return invalid_argument("the files of a hub that is open for writing do not stay");
  const std::shared_lock lock(impl_->refresh_mutex);
  return Lister(*impl_).run();
}

Result<std::vector<Finding>> Store::damage_of(const std::set<SegmentId>& segments) const {
  EHUB_RETURN_IF_ERROR(impl_->check_usable());
  const std::shared_lock lock(impl_->refresh_mutex);
  std::vector<Finding> findings;
  const uint64_t number = impl_->manifest.number;
  const Status status = verify_manifest(impl_->fs, impl_->root, number);
  if (!status.ok()) findings.push_back(finding_of(manifest_path(impl_->root, number), status));
  std::set<SegmentId> left = segments;
  for (const auto& table : impl_->all_tables()) {
    for (const SealedRef& ref : table->sealed()) {
      if (left.erase(ref.segment->info().id) == 0) continue;
      const std::vector<Finding> found = ref.segment->findings();
      findings.insert(findings.end(), found.begin(), found.end());
    }
  }
  return findings;
}

}  // namespace ehub
