// Crashes of small workloads and of long random ones, for pytest.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "random_walk.h"
#include "report_binding.h"
#include "small.h"
#include "threaded.h"

namespace py = pybind11;

namespace ehub::crash {
namespace {

py::dict explore_small(const std::string& base, int durability, const std::vector<std::string>& workloads,
                       size_t outcomes, uint64_t recoveries_one_in) {
  return attack_in_child([&](Note& note) {
    note.set("making the base " + base);
    SmallExplorer explorer(base, static_cast<Durability>(durability));
    Report report;
    for (const std::string& letters : workloads) {
      report.add(explorer.explore(letters, outcomes, recoveries_one_in, note));
      if (report.failures.size() >= kFailuresMax) break;
    }
    return report;
  });
}

py::dict walk(uint64_t seed, size_t operations) {
  return attack_in_child([&](Note& note) { return RandomWalk(seed, operations).run(note); });
}

py::dict crash_threaded(uint64_t first_seed, uint64_t last_seed) {
  return attack_in_child([&](Note& note) { return crash_threads(first_seed, last_seed, note); });
}

}  // namespace
}  // namespace ehub::crash

void bind_crash(py::module_& module) {
  using namespace ehub::crash;
  module.def("crash_workloads", &words, py::arg("first"), py::arg("letters_max"));
  module.def("crash_small", &explore_small, py::arg("base"), py::arg("durability"), py::arg("workloads"),
             py::arg("outcomes"), py::arg("recoveries_one_in"));
  module.def("crash_random", &walk, py::arg("seed"), py::arg("operations"));
  module.def("crash_threaded", &crash_threaded, py::arg("first_seed"), py::arg("last_seed"));
  module.def("crash_small_reproduce", &SmallExplorer::reproduce, py::arg("line"));
}
