// A file that hnswlib saved, opened for reading; it is believed in nothing. hnswlib_format.h has its bytes.
//
// Opening it reads all but the vectors: sizes, counts, links and levels must agree with one another and with the length
// of the file, to the byte. What cannot be checked are vectors, labels and deletion marks, under no checksum.
//
// Thread-safety: constant.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "hnsw/given_links.h"
#include "hnsw/hnswlib_format.h"
#include "io/file.h"

namespace ehub::hnsw {

class HnswlibFile {
 public:
  // kNotFound, kIo; kCorruption names the byte; kDimension if it is sound, but of vectors of another length.
  static Result<HnswlibFile> open(FileSystem& fs, const std::string& path, uint32_t dims);

  uint32_t records() const { return static_cast<uint32_t>(header_.records); }
  uint32_t M() const { return static_cast<uint32_t>(header_.M); }
  uint64_t ef_construction() const { return header_.ef_construction; }

  bool deleted(uint32_t record) const { return (load_le<uint32_t>(at(record)) & kHnswlibDeleted) != 0; }
  uint64_t label(uint32_t record) const { return load_le<uint64_t>(at(record) + header_.label_offset); }
  // float32[dims].
  const uint8_t* vector(uint32_t record) const { return at(record) + header_.vector_offset; }
  // On level 0.
  std::span<const uint32_t> links(uint32_t record) const;

  // The records that are rows, ascending: of those with one label the last, unless it is marked as deleted.
  std::vector<uint32_t> live_records() const;
  // The links among these records, by their places in `kept`. A link to a record that is left out becomes links to
  // those that one came to from there.
  LinkLists links_among(const std::vector<uint32_t>& kept) const;

 private:
  HnswlibFile(std::string path, Mapping mapping);

  const uint8_t* at(uint64_t record) const {
    return mapping_.data + sizeof(HnswlibHeader) + record * header_.record_bytes;
  }
  Status damaged(uint64_t offset, const std::string& what) const { return corruption(path_, offset, what); }
  Status check_header(uint32_t dims) const;
  Status check_level0() const;
  Status check_upper_levels() const;
  Result<std::vector<uint32_t>> read_levels() const;
  Status check_list(const uint8_t* list, uint64_t links_max) const;

  std::string path_;
  Mapping mapping_;
  HnswlibHeader header_;
};

}  // namespace ehub::hnsw
