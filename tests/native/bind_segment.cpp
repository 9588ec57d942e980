// Vector files, sealed segments and deletion vectors, for tests/native/test_segment.py and its like.
//
// A row number that is none is None; vectors are copied out into numpy arrays.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "bind_status.h"
#include "io/file.h"
#include "store/deletion_vector.h"
#include "store/fresh_segment.h"
#include "store/key_table.h"
#include "store/salvaged_segment.h"
#include "store/segment_file.h"
#include "store/vector_file.h"

namespace py = pybind11;

namespace {

using ehub::ByteReader;
using ehub::ByteWriter;
using ehub::DeletionVector;
using ehub::FileSystem;
using ehub::Key;
using ehub::KeyType;
using ehub::make_key;
using ehub::Row;
using ehub::SalvagedSegment;
using ehub::Schema;
using ehub::SealedSegment;
using ehub::SegmentBuilder;
using ehub::SegmentId;
using ehub::SegmentInfo;
using ehub::Seq;
using ehub::VectorFile;
using ehub::testing::check;
using ehub::testing::take;

using Vectors = py::array_t<float, py::array::c_style>;
using AddedRow = std::tuple<std::string, Seq, uint32_t>;  // key, birth, partition

std::optional<Row> row_or_none(Row row) { return row == ehub::kNoRow ? std::nullopt : std::optional(row); }

Vectors copied(const float* from, Row rows, uint64_t dims) {
  Vectors out({static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(dims)});
  std::copy_n(from, rows * dims, out.mutable_data());
  return out;
}

void append(VectorFile& file, const Vectors& vectors) {
  check(file.append(vectors.data(), static_cast<Row>(vectors.shape(0))));
}

Vectors mapped(const VectorFile& file, uint64_t dims) {
  return copied(reinterpret_cast<const float*>(file.mapping().data), file.rows(), dims);
}

std::unique_ptr<VectorFile> adopt(FileSystem& fs, const std::string& path, uint64_t dims, Row rows_max, Row rows,
                                  std::vector<uint32_t> block_crcs, bool writable) {
  return take(VectorFile::adopt(fs, path, dims * sizeof(float), rows_max, rows, std::move(block_crcs), writable));
}

void bind_vector_file(const py::module_& module) {
  py::class_<VectorFile>(module, "VectorFile")
      .def_static("create",
                  [](FileSystem& fs, const std::string& path, uint64_t dims, Row rows_max) {
                    return take(VectorFile::create(fs, path, dims * sizeof(float), rows_max));
                  })
      .def_static("adopt", &adopt, py::arg("fs"), py::arg("path"), py::arg("dims"), py::arg("rows_max"),
                  py::arg("rows"), py::arg("block_crcs"), py::arg("writable") = true)
      .def("append", &append)
      .def("rollback", &VectorFile::rollback)
      .def("extend", &VectorFile::extend)
      .def("matches", [](const VectorFile& self, Row first) { return take(self.matches(first)); })
      .def("rewrite", [](VectorFile& self, Row first) { check(self.rewrite(first)); })
      .def("sync", [](VectorFile& self) { check(self.sync()); })
      .def("finish", [](VectorFile& self) { check(self.finish()); })
      .def("mapped", &mapped, "The rows as the mapping shows them.")
      .def_property_readonly("rows", &VectorFile::rows)
      .def_property_readonly("dirty", &VectorFile::dirty)
      .def_property_readonly("block_crcs", &VectorFile::block_crcs);
}

Schema schema_of(uint32_t dims, bool integer_keys) {
  return {dims, ehub::Metric::kL2, integer_keys ? KeyType::kInteger : KeyType::kString};
}

SegmentInfo write_segment(FileSystem& fs, const std::string& directory, ehub::SegmentId id, const Schema& schema,
                          uint64_t seed, const std::vector<AddedRow>& rows, const std::vector<uint32_t>& block_crcs) {
  SegmentBuilder builder(schema, seed);
  for (const auto& [key, born, partition] : rows) builder.add(make_key(seed, key), born, partition);
  return take(builder.write(fs, directory, id, block_crcs));
}

// A SealedSegment and what its callers know of it.
struct OpenSegment {
  SealedSegment segment;
  uint32_t dims;
  uint64_t seed;

  Key key(const std::string& bytes) const { return make_key(seed, bytes); }
  Vectors vectors(Row row, Row rows_max) const {
    Row n = 0;
    const float* from = take(segment.vectors(row, rows_max, &n));
    return copied(from, n, dims);
  }
  std::optional<Row> find(const std::string& bytes) const { return row_or_none(take(segment.find(key(bytes)))); }
  std::vector<std::optional<Row>> find_many(const std::vector<std::string>& all) const {
    std::vector<Key> keys;
    for (const std::string& bytes : all) keys.push_back(key(bytes));
    std::vector<Row> rows(keys.size());
    check(segment.find_many(keys.data(), keys.size(), rows.data()));
    std::vector<std::optional<Row>> found;
    for (const Row row : rows) found.push_back(row_or_none(row));
    return found;
  }
};

std::unique_ptr<OpenSegment> open_segment(FileSystem& fs, const std::string& directory, const Schema& schema,
                                          uint64_t seed, const SegmentInfo& info) {
  return std::unique_ptr<OpenSegment>(
      new OpenSegment{SealedSegment(fs, directory, schema, seed, info), schema.dims, seed});
}

// Per row of a damaged segment, whether its vector, key, birth and partition are proven.
std::vector<std::tuple<bool, bool, bool, bool>> salvage_segment(FileSystem& fs, const std::string& directory,
                                                                const Schema& schema, uint64_t seed,
                                                                const SegmentInfo& info, SegmentId scratch) {
  const auto salvaged = take(SalvagedSegment::open(fs, directory, schema, seed, info, scratch));
  std::vector<std::tuple<bool, bool, bool, bool>> proven;
  for (Row row = 0; row < info.rows; ++row) {
    proven.emplace_back(salvaged->has_vector(row), salvaged->has_key(row), salvaged->has_birth(row),
                        salvaged->has_partition(row));
  }
  return proven;
}

void bind_segment_files(py::module_& module) {
  py::class_<Schema>(module, "Schema").def(py::init(&schema_of), py::arg("dims"), py::arg("integer_keys"));
  py::class_<SegmentInfo>(module, "SegmentInfo")
      .def(py::init<>())
      .def_readwrite("id", &SegmentInfo::id)
      .def_readwrite("rows", &SegmentInfo::rows)
      .def_readwrite("seg_bytes", &SegmentInfo::seg_bytes)
      .def_readwrite("footer_crc", &SegmentInfo::footer_crc)
      .def_readwrite("seq_min", &SegmentInfo::seq_min)
      .def_readwrite("seq_max", &SegmentInfo::seq_max);
  module.def("write_segment", &write_segment, py::arg("fs"), py::arg("directory"), py::arg("id"), py::arg("schema"),
             py::arg("seed"), py::arg("rows"), py::arg("block_crcs"));
  module.def("salvage_segment", &salvage_segment, py::arg("fs"), py::arg("directory"), py::arg("schema"),
             py::arg("seed"), py::arg("info"), py::arg("scratch"));
  module.def("vector_path", &ehub::vector_path);
  module.def("segment_path", &ehub::segment_path);
  using Self = OpenSegment;
  py::class_<Self>(module, "SealedSegment")
      .def(py::init(&open_segment), py::arg("fs"), py::arg("directory"), py::arg("schema"), py::arg("seed"),
           py::arg("info"), py::keep_alive<1, 2>())
      .def("row_count", [](const Self& self) { return self.segment.row_count(); })
      .def("seq_max", [](const Self& self) { return self.segment.seq_max(); })
      .def("vectors", &Self::vectors)
      .def("key", [](const Self& self, Row row) { return py::bytes(std::string(take(self.segment.key(row)))); })
      .def("born", [](const Self& self, Row row) { return take(self.segment.born(row)); })
      .def("rows_at", [](const Self& self, Seq seq) { return take(self.segment.rows_at(seq)); })
      .def("partition", [](const Self& self, Row row) { return take(self.segment.partition(row)); })
      .def("find", &Self::find)
      .def("find_many", &Self::find_many)
      .def("older", [](const Self& self, Row row) { return row_or_none(take(self.segment.older(row))); })
      .def("verify", [](const Self& self) { check(self.segment.verify()); });
}

py::bytes encoded(const DeletionVector& self, Row rows, Seq seq) {
  ByteWriter out;
  self.encode(rows, seq, out);
  return {reinterpret_cast<const char*>(out.data()), out.size()};
}

// Whether the bytes were well-formed, and how many follow them.
std::pair<bool, size_t> decode(DeletionVector& self, Row rows, const std::string& bytes) {
  ByteReader in(bytes.data(), bytes.size());
  const bool good = self.decode(rows, in);
  return {good, in.left()};
}

// `times`: those that are pinned; None: all.
std::optional<ehub::WantedGaps> wanted_gaps(const std::optional<std::vector<Seq>>& times, Seq asked_at) {
  if (!times) return std::nullopt;
  return ehub::WantedGaps{*times, asked_at};
}

py::bytes encoded_gaps(const DeletionVector& self, Seq seq, const std::optional<std::vector<Seq>>& times) {
  ByteWriter out;
  self.encode_gaps(seq, wanted_gaps(times, seq).value_or(ehub::WantedGaps{}), out);
  return {reinterpret_cast<const char*>(out.data()), out.size()};
}

std::pair<bool, size_t> decode_gaps(DeletionVector& self, Row rows, const std::string& bytes) {
  ByteReader in(bytes.data(), bytes.size());
  const bool good = self.decode_gaps(rows, in);
  return {good, in.left()};
}

// `call` with a segment of rows that were born then.
template <typename Call>
auto with_segment(const std::vector<Seq>& births, Call call) {
  const ehub::Schema schema = {.dims = 1, .metric = ehub::Metric::kL2, .key_type = ehub::KeyType::kString};
  ehub::FreshSegment segment(schema);
  const float vector = 1;
  for (const Seq born : births) segment.append(make_key(0, std::to_string(segment.row_count())), born, 0, &vector);
  return call(segment);
}

void bind_deletion_vector(const py::module_& module) {
  py::class_<DeletionVector, std::shared_ptr<DeletionVector>>(module, "DeletionVector")
      .def(py::init<>())
      .def("kill", &DeletionVector::kill)
      .def("death", &DeletionVector::death)
      .def("dead_at", &DeletionVector::dead_at)
      .def("dead_count", &DeletionVector::dead_count)
      .def("last_death", &DeletionVector::last_death)
      .def("is_gone",
           [](const DeletionVector& self, const std::vector<Seq>& births, Seq seq) {
             return with_segment(births, [&](const ehub::Segment& segment) { return self.is_gone(segment, seq); });
           })
      .def("is_layered", &DeletionVector::is_layered)
      .def("lives_at_any", &DeletionVector::lives_at_any)
      .def("copy_row", &DeletionVector::copy_row)
      .def(
          "restored",
          [](const DeletionVector& self, const std::vector<Seq>& births, Seq then, Seq seq,
             const std::optional<std::vector<Seq>>& times) {
            const auto wanted = wanted_gaps(times, seq - 1);
            return with_segment(births, [&](const ehub::Segment& segment) {
              return take(DeletionVector::restored(self, segment, then, seq, wanted ? &*wanted : nullptr));
            });
          },
          py::arg("births"), py::arg("then"), py::arg("seq"), py::arg("times") = py::none())
      .def("forked",
           [](const DeletionVector& self, const std::vector<Seq>& births, Seq then, Seq seq) {
             return with_segment(births, [&](const ehub::Segment& segment) {
               return take(DeletionVector::forked(self, segment, then, seq));
             });
           })
      .def("encode", &encoded)
      .def("decode", &decode)
      .def("encode_gaps", &encoded_gaps, py::arg("seq"), py::arg("times") = py::none())
      .def("decode_gaps", &decode_gaps);
}

}  // namespace

void bind_segment(py::module_& module) {
  bind_vector_file(module);
  bind_segment_files(module);
  bind_deletion_vector(module);
  module.def("hash_key", [](uint64_t seed, const std::string& key) { return make_key(seed, key).hash; });
  module.def("key_table_buckets", &ehub::key_table_buckets);
}
