#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "hnsw/graph_file.h"
#include "hnsw/graph_format.h"
#include "io/block_writer.h"

namespace ehub::hnsw {
namespace {

class GraphWriter {
 public:
  explicit GraphWriter(File& file) : out_(file, kGraphBlockBytes) {}

  Status write(const GraphStamp& stamp, const BuiltGraph& graph) {
    GraphHeader header{};
    std::memcpy(header.magic, kGraphMagic, sizeof(kGraphMagic));
    header.format = stamp.subset.kind == 0 ? kGraphFormat : kSubsetGraphFormat;
    header.subset_kind = static_cast<unsigned char>(stamp.subset.kind);
    header.subset_number = stamp.subset.number;
    out_.put(&header, sizeof(header));
    out_.put(graph.segment_rows.data(), graph.segment_rows.size() * sizeof(uint32_t));
    put_sections(graph);
    footer_.block_crcs = {out_.offset(), 0};
    const std::vector<uint32_t> crcs = out_.block_crcs();
    out_.put(crcs.data(), crcs.size() * sizeof(uint32_t));
    footer_.block_crcs.length = crcs.size() * sizeof(uint32_t);
    footer_.block_crcs_checksum = crc_mask(crc32c(0, crcs.data(), footer_.block_crcs.length));
    describe(stamp, graph);
    footer_.checksum = footer_checksum(footer_);
    std::memcpy(footer_.magic, kGraphMagic, sizeof(kGraphMagic));
    out_.put(&footer_, sizeof(footer_));
    return out_.close();
  }

 private:
  void put(GraphSection section, const void* data, size_t size) {
    out_.align(kGraphAlignment);
    footer_.sections[static_cast<size_t>(section)] = {out_.offset(), size};
    out_.put(data, size);
  }
  template <typename T>
  void put_array(GraphSection section, const T* values, size_t count) {
    put(section, values, count * sizeof(T));
  }

  void put_sections(const BuiltGraph& graph) {
    const GraphView& view = graph.view;
    put_array(GraphSection::kMean, graph.encoder.mean().data(), graph.encoder.dims());
    put_array(GraphSection::kRouter, view.router.data(), view.router.size());
    const size_t coded = view.codes.width == CodeWidth::kNone ? 0 : 1;
    put(GraphSection::kRouterCodes, view.router_codes.codes, coded * view.router.size() * view.codes.code_bytes);
    put_array(GraphSection::kRouterMetas, view.router_codes.metas, coded * view.router.size());
    put_array(GraphSection::kTwinNodes, view.twins.nodes.data(), view.twins.nodes.size());
    put_array(GraphSection::kTwinBegins, view.twins.begins.data(), view.twins.begins.size());
    put_array(GraphSection::kTwinRows, view.twins.rows.data(), view.twins.rows.size());
    put_array(GraphSection::kHasTwins, view.twins.has_twins, view.twins.empty() ? 0 : bitmap_words(view.rows));
    put_array(GraphSection::kMetas, view.codes.metas, coded * view.rows);
    put(GraphSection::kCodes, view.codes.codes, coded * view.rows * view.codes.code_bytes);
    put_array(GraphSection::kLinks, view.links, size_t{view.rows} * view.link_stride);
  }

  void describe(const GraphStamp& stamp, const BuiltGraph& graph) {
    footer_.segment = stamp.segment;
    footer_.segment_crc = stamp.segment_crc;
    footer_.rows = graph.view.rows;
    footer_.dims = stamp.dims;
    footer_.metric = static_cast<uint32_t>(stamp.metric);
    footer_.M = graph.parameters.M;
    footer_.ef_construction = graph.parameters.ef_construction;
    footer_.target_recall = graph.parameters.target_recall;
    footer_.ef = graph.view.calibration.ef;
    footer_.rerank_min = graph.view.calibration.rerank_min;
    footer_.width = static_cast<uint32_t>(graph.view.codes.width);
    footer_.link_stride = graph.view.link_stride;
    footer_.rotated = graph.encoder.rotation_seed() ? 1 : 0;
    footer_.rotation_seed = graph.encoder.rotation_seed().value_or(0);
    footer_.unreachable = graph.unreachable;
  }

  BlockWriter out_;
  GraphFooter footer_{};
};

Status write_file(FileSystem& fs, const std::string& path, const GraphStamp& stamp, const BuiltGraph& graph) {
  auto file = fs.open(path, FileSystem::Mode::kCreate);
  if (!file.ok()) return file.status();
  return GraphWriter(*file.value()).write(stamp, graph);
}

// What has the name of a graph and is no file gets another one, that nothing has.
Status move_foreign(FileSystem& fs, const std::string& directory, const std::string& path) {
  if (!is_no_file(fs.open(path, FileSystem::Mode::kRead).status())) return {};
  const Result<std::vector<std::string>> names = fs.list(directory);
  if (!names.ok()) return names.status();
  const auto is_taken = [&](const std::string& moved) {
    return std::find(names.value().begin(), names.value().end(), moved.substr(directory.size() + 1)) !=
           names.value().end();
  };
  std::string moved = path + ".foreign";
  for (int number = 2; is_taken(moved); ++number) moved = path + ".foreign-" + std::to_string(number);
  return fs.rename(path, moved);
}

}  // namespace

std::string graph_path(const std::string& directory, uint64_t segment, GraphSubset subset) {
  char name[64];
  if (subset.kind == 0) {
    std::snprintf(name, sizeof(name), "/%012" PRIu64 ".hnsw", segment);
  } else {
    std::snprintf(name, sizeof(name), "/%012" PRIu64 "-%c%" PRIu64 ".hnsw", segment, subset.kind, subset.number);
  }
  return directory + name;
}

std::string unfinished_graph_path(const std::string& directory, uint64_t segment, GraphSubset subset) {
  return graph_path(directory, segment, subset) + ".tmp";
}

std::optional<GraphName> graph_of_name(const std::string& name) {
  GraphName found;
  char* end = nullptr;
  found.segment = std::strtoull(name.c_str(), &end, 10);
  if (*end == '-' && end[1] >= 'a' && end[1] <= 'z') {
    found.subset.kind = end[1];
    found.subset.number = std::strtoull(end + 2, nullptr, 10);
  }
  const bool is_it = "/" + name == graph_path("", found.segment, found.subset) ||
                     "/" + name == unfinished_graph_path("", found.segment, found.subset);
  return is_it && found.segment != 0 ? std::optional(found) : std::nullopt;
}

Status write_graph(FileSystem& fs, const std::string& directory, const GraphStamp& stamp, const BuiltGraph& graph) {
  const std::string path = graph_path(directory, stamp.segment, stamp.subset);
  const std::string unfinished = unfinished_graph_path(directory, stamp.segment, stamp.subset);
  EHUB_RETURN_IF_ERROR(move_foreign(fs, directory, unfinished));
  Status status = write_file(fs, unfinished, stamp, graph);
  // Of what is neither a file nor a directory the rename would leave nothing.
  if (status.ok()) status = move_foreign(fs, directory, path);
  if (status.ok()) status = fs.rename(unfinished, path);
  if (!status.ok()) (void)fs.remove(unfinished);
  return status;
}

}  // namespace ehub::hnsw
