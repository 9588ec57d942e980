// The 64-bit hash of a key, seeded per hub so that nobody can prepare colliding keys.
//
// The function is part of the file format (key tables hold its upper bits): never change it without a new format
// version. It folds 128-bit products of 16-byte blocks, the construction of the wyhash and rapidhash families; quality
// and speed are those of any such hash, and nothing secret depends on it.
//
// Thread-safety: pure functions.

#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace ehub {

// The two halves of a * b, xored: every input bit reaches every output bit.
inline uint64_t fold_product(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t hash_key(uint64_t seed, const char* key, size_t size) {
  constexpr uint64_t kOdd0 = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio
  constexpr uint64_t kOdd1 = 0xD1B54A32D192ED03;
  constexpr uint64_t kOdd2 = 0x8CB92BA72F3D8DD7;
  uint64_t state = fold_product(seed ^ kOdd0, size ^ kOdd1);
  while (size > 16) {
    state = fold_product(load_le<uint64_t>(key) ^ kOdd1, load_le<uint64_t>(key + 8) ^ state);
    key += 16;
    size -= 16;
  }
  uint64_t low = 0;
  uint64_t high = 0;
  if (size >= 8) {
    low = load_le<uint64_t>(key);
    high = load_le<uint64_t>(key + size - 8);
  } else if (size >= 4) {
    low = load_le<uint32_t>(key);
    high = load_le<uint32_t>(key + size - 4);
  } else if (size > 0) {
    low = (uint64_t{static_cast<uint8_t>(key[0])} << 16) | (uint64_t{static_cast<uint8_t>(key[size / 2])} << 8) |
          static_cast<uint8_t>(key[size - 1]);
  }
  return fold_product(fold_product(low ^ kOdd2, high ^ state), state ^ kOdd0);
}

}  // namespace ehub
