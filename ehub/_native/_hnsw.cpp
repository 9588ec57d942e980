// ehub._native._hnsw: the graph engine's door for arrays. It reads and writes the files of hnswlib, and builds links.
//
// A thin skin over src/hnsw/hnswlib_file.h, hnswlib_writer.h and build.h: arrays in and out, nothing per row, and the
// GIL released while the engine works. It shares no C++ object with _store. Only ehub.hnswlib_io calls it, and what
// does not fit is an error that is meant for us.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hnsw/build.h"
#include "hnsw/hnswlib_file.h"
#include "hnsw/hnswlib_writer.h"
#include "hnsw/team.h"
#include "io/posix_file.h"
#include "kernels/dispatch.h"

namespace py = pybind11;

namespace {

using namespace ehub;
using namespace ehub::hnsw;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

const char* error_name(Code code) {
  switch (code) {
    case Code::kNotFound:
      return "NotFoundError";
    case Code::kInvalidArgument:
      return "InvalidArgumentError";
    case Code::kDimension:
      return "DimensionError";
    case Code::kCorruption:
      return "CorruptionError";
    case Code::kIo:
      return "StorageError";
    default:
      return "EhubError";
  }
}

// Requires: the GIL.
void check(const Status& status) {
  if (status.ok()) return;
  const py::object error = py::module_::import("ehub.errors").attr(error_name(status.code()));
  const py::object text = py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(
      status.message().data(), static_cast<Py_ssize_t>(status.message().size()), "backslashreplace"));
  const py::object raised = status.code() == Code::kIo ? error(status.error_number(), text) : error(text);
  PyErr_SetObject(error.ptr(), raised.ptr());
  throw py::error_already_set();
}

// An array that takes over the memory of `values`.
template <typename T>
Array<T> as_array(std::vector<T> values) {
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  const std::vector<T>& kept = *owned;
  const py::capsule owner(owned.get(), [](void* memory) { delete static_cast<std::vector<T>*>(memory); });
  owned.release();
  return Array<T>(static_cast<py::ssize_t>(kept.size()), kept.data(), owner);
}

Metric metric_of(const std::string& name) {
  if (name == "l2") return Metric::kL2;
  if (name == "ip") return Metric::kInnerProduct;
  if (name == "cosine") return Metric::kCosine;
  throw py::value_error("expected a metric");
}

GraphInput input_of(const Array<float>& vectors, Metric metric) {
  if (vectors.ndim() != 2) throw py::value_error("expected float32[n, dims]");
  return {metric, vectors.data(), static_cast<size_t>(vectors.shape(0)), static_cast<size_t>(vectors.shape(1))};
}

py::tuple read_hnswlib(const std::string& path, uint32_t dims) {
  Status status;
  std::unique_ptr<HnswlibFile> file;
  std::vector<uint32_t> rows;
  LinkLists lists;
  {
    const py::gil_scoped_release released;
    Result<HnswlibFile> opened = HnswlibFile::open(posix_file_system(), path, dims);
    status = opened.status();
    if (status.ok()) {
      file = std::make_unique<HnswlibFile>(std::move(opened.value()));
      rows = file->live_records();
      lists = file->links_among(rows);
    }
  }
  check(status);
  Array<uint64_t> labels(static_cast<py::ssize_t>(rows.size()));
  Array<float> vectors({static_cast<py::ssize_t>(rows.size()), static_cast<py::ssize_t>(dims)});
  uint64_t* label = labels.mutable_data();
  float* vector = vectors.mutable_data();
  {
    const py::gil_scoped_release released;
    for (const uint32_t record : rows) {
      *label++ = file->label(record);
      std::memcpy(vector, file->vector(record), dims * sizeof(float));
      vector += dims;
    }
  }
  return py::make_tuple(labels, vectors, as_array(std::move(lists.begins)), as_array(std::move(lists.targets)),
                        file->M(), file->ef_construction());
}

Array<uint32_t> build_links(const Array<float>& vectors, const std::string& metric, uint32_t M,
                            uint32_t ef_construction, unsigned threads) {
  const GraphInput input = input_of(vectors, metric_of(metric));
  GraphParameters parameters;
  parameters.M = M;
  parameters.ef_construction = ef_construction;
  if (!parameters.is_sound() || input.rows == 0 || threads == 0) throw py::value_error("expected sound parameters");
  std::unique_ptr<BuiltGraph> graph;
  {
    const py::gil_scoped_release released;
    Team team(threads);
    BuildControl control;
    graph = std::move(build_graph(input, parameters, team, control).value());
  }
  Array<uint32_t> links({static_cast<py::ssize_t>(input.rows), static_cast<py::ssize_t>(graph->view.link_stride)});
  std::memcpy(links.mutable_data(), graph->view.links, static_cast<size_t>(links.nbytes()));
  return links;
}

void write_hnswlib_file(const std::string& path, const Array<uint64_t>& labels, const Array<float>& vectors,
                        const Array<uint32_t>& links, const std::string& metric, uint32_t M, uint32_t ef_construction,
                        unsigned threads) {
  HnswlibSource source;
  source.rows = input_of(vectors, metric_of(metric));
  const auto n = static_cast<py::ssize_t>(source.rows.rows);
  if (labels.ndim() != 1 || labels.shape(0) != n || links.ndim() != 2 || links.shape(0) != n || M < 2 || threads == 0) {
    throw py::value_error("expected a label and links for each vector");
  }
  source.labels = labels.data();
  source.links = links.data();
  source.link_stride = static_cast<size_t>(links.shape(1));
  source.M = M;
  source.ef_construction = ef_construction;
  Status status;
  {
    const py::gil_scoped_release released;
    Team team(threads);
    status = write_hnswlib(posix_file_system(), path, source, team);
  }
  check(status);
}

}  // namespace

PYBIND11_MODULE(_hnsw, module, py::mod_gil_not_used()) {
  module.doc() = "The graph engine for arrays: hnswlib's files, and links.";
  module.def("read_hnswlib", &read_hnswlib, py::arg("path"), py::arg("dims"));
  module.def("build_links", &build_links, py::arg("vectors").noconvert(), py::arg("metric"), py::arg("M"),
             py::arg("ef_construction"), py::arg("threads"));
  module.def("write_hnswlib", &write_hnswlib_file, py::arg("path"), py::arg("labels").noconvert(),
             py::arg("vectors").noconvert(), py::arg("links").noconvert(), py::arg("metric"), py::arg("M"),
             py::arg("ef_construction"), py::arg("threads"));
  check(select_kernels(std::getenv("EHUB_SIMD")));
}
