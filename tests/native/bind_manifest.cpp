// The manifest as a dict, and the calls that keep it, for tests/native/test_manifest.py. Names are bytes, because a
// hostile manifest need not hold UTF-8.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <string_view>
#include <vector>

#include "bind_status.h"
#include "io/file.h"
#include "store/manifest.h"

namespace py = pybind11;

namespace {

using ehub::FileSystem;
using ehub::KeyType;
using ehub::Manifest;
using ehub::ManifestSegment;
using ehub::ManifestTable;
using ehub::Metric;
using ehub::testing::check;
using ehub::testing::take;
using namespace py::literals;

std::vector<uint8_t> as_vector(const py::bytes& bytes) {
  const std::string_view view(bytes);
  return {view.begin(), view.end()};
}

py::bytes as_bytes(const std::vector<uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

ManifestSegment segment_from(const py::dict& from) {
  ManifestSegment segment;
  segment.info.id = from["id"].cast<ehub::SegmentId>();
  segment.info.rows = from["rows"].cast<ehub::Row>();
  segment.info.seg_bytes = from["seg_bytes"].cast<uint64_t>();
  segment.info.footer_crc = from["footer_crc"].cast<uint32_t>();
  segment.info.seq_min = from["seq_min"].cast<ehub::Seq>();
  segment.info.seq_max = from["seq_max"].cast<ehub::Seq>();
  segment.deaths = as_vector(from["deaths"].cast<py::bytes>());
  segment.gaps = as_vector(from["gaps"].cast<py::bytes>());
  return segment;
}

ManifestTable table_from(const py::dict& from) {
  ManifestTable table;
  table.id = from["id"].cast<ehub::TableId>();
  table.space = from["space"].cast<std::string>();
  table.version = from["version"].cast<std::string>();
  table.schema.dims = from["dims"].cast<uint32_t>();
  table.schema.metric = static_cast<Metric>(from["metric"].cast<uint32_t>());
  table.schema.key_type = static_cast<KeyType>(from["key_type"].cast<uint32_t>());
  table.schema.index.M = from["M"].cast<uint32_t>();
  table.schema.index.ef_construction = from["ef_construction"].cast<uint32_t>();
  table.schema.index.ef = from["ef"].cast<uint32_t>();
  table.schema.index.target_recall = from["target_recall"].cast<float>();
  table.created = from["created"].cast<ehub::Seq>();
  table.partitions = from["partitions"].cast<std::vector<std::string>>();
  table.frozen = from["frozen"].cast<bool>();
  table.tags = from["tags"].cast<std::map<std::string, ehub::Seq>>();
  for (const auto& segment : from["segments"]) table.segments.push_back(segment_from(segment.cast<py::dict>()));
  return table;
}

Manifest manifest_from(const py::dict& from) {
  Manifest manifest;
  manifest.number = from["number"].cast<uint64_t>();
  manifest.hash_seed = from["hash_seed"].cast<uint64_t>();
  manifest.seq = from["seq"].cast<ehub::Seq>();
  manifest.first_log = from["first_log"].cast<ehub::LogNumber>();
  manifest.carried_bytes = from["carried_bytes"].cast<uint64_t>();
  manifest.durable_seq = from["durable_seq"].cast<ehub::Seq>();
  manifest.clean = from["clean"].cast<bool>();
  manifest.next_table = from["next_table"].cast<ehub::TableId>();
  manifest.next_segment = from["next_segment"].cast<ehub::SegmentId>();
  for (const auto& table : from["tables"]) manifest.tables.push_back(table_from(table.cast<py::dict>()));
  manifest.notes = from["notes"].cast<ehub::Notes>();
  return manifest;
}

py::dict as_dict(const ManifestSegment& segment) {
  return py::dict("id"_a = segment.info.id, "rows"_a = segment.info.rows, "seg_bytes"_a = segment.info.seg_bytes,
                  "footer_crc"_a = segment.info.footer_crc, "seq_min"_a = segment.info.seq_min,
                  "seq_max"_a = segment.info.seq_max, "deaths"_a = as_bytes(segment.deaths),
                  "gaps"_a = as_bytes(segment.gaps));
}

py::dict as_dict(const ManifestTable& table) {
  py::list partitions;
  for (const std::string& partition : table.partitions) partitions.append(py::bytes(partition));
  py::dict tags;
  for (const auto& [name, seq] : table.tags) tags[py::bytes(name)] = seq;
  py::list segments;
  for (const ManifestSegment& segment : table.segments) segments.append(as_dict(segment));
  return py::dict("id"_a = table.id, "space"_a = py::bytes(table.space), "version"_a = py::bytes(table.version),
                  "dims"_a = table.schema.dims, "metric"_a = static_cast<uint32_t>(table.schema.metric),
                  "key_type"_a = static_cast<uint32_t>(table.schema.key_type), "M"_a = table.schema.index.M,
                  "ef_construction"_a = table.schema.index.ef_construction, "ef"_a = table.schema.index.ef,
                  "target_recall"_a = table.schema.index.target_recall, "created"_a = table.created,
                  "partitions"_a = partitions, "segments"_a = segments, "frozen"_a = table.frozen, "tags"_a = tags);
}

py::dict as_dict(const Manifest& manifest) {
  py::dict notes;
  for (const auto& [name, text] : manifest.notes) notes[py::bytes(name)] = py::bytes(text);
  py::list tables;
  for (const ManifestTable& table : manifest.tables) tables.append(as_dict(table));
  return py::dict("number"_a = manifest.number, "hash_seed"_a = manifest.hash_seed, "seq"_a = manifest.seq,
                  "first_log"_a = manifest.first_log, "carried_bytes"_a = manifest.carried_bytes,
                  "durable_seq"_a = manifest.durable_seq, "clean"_a = manifest.clean,
                  "next_table"_a = manifest.next_table, "next_segment"_a = manifest.next_segment, "tables"_a = tables,
                  "notes"_a = notes);
}

py::dict decode(const std::string& path, const py::bytes& bytes) {
  return as_dict(take(ehub::decode_manifest(path, as_vector(bytes))));
}

}  // namespace

void bind_manifest(py::module_& module) {
  module.def("encode_manifest",
             [](const py::dict& from) { return as_bytes(ehub::encode_manifest(manifest_from(from))); });
  module.def("decode_manifest", &decode);
  module.def("check_manifest", [](const std::string& path, const py::bytes& bytes) {
    check(ehub::check_manifest(path, as_vector(bytes)));
  });
  module.def("manifest_path", &ehub::manifest_path);
  module.def("install_manifest", [](FileSystem& fs, const std::string& root, const py::dict& from) {
    check(ehub::install_manifest(fs, root, manifest_from(from)));
  });
  module.def("read_current",
             [](FileSystem& fs, const std::string& root) { return take(ehub::read_current(fs, root)); });
  module.def("read_manifest", [](FileSystem& fs, const std::string& root, uint64_t number) {
    return as_dict(take(ehub::read_manifest(fs, root, number)));
  });
  module.def("list_manifests",
             [](FileSystem& fs, const std::string& root) { return take(ehub::list_manifests(fs, root)); });
}
