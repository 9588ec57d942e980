// Checksums, coded bytes and the Status exception, for tests/native/test_base.py and every other binding.

#include <pybind11/pybind11.h>

#include <array>
#include <string>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/crc32c_paths.h"
#include "bind_status.h"

namespace py = pybind11;

namespace {

using ehub::ByteReader;
using ehub::ByteWriter;
using ehub::testing::StatusError;

const char* code_name(ehub::Code code) {
  constexpr std::array kNames = {
      "Ok",       "NotFound", "Exists",     "InvalidArgument", "Dimension", "InvalidVector", "InvalidKey",
      "Frozen",   "ReadOnly", "Locked",     "Corruption",      "Format",    "Closed",        "Conflict",
      "Deadline", "Io",       "OutOfMemory"};
  return kNames.at(static_cast<size_t>(code));
}

PYBIND11_CONSTINIT py::gil_safe_call_once_and_store<py::object> status_error_type;

void raise_status_error(const ehub::Status& status) {
  const py::object& type = status_error_type.get_stored();
  py::object error = type(status.message());
  error.attr("code") = code_name(status.code());
  error.attr("errno") = status.error_number();
  PyErr_SetObject(type.ptr(), error.ptr());
}

void bind_status_error(py::module_& module) {
  status_error_type.call_once_and_store_result(
      [&] { return py::object(py::exception<StatusError>(module, "StatusError")); });
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const StatusError& error) {
      raise_status_error(error.status());
    }
  });
}

using Checksum = uint32_t (*)(uint32_t, const void*, size_t);

template <Checksum kChecksum>
uint32_t checksum_of(const py::buffer& data, uint32_t crc) {
  const py::buffer_info bytes = data.request();
  return kChecksum(crc, bytes.ptr, static_cast<size_t>(bytes.size * bytes.itemsize));
}

// Owns the bytes that it reads.
struct OwningReader {
  explicit OwningReader(std::string bytes_) : bytes(std::move(bytes_)), reader(bytes.data(), bytes.size()) {}
  OwningReader(const OwningReader&) = delete;
  OwningReader& operator=(const OwningReader&) = delete;

  std::string bytes;
  ByteReader reader;
};

py::bytes written(const ByteWriter& writer) { return {reinterpret_cast<const char*>(writer.data()), writer.size()}; }

void bind_bytes(const py::module_& module) {
  py::class_<ByteWriter>(module, "ByteWriter")
      .def(py::init<>())
      .def("u32", &ByteWriter::fixed<uint32_t>)
      .def("u64", &ByteWriter::fixed<uint64_t>)
      .def("varint", &ByteWriter::varint)
      .def("string", [](ByteWriter& self, const py::bytes& text) { self.string(std::string(text)); })
      .def("pad_to", &ByteWriter::pad_to)
      .def("bytes", &written);
  py::class_<OwningReader>(module, "ByteReader")
      .def(py::init([](const py::bytes& bytes) { return std::make_unique<OwningReader>(std::string(bytes)); }))
      .def("u32", [](OwningReader& self) { return self.reader.fixed<uint32_t>(); })
      .def("u64", [](OwningReader& self) { return self.reader.fixed<uint64_t>(); })
      .def("varint", [](OwningReader& self) { return self.reader.varint(); })
      .def("string", [](OwningReader& self) { return py::bytes(std::string(self.reader.string())); })
      .def_property_readonly("ok", [](const OwningReader& self) { return self.reader.ok(); })
      .def_property_readonly("left", [](const OwningReader& self) { return self.reader.left(); });
}

}  // namespace

void bind_base(py::module_& module) {
  bind_status_error(module);
  bind_bytes(module);
  module.def("raise_corruption", [](const std::string& path, uint64_t offset, const std::string& what) {
    ehub::testing::check(ehub::corruption(path, offset, what));
  });
  module.def("raise_io_error", [](const std::string& operation, const std::string& path, int error_number) {
    ehub::testing::check(ehub::io_error(operation, path, error_number));
  });
  module.def("assert_false", [] { EHUB_ASSERT(1 + 1 == 3); });
  module.def("crc32c", &checksum_of<&ehub::crc32c>, py::arg("data"), py::arg("crc") = 0);
  module.def("crc32c_table", &checksum_of<&ehub::crc32c_table>, py::arg("data"), py::arg("crc") = 0);
  module.def("crc32c_hardware", &checksum_of<&ehub::crc32c_hardware>, py::arg("data"), py::arg("crc") = 0);
  module.def("crc32c_has_hardware", &ehub::crc32c_has_hardware);
  module.def("crc_mask", &ehub::crc_mask);
}
