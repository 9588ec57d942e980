#include "hnsw/twins.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/hash.h"

namespace ehub::hnsw {

std::span<const uint32_t> TwinsView::of(uint32_t row) const {
  if (has_twins == nullptr || !has_bit(has_twins, row)) return {};
  const auto found = std::lower_bound(nodes.begin(), nodes.end(), row);
  if (found == nodes.end() || *found != row) return {};
  const auto i = static_cast<size_t>(found - nodes.begin());
  return rows.subspan(begins[i], begins[i + 1] - begins[i]);
}

void TwinsView::spread(const uint64_t* wanted, size_t rows_count, uint64_t* out) const {
  std::copy_n(wanted, bitmap_words(rows_count), out);
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const uint32_t twin : rows.subspan(begins[i], begins[i + 1] - begins[i])) {
      if (!has_bit(wanted, twin)) continue;
      set_bit(out, nodes[i]);
      clear_bit(out, twin);
    }
  }
}

std::vector<uint32_t> nodes_of_rows(size_t rows, const TwinsView& twins) {
  std::vector<uint32_t> node_of(rows);
  std::iota(node_of.begin(), node_of.end(), 0U);
  for (const uint32_t node : twins.nodes) {
    for (const uint32_t twin : twins.of(node)) node_of[twin] = node;
  }
  return node_of;
}

Twins::Twins(const float* rows, size_t n, size_t dims) {
  const size_t row_bytes = dims * sizeof(float);
  const auto bytes_of = [&](uint32_t row) { return reinterpret_cast<const char*>(rows) + row * row_bytes; };
  const auto equal = [&](uint32_t a, uint32_t b) { return std::memcmp(bytes_of(a), bytes_of(b), row_bytes) == 0; };
  std::vector<std::pair<uint64_t, uint32_t>> hashed(n);
  for (uint32_t row = 0; row < n; ++row) hashed[row] = {hash_key(0, bytes_of(row), row_bytes), row};
  std::sort(hashed.begin(), hashed.end());
  std::vector<std::vector<uint32_t>> groups;
  for (size_t begin = 0; begin < n;) {
    size_t end = begin + 1;
    while (end < n && hashed[end].first == hashed[begin].first) ++end;
    std::vector<uint32_t> group;
    for (size_t i = begin; i < end; ++i) {
      // A row with the hash of another, but not its bytes, is a node like any other.
      if (equal(hashed[begin].second, hashed[i].second)) group.push_back(hashed[i].second);
    }
    if (group.size() > 1) groups.push_back(std::move(group));
    begin = end;
  }
  std::sort(groups.begin(), groups.end());
  if (!groups.empty()) has_twins_.resize(bitmap_words(n));
  for (const auto& group : groups) add_group(group);
  begins_.push_back(static_cast<uint32_t>(rows_.size()));
}

void Twins::add_group(std::span<const uint32_t> group) {
  set_bit(has_twins_.data(), group.front());
  nodes_.push_back(group.front());
  begins_.push_back(static_cast<uint32_t>(rows_.size()));
  rows_.insert(rows_.end(), group.begin() + 1, group.end());
}

TwinsView Twins::view() const { return {nodes_, begins_, rows_, has_twins_.empty() ? nullptr : has_twins_.data()}; }

}  // namespace ehub::hnsw
