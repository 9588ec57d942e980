// A Report as Python sees it: a dict with `points`, `images` and `failures`.

#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <string>

#include "child.h"

namespace ehub::crash {

inline pybind11::dict to_python(const Report& report) {
  pybind11::dict dict;
  dict["points"] = report.points;
  dict["images"] = report.images;
  dict["failures"] = report.failures;
  return dict;
}

// Runs the attack in a child, without the interpreter's lock.
inline pybind11::dict attack_in_child(const std::function<Report(Note&)>& attack) {
  Report report;
  {
    const pybind11::gil_scoped_release released;
    report = run_in_child(attack);
  }
  return to_python(report);
}

}  // namespace ehub::crash
