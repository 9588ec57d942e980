// Coarse rows: their bounds alone, and a space whose scans do with them or without, for test_coarse.py.
//
// Keys are row numbers. Answers are pairs of distances and ordinals.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bind_status.h"
#include "hnsw/bounded_codes.h"
#include "hnsw/team.h"
#include "io/posix_file.h"
#include "kernels/dispatch.h"
#include "store/coarse_rows.h"
#include "store/store.h"

namespace py = pybind11;

namespace {

using ehub::CoarseRows;
using ehub::Metric;
using ehub::testing::check;
using ehub::testing::take;

using Floats = py::array_t<float, py::array::c_style>;
using Answer = std::pair<std::vector<float>, std::vector<uint64_t>>;

size_t length(const py::array& array, int axis) { return static_cast<size_t>(array.shape(axis)); }

// Which rows are not ruled out as beyond each of some distances; none if the query rules out no row. `first`: the rows
// whose mean is taken.
std::vector<std::vector<bool>> not_beyond(const ehub::KernelTable& table, uint32_t metric, const Floats& first,
                                          const Floats& rows, const Floats& query, float norm_squared,
                                          const std::vector<float>& distances) {
  const size_t dims = length(rows, 1);
  ehub::hnsw::Team alone(1);
  const auto encoder =
      ehub::hnsw::Encoder::learn_mean(static_cast<Metric>(metric), first.data(), length(first, 0), dims, alone);
  const auto codes = ehub::hnsw::BoundedCodes::make(encoder, rows.data(), length(rows, 0));
  const ehub::hnsw::BoundedQuery bounded(encoder, query.data(), norm_squared);
  std::vector<std::vector<bool>> all;
  for (const float distance : distances) {
    if (!bounded.is_usable()) break;
    std::vector<bool> left;
    for (size_t row = 0; row < codes->rows(); ++row) {
      left.push_back((codes->not_beyond(table, bounded, bounded.limit(distance), row / 64) >> row % 64 & 1) != 0);
    }
    all.push_back(std::move(left));
  }
  return all;
}

class CoarseSpace {
 public:
  CoarseSpace(const std::string& root, uint32_t dims, uint32_t metric, uint32_t graph_rows_min) {
    ehub::StoreOptions options;
    options.durability = ehub::Durability::kOff;
    options.background = false;
    options.graph_rows_min = graph_rows_min;
    options.fresh_rows_max = 1U << 30;
    store_ = take(ehub::Store::open(ehub::posix_file_system(), root, options));
    table_ = take(store_->create_space("items", {dims, static_cast<Metric>(metric), ehub::KeyType::kInteger}));
  }

  void set(int64_t first, const Floats& vectors) {
    ehub::WriteBatch batch;
    const std::vector<int64_t> keys = keys_from(first, vectors.shape(0));
    batch.keys = packed(keys);
    batch.vectors = vectors.data();
    write(std::move(batch));
  }
  void remove(const std::vector<int64_t>& keys) {
    ehub::WriteBatch batch;
    batch.kind = ehub::WriteBatch::Kind::kDelete;
    batch.keys = packed(keys);
    write(std::move(batch));
  }
  void checkpoint() { check(store_->checkpoint()); }
  void index() { check(store_->wait_indexed(*table_)); }

  std::vector<Answer> search(const Floats& queries, size_t k, bool coarsely, float distance_max, bool exact,
                             const std::optional<std::vector<int64_t>>& among, unsigned threads) {
    const py::gil_scoped_release released;
    const auto view = take(store_->view(*table_));
    ehub::SearchOptions options;
    options.k = k;
    options.exact = exact;
    options.distance_max = distance_max;
    options.threads = threads;
    options.coarse_bytes_min = coarsely ? 0 : std::numeric_limits<uint64_t>::max();
    ehub::Selection selection;
    if (among) {
      std::vector<ehub::Ordinal> rows(among->size());
      const std::vector<std::string_view> keys = packed(*among);
      check(view->locate(keys.data(), keys.size(), rows.data()));
      selection = view->select(rows.data(), rows.size());
      options.filter = &selection;
    }
    std::vector<Answer> answers;
    for (const auto& neighbors : take(view->nearest(queries.data(), length(queries, 0), options))) {
      Answer& answer = answers.emplace_back();
      for (const ehub::Neighbor& neighbor : neighbors) {
        answer.first.push_back(neighbor.distance);
        answer.second.push_back(neighbor.row);
      }
    }
    return answers;
  }

  size_t blocks() const {
    size_t blocks = 0;
    for (const auto& rows : coarse_rows()) blocks += rows->blocks_made();
    return blocks;
  }
  uint64_t ruled_out() const {
    uint64_t rows = 0;
    for (const auto& coarse : coarse_rows()) rows += coarse->rows_ruled_out();
    return rows;
  }
  uint64_t judged() const {
    uint64_t rows = 0;
    for (const auto& coarse : coarse_rows()) rows += coarse->rows_judged();
    return rows;
  }
  size_t segments() const { return take(store_->view(*table_))->state()->segments.size(); }

 private:
  static std::vector<int64_t> keys_from(int64_t first, int64_t n) {
    std::vector<int64_t> keys;
    for (int64_t i = 0; i < n; ++i) keys.push_back(first + i);
    return keys;
  }
  static std::vector<std::string_view> packed(const std::vector<int64_t>& keys) {
    std::vector<std::string_view> views;
    for (const int64_t& key : keys) views.emplace_back(reinterpret_cast<const char*>(&key), sizeof(key));
    return views;
  }
  void write(ehub::WriteBatch batch) {
    const py::gil_scoped_release released;
    batch.table = table_;
    check(store_->write(batch).status());
  }
  std::vector<std::shared_ptr<CoarseRows>> coarse_rows() const {
    std::vector<std::shared_ptr<CoarseRows>> all;
    const auto view = take(store_->view(*table_));
    for (const auto& ref : view->state()->segments) {
      if (auto rows = ref.segment->coarse_rows().load()) all.push_back(std::move(rows));
    }
    return all;
  }

  std::unique_ptr<ehub::Store> store_;
  std::shared_ptr<ehub::Table> table_;
};

}  // namespace

void bind_coarse(py::module_& module) {
  module.def("not_beyond", not_beyond, py::arg("table"), py::arg("metric"), py::arg("first").noconvert(),
             py::arg("rows").noconvert(), py::arg("query").noconvert(), py::arg("norm_squared"), py::arg("distances"));
  module.def("coarse_memory_taken", [] { return ehub::coarse_memory().taken(); });
  module.def("fix_coarse_memory", [](uint64_t bytes) { ehub::coarse_memory().fix(bytes); });
  module.def("coarse_block_rows",
             [](uint32_t dims) { return CoarseRows::block_rows({dims, Metric::kL2, ehub::KeyType::kInteger}); });
  py::class_<CoarseSpace>(module, "CoarseSpace")
      .def(py::init<const std::string&, uint32_t, uint32_t, uint32_t>(), py::arg("root"), py::arg("dims"),
           py::arg("metric"), py::arg("graph_rows_min") = 1U << 30)
      .def("set", &CoarseSpace::set, py::arg("first"), py::arg("vectors").noconvert())
      .def("remove", &CoarseSpace::remove)
      .def("checkpoint", &CoarseSpace::checkpoint)
      .def("index", &CoarseSpace::index)
      .def("search", &CoarseSpace::search, py::arg("queries").noconvert(), py::arg("k") = 10,
           py::arg("coarsely") = true, py::arg("distance_max") = std::numeric_limits<float>::infinity(),
           py::arg("exact") = true, py::arg("among") = py::none(), py::arg("threads") = 1)
      .def_property_readonly("blocks", &CoarseSpace::blocks)
      .def_property_readonly("judged", &CoarseSpace::judged)
      .def_property_readonly("ruled_out", &CoarseSpace::ruled_out)
      .def_property_readonly("segments", &CoarseSpace::segments);
}
