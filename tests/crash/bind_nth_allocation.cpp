// Allocations that fail, for pytest.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <new>
#include <string>

#include "nth_allocation.h"
#include "nth_failure.h"
#include "report_binding.h"

namespace py = pybind11;

// AddressSanitizer has its own, and what one module takes by it another may give back.
#ifndef __SANITIZE_ADDRESS__
void* operator new(std::size_t size) {
  void* memory = ehub::crash::allocation_fails() ? nullptr : std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace ehub::crash {
namespace {

py::dict fail_allocations(const std::string& base, const std::string& letters) {
  FaultPlan plan;
  plan.allocations = true;
  return attack_in_child([&](Note& note) { return fail_each_call(base, letters, plan, note); });
}

}  // namespace
}  // namespace ehub::crash

void bind_nth_allocation(py::module_& module) {
  using namespace ehub::crash;
  module.def("crash_allocations_can_fail", &allocations_can_fail);
  module.def("crash_fail_allocations", &fail_allocations, py::arg("base"), py::arg("letters"));
}
