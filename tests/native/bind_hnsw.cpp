// The parts of a graph and whole graphs, for test_hnsw.py, test_hnsw_parts.py and test_graph_forgery.py.
//
// Arrays must be C-contiguous float32 rows; shapes are the tests' duty. A metric is its number (base/metric.h).

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "bind_status.h"
#include "hnsw/build.h"
#include "hnsw/build_distances.h"
#include "hnsw/graph_file.h"
#include "hnsw/graph_format.h"
#include "hnsw/pool.h"
#include "hnsw/prune.h"
#include "hnsw/rotation.h"
#include "hnsw/search.h"
#include "hnsw/team.h"
#include "hnsw/twins.h"
#include "hnsw/visited.h"
#include "io/block_writer.h"
#include "kernels/dispatch.h"

namespace py = pybind11;

namespace {

using ehub::FileSystem;
using ehub::Metric;
using ehub::TopK;
using ehub::testing::check;
using ehub::testing::take;
using namespace ehub::hnsw;  // NOLINT(google-build-using-namespace): all of it is bound here

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<uint8_t, py::array::c_style>;
using Rows = py::array_t<uint32_t, py::array::c_style>;
using Answer = std::pair<std::vector<float>, std::vector<uint64_t>>;

size_t length(const py::array& array, int axis) { return static_cast<size_t>(array.shape(axis)); }

GraphInput input_of(const Floats& vectors, uint32_t metric) {
  return {static_cast<Metric>(metric), vectors.data(), length(vectors, 0), length(vectors, 1)};
}

template <typename T>
py::array_t<T, py::array::c_style> copied(const T* values, size_t n, size_t width) {
  py::array_t<T, py::array::c_style> out({n, width});
  std::copy_n(values, n * width, out.mutable_data());
  return out;
}

// Vectors in an array, all of which are visible but those said to be dead.
class ArrayRows final : public RowSource {
 public:
  ArrayRows(const Floats& vectors, const std::vector<uint32_t>& dead)
      : rows_(vectors.data()), dims_(length(vectors, 1)), dead_(dead) {}
  ehub::Status fetch(const uint32_t* rows, size_t n, const float** out) const override {
    for (size_t i = 0; i < n; ++i) out[i] = rows_ + rows[i] * dims_;
    return {};
  }
  const float* memory() const override { return rows_; }
  bool visible(uint32_t row) const override { return std::find(dead_.begin(), dead_.end(), row) == dead_.end(); }

 private:
  const float* rows_;
  size_t dims_;
  const std::vector<uint32_t>& dead_;
};

// The answers of a graph to each of `queries`, over the vectors that it is of.
std::vector<Answer> search(const Encoder& encoder, const GraphView& view, const Floats& vectors, const Floats& queries,
                           size_t k, size_t ef, const std::vector<uint32_t>& dead) {
  const ArrayRows source(vectors, dead);
  Searcher searcher;
  std::vector<Answer> answers;
  for (size_t q = 0; q < length(queries, 0); ++q) {
    GraphQuery query;
    query.vector = queries.data(static_cast<py::ssize_t>(q), 0);
    query.k = k;
    query.ef = ef == 0 ? view.calibration.ef : ef;
    ehub::kernels().dot_one(query.vector, query.vector, 1, encoder.dims(), &query.norm_squared);
    TopK heap(k);
    check(searcher.search(ehub::kernels(), encoder, view, source, query, 0, heap));
    Answer answer;
    for (const ehub::Neighbor& neighbor : heap.take_sorted()) {
      answer.first.push_back(neighbor.distance);
      answer.second.push_back(neighbor.row);
    }
    answers.push_back(std::move(answer));
  }
  return answers;
}

// A search among all rows that is to stop from the start.
void search_stopped(const BuiltGraph& graph, const Floats& vectors, size_t k, size_t ef) {
  const std::vector<uint32_t> none;
  const ArrayRows source(vectors, none);
  const std::vector<uint64_t> wanted(graph.view.rows / 64 + 1, ~uint64_t{0});
  const std::atomic<bool> stop = true;
  GraphQuery query;
  query.vector = vectors.data();
  query.k = k;
  query.ef = ef;
  query.wanted = query.wanted_nodes = wanted.data();
  query.wanted_count = graph.view.rows;
  query.stop = &stop;
  TopK heap(k);
  Searcher searcher;
  check(searcher.search(ehub::kernels(), graph.encoder, graph.view, source, query, 0, heap));
}

// `asked_max`: how often the team asks whether it is cancelled until it is.
std::unique_ptr<BuiltGraph> build(const Floats& vectors, uint32_t metric, unsigned threads, uint32_t M,
                                  uint32_t ef_construction, float target_recall, int64_t asked_max) {
  GraphParameters parameters;
  parameters.M = M;
  parameters.ef_construction = ef_construction;
  parameters.target_recall = target_recall;
  BuildControl control;
  control.cancelled = asked_max == 0;
  std::atomic<int64_t> asked = 0;
  Team team(threads, [&] {
    if (++asked == asked_max) control.cancelled = true;
    return control.is_cancelled();
  });
  const GraphInput input = input_of(vectors, metric);
  const py::gil_scoped_release release;
  return take(build_graph(input, parameters, team, control));
}

py::bytes bytes_of(const void* data, size_t size) { return {static_cast<const char*>(data), size}; }

void bind_graph(py::module_& module) {
  const auto links = [](const BuiltGraph& graph) {
    return copied(graph.view.links, graph.view.rows, graph.view.link_stride);
  };
  const auto metas = [](const BuiltGraph& graph) {
    const CodeSet& codes = graph.view.codes;
    return codes.width == CodeWidth::kNone ? py::bytes() : bytes_of(codes.metas, graph.view.rows * sizeof(RowMeta));
  };
  py::class_<BuiltGraph>(module, "BuiltGraph")
      .def_property_readonly("links", links)
      .def_property_readonly("codes",
                             [](const BuiltGraph& graph) {
                               const CodeSet& codes = graph.view.codes;
                               return bytes_of(codes.codes, graph.view.rows * codes.code_bytes);
                             })
      .def_property_readonly("metas", metas)
      .def_property_readonly("router", [](const BuiltGraph& graph) { return graph.view.router; })
      .def_property_readonly("twins",
                             [](const BuiltGraph& graph) {
                               const TwinsView twins = graph.view.twins;
                               return std::vector<uint32_t>(twins.rows.begin(), twins.rows.end());
                             })
      .def_property_readonly("code_bits",
                             [](const BuiltGraph& graph) { return static_cast<uint32_t>(graph.view.codes.width); })
      .def_property_readonly("rotated",
                             [](const BuiltGraph& graph) { return graph.encoder.rotation_seed().has_value(); })
      .def_property_readonly("ef", [](const BuiltGraph& graph) { return graph.view.calibration.ef; })
      .def_readonly("unreachable", &BuiltGraph::unreachable)
      .def("set_segment_rows", &BuiltGraph::set_segment_rows)
      .def("search_stopped", search_stopped)
      .def(
          "search",
          [](const BuiltGraph& graph, const Floats& vectors, const Floats& queries, size_t k, size_t ef,
             const std::vector<uint32_t>& dead) {
            return search(graph.encoder, graph.view, vectors, queries, k, ef, dead);
          },
          py::arg("vectors").noconvert(), py::arg("queries").noconvert(), py::arg("k"), py::arg("ef") = 0,
          py::arg("dead") = std::vector<uint32_t>());
  module.def("build_graph", build, py::arg("vectors").noconvert(), py::arg("metric"), py::arg("threads") = 1,
             py::arg("M") = 24, py::arg("ef_construction") = 100, py::arg("target_recall") = 0.95F,
             py::arg("asked_max") = std::numeric_limits<int64_t>::max());
}

// The estimated distance of a query to each row, as a walk computes it.
Floats distances_to_all(const Encoder& encoder, const CodeSet& codes, const Floats& query, size_t rows) {
  std::vector<float> residual(encoder.residual_dims());
  encoder.residual_of_query(query.data(), residual.data());
  CodedQuery coded;
  encoder.encode_query(codes.width, residual.data(), coded);
  std::vector<uint32_t> all(rows);
  std::iota(all.begin(), all.end(), uint32_t{0});
  Floats out(static_cast<py::ssize_t>(rows));
  code_distances(ehub::kernels(), codes, coded, all.data(), rows, out.mutable_data());
  return out;
}

void bind_graph_file(py::module_& module) {
  py::class_<GraphStamp>(module, "GraphStamp")
      .def(py::init([](uint64_t segment, uint32_t segment_crc, uint32_t rows, uint32_t dims, uint32_t metric,
                       const std::string& kind, uint64_t number) {
             const GraphSubset subset = {kind.empty() ? '\0' : kind.front(), number};
             return GraphStamp{segment, segment_crc, rows, dims, static_cast<Metric>(metric), subset};
           }),
           py::arg("segment"), py::arg("segment_crc"), py::arg("rows"), py::arg("dims"), py::arg("metric"),
           py::arg("kind") = "", py::arg("number") = 0);
  py::class_<GraphFile, std::shared_ptr<GraphFile>>(module, "GraphFile")
      .def("verify", [](const GraphFile& file) { check(file.verify()); })
      .def_property_readonly("ef", [](const GraphFile& file) { return file.view().calibration.ef; })
      .def_property_readonly("file_bytes", &GraphFile::file_bytes)
      .def_property_readonly("memory_bytes", &GraphFile::memory_bytes)
      .def("in_memory",
           [](const GraphFile& file) { return std::const_pointer_cast<GraphFile>(take(file.in_memory())); })
      .def("distances",
           [](const GraphFile& file, const Floats& query) {
             return distances_to_all(file.encoder(), file.view().codes, query, file.view().rows);
           })
      .def(
          "search",
          [](const GraphFile& file, const Floats& vectors, const Floats& queries, size_t k, size_t ef) {
            return search(file.encoder(), file.view(), vectors, queries, k, ef, {});
          },
          py::arg("vectors").noconvert(), py::arg("queries").noconvert(), py::arg("k"), py::arg("ef") = 0);
  module.def(
      "graph_path",
      [](const std::string& directory, uint64_t segment, const std::string& kind, uint64_t number) {
        return graph_path(directory, segment, {kind.empty() ? '\0' : kind.front(), number});
      },
      py::arg("directory"), py::arg("segment"), py::arg("kind") = "", py::arg("number") = 0);
  module.def("write_graph", [](FileSystem& fs, const std::string& directory, const GraphStamp& stamp,
                               const BuiltGraph& graph) { check(write_graph(fs, directory, stamp, graph)); });
  module.def("open_graph", [](FileSystem& fs, const std::string& directory, const GraphStamp& stamp) {
    return std::const_pointer_cast<GraphFile>(take(GraphFile::open(fs, directory, stamp)));
  });
  module.attr("GRAPH_FOOTER_BYTES") = sizeof(GraphFooter);
}

// A candidate as a test sees it: distance and row.
std::pair<float, uint32_t> seen(Candidate candidate) { return {distance_of(candidate), row_of(candidate)}; }

void bind_pool(py::module_& module) {
  py::class_<Pool>(module, "Pool")
      .def(py::init<>())
      .def("reset", &Pool::reset)
      .def("insert", [](Pool& pool, float distance, uint32_t row) { pool.insert(make_candidate(distance, row)); })
      .def("expand",
           [](Pool& pool) -> std::optional<std::pair<float, uint32_t>> {
             const Candidate candidate = pool.expand();
             if (candidate == Pool::kNoCandidate) return std::nullopt;
             return seen(candidate);
           })
      .def("peek_two",
           [](const Pool& pool) {
             std::vector<uint32_t> rows;
             pool.peek_two([&](uint32_t row) { rows.push_back(row); });
             return rows;
           })
      .def("candidates", [](const Pool& pool) {
        std::vector<std::pair<float, uint32_t>> all;
        for (size_t i = 0; i < pool.size(); ++i) all.push_back(seen(pool[i]));
        return all;
      });
  py::class_<Visited>(module, "Visited")
      .def(py::init<>())
      .def("reset", &Visited::reset)
      .def("insert", &Visited::insert);
  module.def("ordered_bits", &ordered_bits);
  module.def("from_ordered_bits", &from_ordered_bits);
}

void bind_twins_and_rotation(py::module_& module) {
  py::class_<Twins>(module, "Twins")
      .def(py::init([](const Floats& rows) { return Twins(rows.data(), length(rows, 0), length(rows, 1)); }),
           py::arg("rows").noconvert())
      .def("groups",
           [](const Twins& twins) {
             std::vector<std::vector<uint32_t>> groups;
             for (const uint32_t node : twins.view().nodes) {
               groups.push_back({node});
               for (const uint32_t row : twins.view().of(node)) groups.back().push_back(row);
             }
             return groups;
           })
      .def("of",
           [](const Twins& twins, uint32_t row) {
             const auto others = twins.view().of(row);
             return std::vector<uint32_t>(others.begin(), others.end());
           })
      .def("spread", [](const Twins& twins, const std::vector<uint64_t>& wanted, size_t rows) {
        std::vector<uint64_t> nodes(bitmap_words(rows));
        twins.view().spread(wanted.data(), rows, nodes.data());
        return nodes;
      });
  py::class_<Rotation>(module, "Rotation")
      .def(py::init<size_t, uint64_t>())
      .def("apply", [](const Rotation& rotation, Floats rows) {
        for (size_t i = 0; i < length(rows, 0); ++i) rotation.apply(rows.mutable_data(static_cast<py::ssize_t>(i), 0));
        return rows;
      });
}

CodeWidth width_of(uint32_t bits) { return static_cast<CodeWidth>(bits); }

void bind_encoder(py::module_& module) {
  py::class_<Encoder>(module, "Encoder")
      .def(py::init([](const Floats& rows, uint32_t metric) {
             Team team(1);
             return Encoder::learn(static_cast<Metric>(metric), rows.data(), length(rows, 0), length(rows, 1), team);
           }),
           py::arg("rows").noconvert(), py::arg("metric"))
      .def_property_readonly("mean", &Encoder::mean)
      .def_property_readonly("rotated", [](const Encoder& encoder) { return encoder.rotation_seed().has_value(); })
      .def("residual",
           [](const Encoder& encoder, const Floats& row) {
             Floats out(static_cast<py::ssize_t>(encoder.residual_dims()));
             encoder.residual_of_row(row.data(), out.mutable_data());
             return out;
           })
      // Codes, squared norm and scale of one row.
      .def("encode",
           [](const Encoder& encoder, uint32_t bits, const Floats& row) {
             std::vector<float> residual(encoder.residual_dims());
             encoder.residual_of_row(row.data(), residual.data());
             Bytes code(static_cast<py::ssize_t>(encoder.code_bytes(width_of(bits))));
             std::vector<float> scratch(2 * encoder.residual_dims());
             const RowMeta meta = encoder.encode(width_of(bits), residual.data(), scratch.data(), code.mutable_data());
             return std::tuple(code, meta.norm, meta.scale);
           })
      // The estimated distance of one query to each of `rows`, as a walk computes it.
      .def("distances", [](const Encoder& encoder, uint32_t bits, const Floats& query, const Floats& rows) {
        Team team(1);
        const CodeTable codes(encoder, width_of(bits), rows.data(), length(rows, 0), team);
        return distances_to_all(encoder, codes.set(), query, codes.rows());
      });
}

// Rows as a build sees them: codes, and the distances between them.
class CodedRows {
 public:
  CodedRows(const Floats& rows, uint32_t metric, uint32_t bits)
      : encoder_(Encoder::learn(static_cast<Metric>(metric), rows.data(), length(rows, 0), length(rows, 1), team_)),
        codes_(encoder_, width_of(bits), rows.data(), length(rows, 0), team_),
        distances_(ehub::kernels(), static_cast<Metric>(metric), codes_.set(), length(rows, 0), team_) {}

  std::vector<float> distances(uint32_t row, const std::vector<uint32_t>& others) const {
    CodedQuery query;
    distances_.set_query(row, query);
    std::vector<float> out(others.size());
    distances_.score(query, others.data(), others.size(), out.data());
    return out;
  }
  std::vector<uint32_t> prune(const std::vector<std::pair<float, uint32_t>>& candidates, size_t links_max) const {
    std::vector<Candidate> packed;
    for (const auto& [distance, row] : candidates) packed.push_back(make_candidate(distance, row));
    std::vector<uint32_t> out(links_max);
    out.resize(Pruner(distances_).prune(packed.data(), packed.size(), links_max, out.data()));
    return out;
  }

 private:
  Team team_{1};
  Encoder encoder_;
  CodeTable codes_;
  BuildDistances distances_;
};

// Puts bytes, or aligns to a number, in this order; returns the offsets after each and the sums of the blocks.
std::pair<std::vector<uint64_t>, std::vector<uint32_t>> write_blocks(
    FileSystem& fs, const std::string& path, const std::vector<std::variant<size_t, std::string>>& parts) {
  const auto file = take(fs.open(path, FileSystem::Mode::kCreate));
  ehub::BlockWriter writer(*file);
  std::vector<uint64_t> offsets;
  for (const auto& part : parts) {
    if (const auto* alignment = std::get_if<size_t>(&part)) {
      writer.align(*alignment);
    } else {
      writer.put(std::get<std::string>(part).data(), std::get<std::string>(part).size());
    }
    offsets.push_back(writer.offset());
  }
  std::vector<uint32_t> crcs = writer.block_crcs();
  check(writer.close());
  return {std::move(offsets), std::move(crcs)};
}

}  // namespace

void bind_hnsw(py::module_& module) {
  bind_graph(module);
  bind_graph_file(module);
  bind_pool(module);
  bind_twins_and_rotation(module);
  bind_encoder(module);
  py::class_<CodedRows>(module, "CodedRows")
      .def(py::init<const Floats&, uint32_t, uint32_t>(), py::arg("rows").noconvert(), py::arg("metric"),
           py::arg("bits"))
      .def("distances", &CodedRows::distances)
      .def("prune", &CodedRows::prune);
  module.def("write_blocks", write_blocks);
}
