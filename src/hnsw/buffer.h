// Zeroed memory for the large arrays of an index: aligned to 64 bytes, on huge pages where there are any.
//
// A walk touches rows of codes and links at random; with pages of 4 KiB most of these touches miss the processor's
// table of pages too.
//
// Thread-safety: a value; moves only.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace ehub::hnsw {

class Buffer {
 public:
  Buffer() = default;
  // Aborts when memory is exhausted.
  explicit Buffer(size_t bytes);
  // None when memory is exhausted.
  static std::optional<Buffer> make(size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ehub::hnsw
