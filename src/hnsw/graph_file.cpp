#include "hnsw/graph_file.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "base/limits.h"
#include "hnsw/graph_format.h"

namespace ehub::hnsw {
namespace {

// The arrays that a walk touches at random, one after the other in one piece of memory: links, codes, and what lies
// beside the codes.
struct MemoryLayout {
  MemoryLayout(const GraphView& view, const Encoder& encoder)
      : has_tails(encoder.has_short_tail(view.codes.width)),
        links_bytes(size_t{view.rows} * view.link_stride * sizeof(uint32_t)),
        row_bytes(view.codes.row_bytes() - (has_tails ? kGraphAlignment : 0)),
        codes_bytes(view.rows * row_bytes),
        beside_bytes(row_bytes == 0 ? 0 : view.rows * (has_tails ? sizeof(CodeTail) : sizeof(RowMeta))) {}
  size_t codes_at() const { return align_up(links_bytes, kGraphAlignment); }
  size_t beside_at() const { return codes_at() + align_up(codes_bytes, kGraphAlignment); }
  size_t size() const { return beside_at() + beside_bytes; }

  bool has_tails;
  size_t links_bytes;
  size_t row_bytes;  // of codes
  size_t codes_bytes;
  size_t beside_bytes;
};

// The codes of all rows, copied to where the layout has them.
CodeSet copy_codes(const CodeSet& from, uint32_t rows, const MemoryLayout& layout, uint8_t* memory) {
  uint8_t* codes = memory + layout.codes_at();
  uint8_t* beside = memory + layout.beside_at();
  if (!layout.has_tails) {
    std::memcpy(codes, from.codes, layout.codes_bytes);
    std::memcpy(beside, from.metas, layout.beside_bytes);
    return {from.width, layout.row_bytes, codes, reinterpret_cast<const RowMeta*>(beside)};
  }
  for (uint32_t row = 0; row < rows; ++row) {
    const uint8_t* code = from.codes + row * from.code_bytes;
    std::memcpy(codes + row * layout.row_bytes, code, layout.row_bytes);
    const CodeTail tail = tail_of(from.width, code + layout.row_bytes, from.metas[row]);
    std::memcpy(beside + row * sizeof(CodeTail), &tail, sizeof(CodeTail));
  }
  return {from.width, layout.row_bytes, codes, nullptr, reinterpret_cast<const CodeTail*>(beside)};
}

}  // namespace

// Makes a GraphFile of a mapping, believing nothing.
class GraphFileReader {
 public:
  GraphFileReader(std::string path, Mapping mapping) : path_(std::move(path)), mapping_(std::move(mapping)) {}

  Result<std::shared_ptr<const GraphFile>> read(const GraphStamp& stamp) {
    EHUB_RETURN_IF_ERROR(read_footer(stamp.subset.kind == 0 ? kGraphFormat : kSubsetGraphFormat));
    EHUB_RETURN_IF_ERROR(check_stamp(stamp));
    EHUB_RETURN_IF_ERROR(check_shape());
    auto crcs = read_block_crcs();
    if (!crcs.ok()) return crcs.status();
    auto checked = std::make_unique<CheckedMapping>(path_, mapping_, footer_.block_crcs.offset, std::move(crcs.value()),
                                                    kGraphBlockBytes);
    if (stamp.subset.kind != 0) EHUB_RETURN_IF_ERROR(read_segment_rows(*checked, stamp));
    return make(std::move(checked));
  }

 private:
  Status damaged(const std::string& what) const { return corruption(path_, mapping_.size_bytes, what); }
  GraphRange range(GraphSection section) const { return footer_.sections[static_cast<size_t>(section)]; }
  CodeWidth width() const { return static_cast<CodeWidth>(footer_.width); }

  Status read_footer(uint32_t format) {
    if (mapping_.size_bytes < sizeof(GraphHeader) + sizeof(GraphFooter)) return damaged("too short for a graph file");
    const auto header = load_le<GraphHeader>(mapping_.data);
    footer_ = load_le<GraphFooter>(mapping_.data + mapping_.size_bytes - sizeof(GraphFooter));
    if (std::memcmp(header.magic, kGraphMagic, sizeof(kGraphMagic)) != 0) return damaged("no graph file");
    if (header.format != format) {
      return format_error(path_ + ": graph format " + std::to_string(header.format) + "; this release reads " +
                          std::to_string(format));
    }
    const bool whole = footer_.checksum == footer_checksum(footer_) &&
                       std::memcmp(footer_.magic, kGraphMagic, sizeof(kGraphMagic)) == 0;
    return whole ? Status() : damaged("checksum mismatch in the footer");
  }

  Status check_stamp(const GraphStamp& stamp) const {
    const bool rows_fit = stamp.subset.kind == 0 ? footer_.rows == stamp.rows : footer_.rows <= stamp.rows;
    const bool meant = footer_.segment == stamp.segment && footer_.segment_crc == stamp.segment_crc && rows_fit &&
                       footer_.dims == stamp.dims && footer_.metric == static_cast<uint32_t>(stamp.metric);
    return meant ? Status() : damaged("a graph of another segment");
  }

  // The length that a section must have; ~0 for those whose length is free.
  uint64_t expected_length(GraphSection section) const {
    const uint64_t rows = footer_.rows;
    const bool coded = width() != CodeWidth::kNone;
    const uint64_t code_bytes = Encoder::code_bytes(width(), footer_.dims);
    const uint64_t router = range(GraphSection::kRouter).length / sizeof(uint32_t);
    const uint64_t twin_nodes = range(GraphSection::kTwinNodes).length / sizeof(uint32_t);
    switch (section) {
      case GraphSection::kMean:
        return footer_.dims * sizeof(float);
      case GraphSection::kRouter:
      case GraphSection::kTwinNodes:
      case GraphSection::kTwinRows:
        return range(section).length / sizeof(uint32_t) * sizeof(uint32_t);
      case GraphSection::kRouterCodes:
        return coded ? router * code_bytes : 0;
      case GraphSection::kRouterMetas:
        return coded ? router * sizeof(RowMeta) : 0;
      case GraphSection::kTwinBegins:
        return (twin_nodes + 1) * sizeof(uint32_t);
      case GraphSection::kHasTwins:
        return twin_nodes == 0 ? 0 : bitmap_words(rows) * sizeof(uint64_t);
      case GraphSection::kMetas:
        return coded ? rows * sizeof(RowMeta) : 0;
      case GraphSection::kCodes:
        return coded ? rows * code_bytes : 0;
      case GraphSection::kLinks:
        return rows * footer_.link_stride * sizeof(uint32_t);
    }
    return 0;
  }

  Status check_shape() const {
    const bool known_width = width() == CodeWidth::k4 || width() == CodeWidth::k8 || width() == CodeWidth::k16 ||
                             width() == CodeWidth::kNone;
    if (!known_width || footer_.rows == 0 || footer_.rows > kSegmentRowsMax || footer_.dims == 0 ||
        footer_.dims > kDimsMax || footer_.link_stride == 0 || footer_.link_stride > kLinksMax || footer_.ef == 0) {
      return damaged("a number is out of range");
    }
    const uint64_t end = footer_.block_crcs.offset;
    if (end > mapping_.size_bytes || end + footer_.block_crcs.length + sizeof(GraphFooter) != mapping_.size_bytes ||
        footer_.block_crcs.length != checksum_blocks(end, kGraphBlockBytes) * sizeof(uint32_t)) {
      return damaged("the block checksums are out of place");
    }
    for (size_t s = 0; s < kGraphSections; ++s) {
      const GraphRange& section = footer_.sections[s];
      if (section.offset > end || section.length > end - section.offset || section.offset % kGraphAlignment != 0 ||
          section.length != expected_length(static_cast<GraphSection>(s))) {
        return damaged("section " + std::to_string(s) + " is out of place");
      }
    }
    return range(GraphSection::kRouter).length == 0 ? damaged("there is no router") : Status();
  }

  // Which rows of the segment the nodes are: right behind the header, which says whose they are.
  Status read_segment_rows(const CheckedMapping& checked, const GraphStamp& stamp) {
    const uint64_t bytes = footer_.rows * sizeof(uint32_t);
    if (bytes > footer_.block_crcs.offset - sizeof(GraphHeader)) return damaged("there are not the rows of its nodes");
    const auto from = checked.bytes(0, sizeof(GraphHeader) + bytes);
    if (!from.ok()) return from.status();
    const auto header = load_le<GraphHeader>(from.value());
    if (header.subset_kind != static_cast<uint32_t>(stamp.subset.kind) || header.subset_number != stamp.subset.number) {
      return damaged("a graph of other rows of the segment");
    }
    segment_rows_ = {reinterpret_cast<const uint32_t*>(from.value() + sizeof(GraphHeader)), footer_.rows};
    for (size_t node = 0; node < segment_rows_.size(); ++node) {
      const bool ascends = node == 0 || segment_rows_[node] > segment_rows_[node - 1];
      if (!ascends || segment_rows_[node] >= stamp.rows) return damaged("the rows of its nodes are out of order");
    }
    return {};
  }

  Result<std::vector<uint32_t>> read_block_crcs() const {
    const GraphRange& section = footer_.block_crcs;
    const uint8_t* from = mapping_.data + section.offset;
    if (crc_mask(crc32c(0, from, section.length)) != footer_.block_crcs_checksum) {
      return damaged("checksum mismatch in the block checksums");
    }
    std::vector<uint32_t> crcs(section.length / sizeof(uint32_t));
    std::memcpy(crcs.data(), from, section.length);
    return crcs;
  }

  // A section that is read at open: checked now.
  template <typename T>
  Result<std::span<const T>> array(const CheckedMapping& checked, GraphSection section) const {
    const GraphRange place = range(section);
    const auto bytes = checked.bytes(place.offset, place.length);
    if (!bytes.ok()) return bytes.status();
    return std::span(reinterpret_cast<const T*>(bytes.value()), place.length / sizeof(T));
  }
  // Where one begins that is checked when it is touched.
  template <typename T>
  const T* unchecked(GraphSection section) const {
    return reinterpret_cast<const T*>(mapping_.data + range(section).offset);
  }

  Result<std::shared_ptr<const GraphFile>> make(std::unique_ptr<CheckedMapping> checked) const {
    const auto mean = array<float>(*checked, GraphSection::kMean);
    if (!mean.ok()) return mean.status();
    std::optional<uint64_t> seed;
    if (footer_.rotated != 0) seed = footer_.rotation_seed;
    Encoder encoder(static_cast<Metric>(footer_.metric), footer_.dims, {mean.value().begin(), mean.value().end()},
                    seed);
    std::shared_ptr<GraphFile> file(new GraphFile(std::move(checked), std::move(encoder)));
    EHUB_RETURN_IF_ERROR(fill(*file->mapping_, file->view_));
    file->parameters_ = {footer_.M, footer_.ef_construction, 0, footer_.target_recall};
    file->unreachable_ = footer_.unreachable;
    file->file_bytes_ = mapping_.size_bytes;
    guard(*file);
    return std::shared_ptr<const GraphFile>(std::move(file));
  }

  Status fill(const CheckedMapping& checked, GraphView& view) const {
    view.rows = footer_.rows;
    view.segment_rows = segment_rows_;
    view.link_stride = footer_.link_stride;
    view.links = unchecked<uint32_t>(GraphSection::kLinks);
    view.codes = {width(), Encoder::code_bytes(width(), footer_.dims), unchecked<uint8_t>(GraphSection::kCodes),
                  unchecked<RowMeta>(GraphSection::kMetas)};
    view.calibration = {footer_.ef, footer_.rerank_min};
    const auto router = array<uint32_t>(checked, GraphSection::kRouter);
    if (!router.ok()) return router.status();
    view.router.assign(router.value().begin(), router.value().end());
    if (!rows_of_segment(router.value())) return damaged("the router names a row that is not there");
    const auto codes = array<uint8_t>(checked, GraphSection::kRouterCodes);
    if (!codes.ok()) return codes.status();
    const auto metas = array<RowMeta>(checked, GraphSection::kRouterMetas);
    if (!metas.ok()) return metas.status();
    view.router_codes = {width(), view.codes.code_bytes, codes.value().data(), metas.value().data()};
    return fill_twins(checked, view.twins);
  }

  Status fill_twins(const CheckedMapping& checked, TwinsView& twins) const {
    const auto nodes = array<uint32_t>(checked, GraphSection::kTwinNodes);
    if (!nodes.ok()) return nodes.status();
    const auto begins = array<uint32_t>(checked, GraphSection::kTwinBegins);
    if (!begins.ok()) return begins.status();
    const auto rows = array<uint32_t>(checked, GraphSection::kTwinRows);
    if (!rows.ok()) return rows.status();
    const auto has_twins = array<uint64_t>(checked, GraphSection::kHasTwins);
    if (!has_twins.ok()) return has_twins.status();
    twins = {nodes.value(), begins.value(), rows.value(), nodes.value().empty() ? nullptr : has_twins.value().data()};
    const bool sound = rows_of_segment(twins.nodes) && rows_of_segment(twins.rows) &&
                       std::is_sorted(twins.begins.begin(), twins.begins.end()) && twins.begins.front() == 0 &&
                       twins.begins.back() == twins.rows.size();
    return sound ? Status() : damaged("the twins are out of order");
  }

  bool rows_of_segment(std::span<const uint32_t> rows) const {
    return std::all_of(rows.begin(), rows.end(), [&](uint32_t row) { return row < footer_.rows; });
  }

  void guard(GraphFile& file) const {
    const uint64_t metas = width() == CodeWidth::kNone ? 0 : sizeof(RowMeta);
    file.guard_.set_places({range(GraphSection::kLinks).offset, footer_.link_stride * sizeof(uint32_t)},
                           {range(GraphSection::kCodes).offset, file.view_.codes.code_bytes},
                           {range(GraphSection::kMetas).offset, metas});
    file.view_.guard = &file.guard_;
  }

  std::string path_;
  Mapping mapping_;
  GraphFooter footer_{};
  std::span<const uint32_t> segment_rows_;
};

GraphFile::GraphFile(std::shared_ptr<const CheckedMapping> mapping, Encoder encoder)
    : mapping_(std::move(mapping)), encoder_(std::move(encoder)), guard_(*mapping_) {}

Result<std::shared_ptr<const GraphFile>> GraphFile::open(FileSystem& fs, const std::string& directory,
                                                         const GraphStamp& stamp) {
  const std::string path = graph_path(directory, stamp.segment, stamp.subset);
  auto file = fs.open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return file.status();
  const Result<uint64_t> size = file.value()->size();
  if (!size.ok()) return size.status();
  if (size.value() == 0) return corruption(path, 0, "too short for a graph file");
  auto mapping = file.value()->map(size.value());
  if (!mapping.ok()) return mapping.status();
  return GraphFileReader(path, std::move(mapping.value())).read(stamp);
}

Status GraphFile::verify() const {
  EHUB_RETURN_IF_ERROR(mapping_->verify_all());
  guard_.set_all_good();
  return {};
}

uint64_t GraphFile::memory_bytes() const { return MemoryLayout(view_, encoder_).size(); }

Result<std::shared_ptr<const GraphFile>> GraphFile::in_memory() const {
  EHUB_RETURN_IF_ERROR(verify());
  const MemoryLayout layout(view_, encoder_);
  std::optional<Buffer> memory = Buffer::make(layout.size());
  if (!memory) return Status(Code::kOutOfMemory, mapping_->path() + ": no memory for a copy");
  std::memcpy(memory->data(), view_.links, layout.links_bytes);
  std::shared_ptr<GraphFile> copy(new GraphFile(mapping_, encoder_));
  copy->view_ = view_;
  copy->view_.links = reinterpret_cast<const uint32_t*>(memory->data());
  if (layout.codes_bytes != 0) copy->view_.codes = copy_codes(view_.codes, view_.rows, layout, memory->data());
  copy->view_.guard = nullptr;
  copy->parameters_ = parameters_;
  copy->unreachable_ = unreachable_;
  copy->file_bytes_ = file_bytes_;
  copy->memory_ = std::move(*memory);
  return std::shared_ptr<const GraphFile>(std::move(copy));
}

}  // namespace ehub::hnsw
