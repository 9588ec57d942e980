// ehub._native._testing: the engine's C++ internals, for pytest.
//
// Each tests/native/bind_<name>.cpp (and tests/crash/bind_<name>.cpp) defines bind_<name>(module), which adds one
// layer's functions and classes. The build finds those files and passes their names as EHUB_BINDERS, so a new one needs
// no edit here. Users never get this module: it is built where the tests are.

#include <pybind11/pybind11.h>

#define EHUB_DECLARE(name) void bind_##name(pybind11::module_& module);
EHUB_BINDERS(EHUB_DECLARE)
#undef EHUB_DECLARE

PYBIND11_MODULE(_testing, module) {
  module.doc() = "The engine's C++ internals, for tests.";
#define EHUB_CALL(name) bind_##name(module);
  EHUB_BINDERS(EHUB_CALL)
#undef EHUB_CALL
}
