// Small values that every part of the store speaks in.

#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "base/limits.h"
#include "base/metric.h"
#include "hnsw/parameters.h"

namespace ehub {

// The hub's total order of batches; 0 means "never".
using Seq = uint64_t;
inline constexpr Seq kSeqMax = std::numeric_limits<Seq>::max();

// A row's number within its segment.
using Row = uint32_t;
inline constexpr Row kNoRow = std::numeric_limits<Row>::max();

using TableId = uint64_t;
using SegmentId = uint64_t;

enum class KeyType : uint32_t {
  kString = 0,   // UTF-8
  kInteger = 1,  // 8 bytes, a little-endian int64
};

// A key and its hash under the hub's seed. Does not own the bytes.
struct Key {
  std::string_view bytes;
  uint64_t hash = 0;
};

inline Key make_key(uint64_t seed, std::string_view bytes) {
  return {bytes, hash_key(seed, bytes.data(), bytes.size())};
}

// What a version is made of, fixed when it is created.
struct Schema {
  uint32_t dims = 0;
  Metric metric = Metric::kL2;
  KeyType key_type = KeyType::kString;
  hnsw::GraphParameters index = {};

  uint64_t row_bytes() const { return uint64_t{dims} * sizeof(float); }
  bool is_sound() const {
    return dims >= 1 && dims <= kDimsMax && metric <= Metric::kCosine && key_type <= KeyType::kInteger &&
           index.is_sound();
  }
};

// What the layers above keep with the hub, by name: the engine stores it and does not look into it.
using Notes = std::map<std::string, std::string>;

// How much an acknowledgement promises after a power cut. A killed process loses nothing at any level.
enum class Durability : uint8_t {
  kFull,    // everything acknowledged is on the disk
  kNormal,  // the disk is at most 100 ms behind
  kOff,     // the disk is as of the last checkpoint
};

}  // namespace ehub
