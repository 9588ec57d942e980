// Damaged files, for pytest.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "examine.h"
#include "report_binding.h"

namespace py = pybind11;

namespace ehub::crash {
namespace {

py::dict damage(const std::string& hub, size_t part, size_t parts) {
  return attack_in_child([&](Note& note) { return damage_hub(hub, part, parts, note); });
}

}  // namespace
}  // namespace ehub::crash

void bind_damage(py::module_& module) {
  module.def("crash_damage", &ehub::crash::damage, py::arg("hub"), py::arg("part"), py::arg("parts"));
}
