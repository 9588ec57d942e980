#include "hnsw/hnswlib_writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "hnsw/hnswlib_format.h"
#include "hnsw/inserter.h"
#include "hnsw/twins.h"
#include "io/block_writer.h"

namespace ehub::hnsw {
namespace {

constexpr uint32_t kNoRow = 0xffffffff;

// A row whose squared norm is as near to 1 as this is normalised already, and stays as it is, to the bit.
constexpr double kNormTolerance = 1e-5;

std::span<const uint32_t> links_in(const uint32_t* links, size_t stride, uint32_t row) {
  return {links, static_cast<size_t>(std::find(links, links + stride, row) - links)};
}

// One of HNSW's upper layers.
struct UpperLevel {
  std::vector<uint32_t> rows;         // that are on it
  std::unique_ptr<BuiltGraph> graph;  // of these, by their places in `rows`
};

// Who links to whom, the other way round.
LinkLists reversed(const HnswlibSource& source) {
  LinkLists lists;
  lists.begins.resize(source.rows.rows + 2, 0);
  const auto each_link = [&](auto&& take) {
    for (uint32_t row = 0; row < source.rows.rows; ++row) {
      for (const uint32_t link : links_in(source.links + row * source.link_stride, source.link_stride, row)) {
        take(row, link);
      }
    }
  };
  each_link([&](uint32_t, uint32_t link) { ++lists.begins[link + 2]; });
  std::partial_sum(lists.begins.begin(), lists.begins.end(), lists.begins.begin());
  lists.targets.resize(lists.begins.back());
  each_link([&](uint32_t row, uint32_t link) { lists.targets[lists.begins[link + 1]++] = row; });
  return lists;
}

// Those of `nodes` from which a walk can come to the first of them, and so to all that can be reached from there.
std::vector<uint32_t> central_nodes(const HnswlibSource& source, const std::vector<uint32_t>& nodes) {
  const LinkLists backwards = reversed(source);
  std::vector<bool> central(source.rows.rows, false);
  std::vector<uint32_t> found(1, nodes.front());
  central[nodes.front()] = true;
  for (size_t i = 0; i < found.size(); ++i) {
    for (uint64_t at = backwards.begins[found[i]]; at < backwards.begins[found[i] + 1]; ++at) {
      const uint32_t row = backwards.targets[at];
      if (central[row]) continue;
      central[row] = true;
      found.push_back(row);
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<uint32_t> every_nth(const std::vector<uint32_t>& rows, size_t n) {
  std::vector<uint32_t> some;
  for (size_t i = 0; i < rows.size(); i += n) some.push_back(rows[i]);
  return some;
}

std::vector<float> vectors_of(const GraphInput& input, const std::vector<uint32_t>& rows) {
  std::vector<float> vectors(rows.size() * input.dims);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(input.vectors + rows[i] * input.dims, input.dims, vectors.data() + i * input.dims);
  }
  return vectors;
}

// From the lowest on. The first of `nodes` is on all of them: of central ones it is the first, too.
Result<std::vector<UpperLevel>> build_levels(const HnswlibSource& source, const std::vector<uint32_t>& nodes,
                                             Team& team) {
  GraphParameters parameters;
  parameters.M = std::max(2U, source.M / 2);
  std::vector<UpperLevel> levels;
  BuildControl control;
  if (nodes.empty()) return levels;
  for (std::vector<uint32_t> rows = central_nodes(source, nodes); rows.size() > source.M;) {
    rows = every_nth(rows, source.M);
    const std::vector<float> vectors = vectors_of(source.rows, rows);
    const GraphInput input = {source.rows.metric, vectors.data(), rows.size(), source.rows.dims};
    auto built = build_graph(input, parameters, team, control);
    if (!built.ok()) return built.status();
    levels.push_back({rows, std::move(built.value())});
  }
  return levels;
}

class HnswlibWriter {
 public:
  HnswlibWriter(File& file, const HnswlibSource& source)
      : out_(file),
        source_(source),
        twins_(source.rows.vectors, source.rows.rows, source.rows.dims),
        node_of_(nodes_of_rows(source.rows.rows, twins_.view())),
        next_twin_(source.rows.rows, kNoRow) {
    for (const uint32_t node : twins_.view().nodes) {
      uint32_t last = node;
      for (const uint32_t twin : twins_.view().of(node)) last = next_twin_[last] = twin;
    }
  }

  Status write(Team& team) {
    const std::vector<uint32_t> nodes = node_rows(rows(), twins_.view());
    auto levels = build_levels(source_, nodes, team);
    if (!levels.ok()) return levels.status();
    put_header(nodes, levels.value().size());
    for (uint32_t row = 0; row < rows(); ++row) put_record(row);
    put_upper_lists(levels.value());
    return out_.close();
  }

 private:
  size_t rows() const { return source_.rows.rows; }

  void put_header(const std::vector<uint32_t>& nodes, size_t levels) {
    HnswlibHeader header{};
    header.capacity = header.records = rows();
    header.M = header.M_upper = source_.M;
    header.M_level0 = 2 * header.M;
    header.vector_offset = hnswlib_list_bytes(header.M_level0);
    header.label_offset = header.vector_offset + source_.rows.dims * sizeof(float);
    header.record_bytes = header.label_offset + sizeof(uint64_t);
    header.level_max = nodes.empty() ? -1 : static_cast<int32_t>(levels);
    header.entry = nodes.empty() ? kNoRow : nodes.front();
    header.level_factor = 1 / std::log(static_cast<double>(header.M));
    header.ef_construction = source_.ef_construction;
    out_.put(&header, sizeof(header));
  }

  void put_list(std::span<const uint32_t> links, size_t room) {
    list_.assign(1 + room, 0);
    list_[0] = static_cast<uint32_t>(links.size());
    std::copy(links.begin(), links.end(), list_.begin() + 1);
    out_.put(list_.data(), list_.size() * sizeof(uint32_t));
  }

  void put_record(uint32_t row) {
    const uint32_t node = node_of_[row];
    const size_t room = 2 * size_t{source_.M};
    const auto all = links_in(source_.links + node * source_.link_stride, source_.link_stride, node);
    std::vector<uint32_t>& links = chosen_;
    links.assign(all.begin(), all.begin() + static_cast<ptrdiff_t>(std::min(all.size(), room)));
    if (next_twin_[row] != kNoRow) {
      if (links.size() == room) links.pop_back();
      links.push_back(next_twin_[row]);
    }
    put_list(links, room);
    put_vector(source_.rows.vectors + row * source_.rows.dims);
    out_.put(&source_.labels[row], sizeof(uint64_t));
  }

  void put_vector(const float* vector) {
    const size_t dims = source_.rows.dims;
    double square = 1;
    if (source_.rows.metric == Metric::kCosine) {
      square = 0;
      for (size_t d = 0; d < dims; ++d) square += static_cast<double>(vector[d]) * static_cast<double>(vector[d]);
    }
    if (std::abs(square - 1) <= kNormTolerance) {
      out_.put(vector, dims * sizeof(float));
      return;
    }
    const double factor = 1 / std::sqrt(square);
    normalised_.resize(dims);
    for (size_t d = 0; d < dims; ++d) normalised_[d] = static_cast<float>(static_cast<double>(vector[d]) * factor);
    out_.put(normalised_.data(), dims * sizeof(float));
  }

  // The rows of each level are in order, so that one pass over all rows passes over each level once.
  void put_upper_lists(const std::vector<UpperLevel>& levels) {
    std::vector<size_t> places(levels.size(), 0);
    for (uint32_t row = 0; row < rows(); ++row) {
      size_t top = 0;
      while (top < levels.size() && places[top] < levels[top].rows.size() && levels[top].rows[places[top]] == row)
        ++top;
      const auto length = static_cast<uint32_t>(top * hnswlib_list_bytes(source_.M));
      out_.put(&length, sizeof(length));
      for (size_t level = 0; level < top; ++level) put_upper_list(levels[level], places[level]++);
    }
  }

  void put_upper_list(const UpperLevel& level, size_t place) {
    const GraphView& view = level.graph->view;
    const auto row = static_cast<uint32_t>(place);
    const auto links = links_in(view.links_of(row), view.link_stride, row);
    chosen_.clear();
    for (const uint32_t link : links.first(std::min<size_t>(links.size(), source_.M))) {
      chosen_.push_back(level.rows[link]);
    }
    put_list(chosen_, source_.M);
  }

  BlockWriter out_;
  const HnswlibSource& source_;
  const Twins twins_;
  const std::vector<uint32_t> node_of_;
  std::vector<uint32_t> next_twin_;
  std::vector<uint32_t> list_;
  std::vector<uint32_t> chosen_;
  std::vector<float> normalised_;
};

Status check_links(const HnswlibSource& source) {
  const uint32_t* end = source.links + source.rows.rows * source.link_stride;
  const bool sound = std::all_of(source.links, end, [&](uint32_t link) { return link < source.rows.rows; });
  return sound ? Status() : invalid_argument("a link leads to a row that is not there");
}

Status write_file(FileSystem& fs, const std::string& path, const HnswlibSource& source, Team& team) {
  auto file = fs.open(path, FileSystem::Mode::kCreate);
  if (!file.ok()) return file.status();
  return HnswlibWriter(*file.value(), source).write(team);
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

}  // namespace

Status write_hnswlib(FileSystem& fs, const std::string& path, const HnswlibSource& source, Team& team) {
  EHUB_RETURN_IF_ERROR(check_links(source));
  const std::string unfinished = path + ".tmp";
  Status status = write_file(fs, unfinished, source, team);
  if (status.ok()) status = fs.rename(unfinished, path);
  if (status.ok()) return fs.sync_directory(directory_of(path));
  (void)fs.remove(unfinished);
  return status;
}

}  // namespace ehub::hnsw
