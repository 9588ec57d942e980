// The kernels of every tier this machine can run, the top-k scan and the choice of a tier, for test_kernels.py.
//
// Arrays must be C-contiguous float32, and are passed on where they lie, aligned or not. Shapes are the tests' duty.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/scan.h"

namespace py = pybind11;

namespace {

using ehub::CodeEnds;
using ehub::CodeKernels;
using ehub::KernelTable;
using ehub::Metric;
using ehub::Neighbor;
using ehub::TopK;

using Floats = py::array_t<float, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style>;
using Words = py::array_t<uint64_t, py::array::c_style>;

using One = void (*KernelTable::*)(const float*, const float*, size_t, size_t, float*);
using Many = void (*KernelTable::*)(const float*, size_t, const float*, size_t, size_t, float*, size_t);

// Rows, the bitmap of the selected ones or None, and the ordinal of the first.
using Block = std::tuple<Floats, std::optional<Words>, uint64_t>;
using Answer = std::pair<std::vector<float>, std::vector<uint64_t>>;

size_t length(const py::array& array, int axis) { return static_cast<size_t>(array.shape(axis)); }

const KernelTable& table_named(const std::string& name) {
  for (const KernelTable* table : ehub::supported_kernels()) {
    if (name == table->name) return *table;
  }
  throw py::value_error("no kernels named " + name);
}

template <One kKernel>
Floats run_one(const KernelTable& table, const Floats& query, const Floats& rows) {
  Floats out(rows.shape(0));
  (table.*kKernel)(query.data(), rows.data(), length(rows, 0), length(rows, 1), out.mutable_data());
  return out;
}

// `out` has a row per query, at least as long as there are rows.
template <Many kKernel>
void run_many(const KernelTable& table, const Floats& queries, const Floats& rows, Floats& out) {
  (table.*kKernel)(queries.data(), length(queries, 0), rows.data(), length(rows, 0), length(rows, 1),
                   out.mutable_data(), length(out, 1));
}

std::pair<Floats, Floats> run_dot_norm_one(const KernelTable& table, const Floats& query, const Floats& rows) {
  Floats products(rows.shape(0));
  Floats norms_squared(rows.shape(0));
  table.dot_norm_one(query.data(), rows.data(), length(rows, 0), length(rows, 1), products.mutable_data(),
                     norms_squared.mutable_data());
  return {products, norms_squared};
}

// The same kernels over rows that lie apart: those of `rows` with these numbers, in this order.
using Apart = void (*KernelTable::*)(const float*, const float* const*, size_t, size_t, float*);

std::vector<const float*> pointers_to(const Floats& rows, const std::vector<uint32_t>& numbers) {
  std::vector<const float*> pointers;
  for (const uint32_t number : numbers) pointers.push_back(rows.data(number, 0));
  return pointers;
}

template <Apart kKernel>
Floats run_apart(const KernelTable& table, const Floats& query, const Floats& rows,
                 const std::vector<uint32_t>& numbers) {
  Floats out(static_cast<py::ssize_t>(numbers.size()));
  (table.*kKernel)(query.data(), pointers_to(rows, numbers).data(), numbers.size(), length(rows, 1),
                   out.mutable_data());
  return out;
}

std::pair<Floats, Floats> run_dot_norm_apart(const KernelTable& table, const Floats& query, const Floats& rows,
                                             const std::vector<uint32_t>& numbers) {
  Floats products(static_cast<py::ssize_t>(numbers.size()));
  Floats norms_squared(static_cast<py::ssize_t>(numbers.size()));
  table.dot_norm_apart(query.data(), pointers_to(rows, numbers).data(), numbers.size(), length(rows, 1),
                       products.mutable_data(), norms_squared.mutable_data());
  return {products, norms_squared};
}

// The kernels over codes: a query, rows of codes, and the numbers of those that are asked for.
using Codes = py::array_t<uint8_t, py::array::c_style>;
using Query8 = py::array_t<int8_t, py::array::c_style>;
using Query16 = py::array_t<int16_t, py::array::c_style>;
using Numbers = std::vector<uint32_t>;

int32_t sum_of(const Query8& query) { return std::accumulate(query.data(), query.data() + query.size(), int32_t{0}); }

// `ends`, `ends_query`: of CodeEnds; without bytes none lie apart.
template <auto kDot>
std::vector<int32_t> run_dot(const KernelTable& table, const Query8& query, const Codes& codes, const Numbers& numbers,
                             const Codes& ends, const Query8& ends_query) {
  std::vector<int32_t> out(numbers.size());
  const CodeEnds apart = {ends.size() == 0 ? nullptr : ends.data(), ends_query.data()};
  (table.codes.*kDot)(query.data(), sum_of(query) + sum_of(ends_query), codes.data(), length(codes, 1), apart,
                      numbers.data(), numbers.size(), out.data());
  return out;
}

std::vector<int64_t> run_dot_s16(const KernelTable& table, const Query16& query, const Codes& codes,
                                 const Numbers& numbers) {
  std::vector<int64_t> out(numbers.size());
  table.codes.dot_s16(query.data(), codes.data(), length(codes, 1), numbers.data(), numbers.size(), out.data());
  return out;
}

Answer as_answer(const std::vector<Neighbor>& neighbors) {
  Answer answer;
  for (const Neighbor& neighbor : neighbors) {
    answer.first.push_back(neighbor.distance);
    answer.second.push_back(neighbor.row);
  }
  return answer;
}

std::vector<Answer> scan(const KernelTable& table, uint32_t metric, const Floats& queries,
                         const std::vector<Block>& blocks, size_t k, float distance_max) {
  const size_t m = length(queries, 0);
  const size_t dims = length(queries, 1);
  std::vector<float> norms_squared(m);
  for (size_t q = 0; q < m; ++q) table.dot_one(queries.data(q, 0), queries.data(q, 0), 1, dims, &norms_squared[q]);
  std::vector<TopK> heaps(m, TopK(k, distance_max));
  for (const auto& [rows, selected, row_base] : blocks) {
    ehub::scan_block(table, static_cast<Metric>(metric), queries.data(), norms_squared.data(), m, rows.data(),
                     length(rows, 0), dims, selected ? selected->data() : nullptr, row_base, heaps.data());
  }
  std::vector<Answer> answers;
  for (TopK& heap : heaps) answers.push_back(as_answer(heap.take_sorted()));
  return answers;
}

void bind_table(py::module_& module) {
  py::class_<KernelTable, std::unique_ptr<KernelTable, py::nodelete>>(module, "KernelTable")
      .def_readonly("name", &KernelTable::name)
      .def("l2_one", run_one<&KernelTable::l2_one>, py::arg("query").noconvert(), py::arg("rows").noconvert())
      .def("dot_one", run_one<&KernelTable::dot_one>, py::arg("query").noconvert(), py::arg("rows").noconvert())
      .def("dot_norm_one", run_dot_norm_one, py::arg("query").noconvert(), py::arg("rows").noconvert())
      .def("l2_many", run_many<&KernelTable::l2_many>, py::arg("queries").noconvert(), py::arg("rows").noconvert(),
           py::arg("out").noconvert())
      .def("dot_many", run_many<&KernelTable::dot_many>, py::arg("queries").noconvert(), py::arg("rows").noconvert(),
           py::arg("out").noconvert())
      .def(
          "accumulate",
          [](const KernelTable& table, const Floats& rows, const std::vector<double>& weights, Doubles& sum) {
            std::vector<uint32_t> numbers(weights.size());
            std::iota(numbers.begin(), numbers.end(), 0U);
            const std::vector<const float*> apart = pointers_to(rows, numbers);
            std::vector<const float*> ahead(apart.rbegin(), apart.rend());
            ahead[0] = nullptr;
            table.accumulate(apart.data(), weights.data(), apart.size(), length(rows, 1), ahead.data(),
                             sum.mutable_data());
          },
          py::arg("rows").noconvert(), py::arg("weights"), py::arg("sum").noconvert())
      .def(
          "scale",
          [](const KernelTable& table, const Doubles& sum, double factor, Floats& out) {
            table.scale(sum.data(), length(sum, 0), factor, out.mutable_data());
          },
          py::arg("sum").noconvert(), py::arg("factor"), py::arg("out").noconvert())
      .def(
          "all_finite",
          [](const KernelTable& table, const Floats& values) {
            return table.all_finite(values.data(), length(values, 0));
          },
          py::arg("values").noconvert())
      .def("l2_apart", run_apart<&KernelTable::l2_apart>, py::arg("query").noconvert(), py::arg("rows").noconvert(),
           py::arg("numbers"))
      .def("dot_apart", run_apart<&KernelTable::dot_apart>, py::arg("query").noconvert(), py::arg("rows").noconvert(),
           py::arg("numbers"))
      .def("dot_norm_apart", run_dot_norm_apart, py::arg("query").noconvert(), py::arg("rows").noconvert(),
           py::arg("numbers"))
      .def("dot_u8", run_dot<&CodeKernels::dot_u8>, py::arg("query").noconvert(), py::arg("codes").noconvert(),
           py::arg("numbers"), py::arg("ends") = Codes(), py::arg("ends_query") = Query8())
      .def("dot_u4", run_dot<&CodeKernels::dot_u4>, py::arg("query").noconvert(), py::arg("codes").noconvert(),
           py::arg("numbers"), py::arg("ends") = Codes(), py::arg("ends_query") = Query8())
      .def("dot_s16", run_dot_s16, py::arg("query").noconvert(), py::arg("codes").noconvert(), py::arg("numbers"))
      .def("scan", scan, py::arg("metric"), py::arg("queries").noconvert(), py::arg("blocks"), py::arg("k"),
           py::arg("distance_max") = TopK::kUnlimited)
      .def(
          "first_invalid_row",
          [](const KernelTable& table, uint32_t metric, const Floats& rows) {
            return ehub::first_invalid_row(table, static_cast<Metric>(metric), rows.data(), length(rows, 0),
                                           length(rows, 1));
          },
          py::arg("metric"), py::arg("rows").noconvert());
}

void bind_top_k(py::module_& module) {
  py::class_<TopK>(module, "TopK")
      .def(py::init<size_t, float>(), py::arg("k"), py::arg("distance_max") = TopK::kUnlimited)
      .def_property_readonly("threshold", &TopK::threshold)
      .def("push", &TopK::push)
      .def("merge", &TopK::merge)
      .def("take_sorted", [](TopK& heap) { return as_answer(heap.take_sorted()); });
}

}  // namespace

void bind_kernels(py::module_& module) {
  bind_table(module);
  bind_top_k(module);
  module.def("supported_kernels", [] {
    std::vector<std::string> names;
    for (const KernelTable* table : ehub::supported_kernels()) names.emplace_back(table->name);
    return names;
  });
  module.def("kernels_named", table_named, py::return_value_policy::reference);
  module.def("kernels_in_use", [] { return std::string(ehub::kernels().name); });
  module.def("select_kernels", [](const std::optional<std::string>& name) {
    const ehub::Status status = ehub::select_kernels(name ? name->c_str() : nullptr);
    if (!status.ok()) throw py::value_error(status.message());
  });
}
