// Calls that fail and disks that fill up, for pytest.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "disk_limit.h"
#include "nth_failure.h"
#include "report_binding.h"

namespace py = pybind11;

namespace ehub::crash {
namespace {

py::dict fail_calls(const std::string& base, const std::string& letters, int fault, bool forever, bool reads_too) {
  const FaultPlan plan = {static_cast<Fault>(fault), forever, reads_too};
  return attack_in_child([&](Note& note) { return fail_each_call(base, letters, plan, note); });
}

py::dict fill(uint64_t first_bytes, uint64_t last_bytes, uint64_t step_bytes, const std::string& way) {
  return attack_in_child([&](Note& note) { return fill_disks(first_bytes, last_bytes, step_bytes, way, note); });
}

}  // namespace
}  // namespace ehub::crash

void bind_nth_failure(py::module_& module) {
  using namespace ehub::crash;
  module.def("crash_fail_calls", &fail_calls, py::arg("base"), py::arg("letters"), py::arg("fault"), py::arg("forever"),
             py::arg("reads_too"));
  module.def("crash_fill_disks", &fill, py::arg("first_bytes"), py::arg("last_bytes"), py::arg("step_bytes"),
             py::arg("way"));
}
