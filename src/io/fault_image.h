// The bytes of one simulated file: cheap to grow, sparse, and mappable without moving under a mapping.
//
// Bytes at and beyond size_bytes() are zero, so growing shows zeros as a real file does. When an image outgrows the
// memory that a live Mapping points into, it moves to new memory and from then on also writes every change to the old:
// both mappings show the same file, each as far as it reaches.
//
// Thread-safety: calls are ordered by the caller; mapped bytes may be read meanwhile as those of a real file may.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "io/file.h"

namespace ehub {

// A file cannot grow beyond, nor be mapped further than this. Memory is taken only as bytes are touched.
inline constexpr uint64_t kImageBytesMax = uint64_t{1} << 36;

class FileImage {
 public:
  FileImage() = default;
  // A copy has the same bytes, in memory of its own from the first change or mapping of either on; mappings stay with
  // the original.
  FileImage(const FileImage& other);
  FileImage& operator=(const FileImage& other);
  FileImage(FileImage&& other) noexcept;
  FileImage& operator=(FileImage&& other) noexcept;
  ~FileImage();

  uint64_t size_bytes() const { return size_bytes_; }
  // Requires: offset + size <= size_bytes().
  void read(uint64_t offset, uint8_t* to, size_t size) const;
  // Requires: offset + size <= kImageBytesMax.
  void write(uint64_t offset, const uint8_t* data, size_t size);
  // Requires: size <= kImageBytesMax.
  void resize(uint64_t size);
  // Requires: 0 < size <= kImageBytesMax.
  Mapping map(size_t size);
  // A number for `seed`, the size and the bytes, whether zeros among them were written or not.
  uint64_t fingerprint(uint64_t seed) const;

 private:
  class Memory;

  // Makes the memory this image's own, with room for so many bytes.
  void own(uint64_t capacity_bytes);
  void zero_from(uint64_t offset);

  std::shared_ptr<Memory> memory_;  // null while nothing was ever written or mapped; shared with copies, or mapped
  std::vector<std::weak_ptr<Memory>> outgrown_;
  uint64_t size_bytes_ = 0;
  uint64_t touched_bytes_ = 0;  // <= size_bytes_; beyond, all is zero
};

}  // namespace ehub
