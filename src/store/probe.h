// Keys on their way through the segments of a table, some at a time, so that their cache misses overlap.
//
// Thread-safety: values.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "store/segment.h"
#include "store/types.h"

namespace ehub {

// Where a row is: an index into the segments of a table in the upper 32 bits, the row below.
using Ordinal = uint64_t;
inline Ordinal make_ordinal(size_t segment, Row row) { return (uint64_t{segment} << 32) | row; }
inline constexpr Ordinal kNoOrdinal = ~Ordinal{0};

// Keys as a caller has them, one by one or as integers side by side. Owns nothing.
class KeyList {
 public:
  KeyList() = default;
  explicit KeyList(const std::string_view* views) : views_(views) {}
  // Of `integers` if it is not null, else of `views`.
  KeyList(const int64_t* integers, const std::string_view* views) : integers_(integers), views_(views) {}

  bool empty() const { return integers_ == nullptr && views_ == nullptr; }
  std::string_view operator[](size_t i) const {
    if (integers_ == nullptr) return views_[i];
    return {reinterpret_cast<const char*>(integers_ + i), sizeof(int64_t)};
  }
  // The same without the first `n`.
  KeyList from(size_t n) const { return integers_ == nullptr ? KeyList(views_ + n) : KeyList(integers_ + n, nullptr); }

 private:
  const int64_t* integers_ = nullptr;
  const std::string_view* views_ = nullptr;
};

class Probe {
 public:
  // `count` keys that no segment was asked for yet: key_at(i) is the i-th. Requires: count <= kProbeKeys.
  template <typename KeyAt>
  Probe(size_t count, const KeyAt& key_at, Ordinal* out) : count_(count), out_(out) {
    for (size_t i = 0; i < count; ++i) {
      keys_[i] = key_at(i);
      places_[i] = static_cast<uint16_t>(i);
    }
    std::fill_n(out, count, kNoOrdinal);
  }

  bool done() const { return count_ == 0; }

  // Asks segment number `s` for the keys that have no row yet. `row_of` gives, as a Result, the row that counts, or
  // kNoRow, of the youngest one with its key; `all_count`, asked when those were found, says that each counts itself.
  template <typename AllCount, typename RowOf>
  Status ask(const Segment& segment, size_t s, const AllCount& all_count, const RowOf& row_of) {
    Row rows[kProbeKeys];
    EHUB_RETURN_IF_ERROR(segment.find_many(keys_, count_, rows));
    const bool each_counts = all_count();
    size_t left = 0;
    for (size_t i = 0; i < count_; ++i) {
      if (!each_counts && rows[i] != kNoRow) {
        const Result<Row> row = row_of(rows[i]);
        if (!row.ok()) return row.status();
        rows[i] = row.value();
      }
      // Without a branch: whether a segment has a key could not be foretold.
      const bool is_found = rows[i] != kNoRow;
      out_[places_[i]] = is_found ? make_ordinal(s, rows[i]) : kNoOrdinal;
      keys_[left] = keys_[i];
      places_[left] = places_[i];
      left += is_found ? 0 : 1;
    }
    count_ = left;
    return {};
  }

 private:
  size_t count_;
  Ordinal* out_;
  union {
    Key keys_[kProbeKeys];  // the first `count_`; the others are nothing yet, so that few keys cost little
  };
  uint16_t places_[kProbeKeys];
};

}  // namespace ehub
