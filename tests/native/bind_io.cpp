// The real and the simulated file system under one set of Python names, for tests/native/test_io.py and
// test_fault_file.py.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>

#include "bind_status.h"
#include "io/fault_file.h"
#include "io/file.h"
#include "io/posix_file.h"

namespace py = pybind11;

namespace {

using ehub::CrashModel;
using ehub::Fault;
using ehub::FaultFileSystem;
using ehub::File;
using ehub::FileSystem;
using ehub::Mapping;
using ehub::PosixFileSystem;
using ehub::testing::check;
using ehub::testing::take;

// A File that Python can end when it wants to.
class OpenFile {
 public:
  explicit OpenFile(std::unique_ptr<File> file) : file_(std::move(file)) {}
  File& get() {
    if (file_ == nullptr) throw py::value_error("the file is closed");
    return *file_;
  }
  void close() { file_.reset(); }

 private:
  std::unique_ptr<File> file_;
};

py::bytes read(OpenFile& file, uint64_t offset, size_t size) {
  std::string bytes(size, '\0');
  check(file.get().read(offset, bytes.data(), size));
  return bytes;
}

void write(OpenFile& file, uint64_t offset, const py::bytes& data) {
  const std::string bytes(data);
  check(file.get().write(offset, bytes.data(), bytes.size()));
}

py::bytes mapped_bytes(const Mapping& mapping, size_t offset, size_t size) {
  if (offset > mapping.size_bytes || size > mapping.size_bytes - offset) throw py::index_error("beyond the mapping");
  return {reinterpret_cast<const char*>(mapping.data) + offset, size};
}

void bind_file(const py::module_& module) {
  py::class_<Mapping>(module, "Mapping")
      .def_readonly("size_bytes", &Mapping::size_bytes)
      .def("bytes", &mapped_bytes, "Requires: within the file.");
  py::class_<OpenFile>(module, "File")
      .def("read", &read)
      .def("write", &write)
      .def("sync", [](OpenFile& self) { check(self.get().sync()); })
      .def("start_writeback",
           [](OpenFile& self, uint64_t offset, uint64_t size) { self.get().start_writeback(offset, size); })
      .def("truncate", [](OpenFile& self, uint64_t size) { check(self.get().truncate(size)); })
      .def("size", [](OpenFile& self) { return take(self.get().size()); })
      .def("map", [](OpenFile& self, size_t size) { return take(self.get().map(size)); })
      .def("try_lock", [](OpenFile& self, bool exclusive) { return take(self.get().try_lock(exclusive)); })
      .def("unlock", [](OpenFile& self) { self.get().unlock(); })
      .def("linked", [](OpenFile& self) { return take(self.get().linked()); })
      .def("close", &OpenFile::close);
}

void bind_file_systems(const py::module_& module) {
  py::enum_<FileSystem::Mode>(module, "Mode")
      .value("READ", FileSystem::Mode::kRead)
      .value("WRITE", FileSystem::Mode::kWrite)
      .value("CREATE", FileSystem::Mode::kCreate)
      .value("OPEN_OR_CREATE", FileSystem::Mode::kOpenOrCreate);
  const auto open = [](FileSystem& self, const std::string& path, FileSystem::Mode mode) {
    return std::make_unique<OpenFile>(take(self.open(path, mode)));
  };
  py::class_<FileSystem>(module, "FileSystem")
      .def("open", open)
      .def("make_directory", [](FileSystem& self, const std::string& path) { check(self.make_directory(path)); })
      .def("list", [](FileSystem& self, const std::string& path) { return take(self.list(path)); })
      .def("rename", [](FileSystem& self, const std::string& a, const std::string& b) { check(self.rename(a, b)); })
      .def("remove", [](FileSystem& self, const std::string& path) { check(self.remove(path)); })
      .def("sync_directory", [](FileSystem& self, const std::string& path) { check(self.sync_directory(path)); });
  py::class_<PosixFileSystem, FileSystem>(module, "PosixFileSystem").def(py::init<>());
  module.attr("LOCKED_FILES_MAX") = ehub::kLockedFilesMax;
}

void bind_fault_enums(const py::module_& module) {
  py::enum_<Fault>(module, "Fault")
      .value("EIO", Fault::kEio)
      .value("ENOSPC", Fault::kEnospc)
      .value("SHORT_WRITE", Fault::kShortWrite)
      .value("SYNC_LOST", Fault::kSyncLost);
  py::enum_<CrashModel>(module, "CrashModel")
      .value("KILL_PROCESS", CrashModel::kKillProcess)
      .value("DROP_UNSYNCED", CrashModel::kDropUnsynced)
      .value("KEEP_PREFIX", CrashModel::kKeepPrefix)
      .value("RANDOM_SECTORS", CrashModel::kRandomSectors)
      .value("TORN_TAIL", CrashModel::kTornTail)
      .value("SIZE_WITHOUT_DATA", CrashModel::kSizeWithoutData)
      .value("DROP_NAMES", CrashModel::kDropNames);
}

void bind_fault_file_system(const py::module_& module) {
  using Self = FaultFileSystem;
  const auto contents = [](const Self& self, const std::string& path) { return py::bytes(take(self.contents(path))); };
  const auto set_contents = [](Self& self, const std::string& path, const py::bytes& bytes) {
    check(self.set_contents(path, std::string(bytes)));
  };
  py::class_<Self, FileSystem>(module, "FaultFileSystem")
      .def(py::init<uint64_t>(), py::arg("seed") = 0)
      .def("calls", &Self::calls)
      .def("mutating_calls", &Self::mutating_calls)
      .def("count_reads", &Self::count_reads)
      .def("crash_at", &Self::crash_at, py::arg("call"), py::arg("torn") = false)
      .def("powered_off", &Self::powered_off)
      .def("fail_at", &Self::fail_at, py::arg("call"), py::arg("fault"), py::arg("forever") = false)
      .def("faults_injected", &Self::faults_injected)
      .def("clear_plan", &Self::clear_plan)
      .def("set_disk_bytes_max", &Self::set_disk_bytes_max)
      .def("crash", &Self::crash, py::arg("model"), py::arg("seed") = 0)
      .def("clone", &Self::clone)
      .def("paths", &Self::paths)
      .def("fingerprint", &Self::fingerprint)
      .def("contents", contents)
      .def("set_contents", set_contents);
}

}  // namespace

void bind_io(py::module_& module) {
  bind_file(module);
  bind_file_systems(module);
  bind_fault_enums(module);
  bind_fault_file_system(module);
}
