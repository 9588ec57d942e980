// What a graph is built and searched with, in the words of HNSW.

#pragma once

#include <cstdint>

namespace ehub::hnsw {

struct GraphParameters {
  uint32_t M = 24;                 // half of the links that a row may have
  uint32_t ef_construction = 100;  // candidates kept while a row's links are sought
  uint32_t ef = 0;                 // candidates kept in a search for 10; 0: chosen for target_recall
  float target_recall = 0.95F;     // at k = 10

  bool operator==(const GraphParameters&) const = default;
  bool is_sound() const {
    return M >= 2 && M <= 512 && ef_construction >= 2 && ef_construction <= 10'000 && ef <= 1'000'000 &&
           target_recall > 0 && target_recall < 1;
  }
};

}  // namespace ehub::hnsw
