// The log's writer and reader under Python names, for tests/native/test_log.py.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <string_view>

#include "bind_status.h"
#include "io/file.h"
#include "store/log_file.h"
#include "store/store.h"

namespace py = pybind11;

namespace {

using ehub::FileSystem;
using ehub::LogNumber;
using ehub::LogReader;
using ehub::LogRecord;
using ehub::LogRecordType;
using ehub::LogStart;
using ehub::LogWriter;
using ehub::Seq;
using ehub::testing::check;
using ehub::testing::take;

// (type, seq, synced_seq, offset, payload)
py::tuple as_tuple(const LogRecord& record) {
  const py::bytes payload(reinterpret_cast<const char*>(record.payload.data()), record.payload.size());
  return py::make_tuple(static_cast<uint32_t>(record.type), record.seq, record.synced_seq, record.offset, payload);
}

std::unique_ptr<LogWriter> create(FileSystem& fs, const std::string& directory, LogNumber number,
                                  const std::tuple<LogNumber, uint64_t, Seq>& start, const std::string& spare,
                                  uint64_t step_bytes) {
  const auto [previous, previous_bytes, previous_seq] = start;
  return take(LogWriter::create(fs, directory, number, {previous, previous_bytes, previous_seq}, spare, step_bytes));
}

void add(LogWriter& log, uint32_t type, Seq seq, Seq synced_seq, const py::bytes& payload) {
  const std::string_view bytes(payload);
  log.add(static_cast<LogRecordType>(type), seq, synced_seq, bytes.data(), bytes.size());
}

py::object next(LogReader& log) {
  LogRecord record;
  if (!take(log.next(&record))) return py::none();
  return as_tuple(record);
}

// (all records, where they end, synced_behind)
py::tuple read_log(FileSystem& fs, const std::string& directory, LogNumber number) {
  const std::unique_ptr<LogReader> log = take(LogReader::open(fs, directory, number));
  py::list records;
  LogRecord record;
  while (take(log->next(&record))) records.append(as_tuple(record));
  const uint64_t end = log->offset();
  return py::make_tuple(records, end, take(log->synced_behind()));
}

py::object decode_start(uint32_t type, const py::bytes& payload) {
  const std::string_view bytes(payload);
  LogRecord record;
  record.type = static_cast<LogRecordType>(type);
  record.payload.assign(bytes.begin(), bytes.end());
  const std::optional<LogStart> start = ehub::decode_log_start(record);
  if (!start) return py::none();
  return py::make_tuple(start->previous, start->previous_bytes, start->previous_seq);
}

}  // namespace

void bind_log(py::module_& module) {
  py::class_<LogWriter>(module, "LogWriter")
      .def(py::init(&create), py::arg("fs"), py::arg("directory"), py::arg("number"),
           py::arg("start") = std::tuple<LogNumber, uint64_t, Seq>(), py::arg("spare") = "",
           py::arg("step_bytes") = ehub::StoreOptions().log_step_bytes)
      .def("add", &add)
      .def("write", [](LogWriter& log) { check(log.write()); })
      .def("sync", [](LogWriter& log) { check(log.sync()); })
      .def("finish", [](LogWriter& log) { check(log.finish()); })
      .def_property_readonly("number", &LogWriter::number)
      .def_property_readonly("bytes", &LogWriter::bytes)
      .def_property_readonly("pending_bytes", &LogWriter::pending_bytes);
  py::class_<LogReader>(module, "LogReader")
      .def(py::init([](FileSystem& fs, const std::string& directory, LogNumber number) {
        return take(LogReader::open(fs, directory, number));
      }))
      .def("next", &next)
      .def_property_readonly("offset", &LogReader::offset)
      .def("synced_behind", [](LogReader& log) { return take(log.synced_behind()); });
  module.def("read_log", &read_log);
  module.def("log_path", &ehub::log_path);
  module.def("decode_log_start", &decode_start);
}
