// Little-endian integers and length-prefixed bytes, to and from memory.
//
// ByteWriter appends to a buffer; ByteReader takes from one and never reads beyond its end: after the first read that
// would, it is failed, every later read gives zero or empty, and the caller asks ok() once at the end. Varints are
// LEB128, at most 10 bytes.
//
// Thread-safety: values.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace ehub {

static_assert(std::endian::native == std::endian::little, "files are little-endian and mapped as they are");

template <typename T>
T load_le(const void* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <typename T>
void store_le(void* to, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof(T));
}

// `value` rounded up to a multiple of `alignment`, a power of two.
constexpr uint64_t align_up(uint64_t value, uint64_t alignment) { return (value + alignment - 1) & ~(alignment - 1); }

class ByteWriter {
 public:
  template <typename T>
  void fixed(T value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof(T));
    store_le(bytes_.data() + at, value);
  }
  void varint(uint64_t value) {
    while (value >= 0x80) {
      bytes_.push_back(static_cast<uint8_t>(value | 0x80));
      value >>= 7;
    }
    bytes_.push_back(static_cast<uint8_t>(value));
  }
  void raw(const void* data, size_t size) {
    const auto* from = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), from, from + size);
  }
  // Length as varint, then the bytes.
  void string(std::string_view text) {
    varint(text.size());
    raw(text.data(), text.size());
  }
  void pad_to(size_t alignment) { bytes_.resize(align_up(bytes_.size(), alignment)); }

  size_t size() const { return bytes_.size(); }
  // Bytes of memory that it holds, clear() or not.
  size_t capacity() const { return bytes_.capacity(); }
  const uint8_t* data() const { return bytes_.data(); }
  uint8_t* data() { return bytes_.data(); }
  void clear() { bytes_.clear(); }

 private:
  std::vector<uint8_t> bytes_;
};

class ByteReader {
 public:
  ByteReader(const void* data, size_t size) : at_(static_cast<const uint8_t*>(data)), left_(size) {}

  bool ok() const { return ok_; }
  size_t left() const { return left_; }

  template <typename T>
  T fixed() {
    const uint8_t* from = raw(sizeof(T));
    return from == nullptr ? T{} : load_le<T>(from);
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const uint8_t* byte = raw(1);
      if (byte == nullptr) return 0;
      value |= static_cast<uint64_t>(*byte & 0x7f) << shift;
      if ((*byte & 0x80) == 0) return value;
    }
    fail();
    return 0;
  }
  std::string_view string() {
    const uint64_t size = varint();
    const uint8_t* from = size <= left_ ? raw(size) : fail();
    return from == nullptr ? std::string_view{} : std::string_view(reinterpret_cast<const char*>(from), size);
  }
  // The next `size` bytes, or null.
  const uint8_t* raw(size_t size) {
    if (!ok_ || size > left_) return fail();
    const uint8_t* from = at_;
    at_ += size;
    left_ -= size;
    return from;
  }

 private:
  const uint8_t* fail() {
    ok_ = false;
    left_ = 0;
    return nullptr;
  }

  const uint8_t* at_;
  size_t left_;
  bool ok_ = true;
};

}  // namespace ehub
