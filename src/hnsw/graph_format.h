// The bytes of a graph file; FORMAT.md, section Index files, says the same in words.
//
//   header | (of a subset: its rows) | mean | router | its codes | its metas | twins (4 sections) | metas | codes |
//   links | CRCs | footer

#pragma once

#include <cstddef>
#include <cstdint>

#include "base/crc32c.h"

namespace ehub::hnsw {

inline constexpr char kGraphMagic[8] = {'E', 'H', 'U', 'B', 'H', 'N', 'S', '1'};
inline constexpr uint32_t kGraphFormat = 2;        // over all rows of the segment
inline constexpr uint32_t kSubsetGraphFormat = 3;  // over some: which, u32[rows], is right behind the header
inline constexpr size_t kGraphAlignment = 64;
// A walk touches thousands of places once: to sum as much as a segment does around each would be most of its work.
inline constexpr uint64_t kGraphBlockBytes = 4096;
inline constexpr uint32_t kLinksMax = 4096;  // of a row

struct GraphHeader {
  char magic[8];
  uint32_t format;
  uint32_t subset_kind;  // 0 over all rows
  uint64_t subset_number;
  uint8_t padding[40];
};
static_assert(sizeof(GraphHeader) == kGraphAlignment);

enum class GraphSection : uint32_t {
  kMean,         // float32[dims]
  kRouter,       // u32: rows
  kRouterCodes,  // of these rows; none without codes, as the next
  kRouterMetas,
  kTwinNodes,   // u32, ascending: rows that have twins
  kTwinBegins,  // u32, one more: where in the next section the twins of each begin
  kTwinRows,    // u32
  kHasTwins,    // a bit a row, in u64: the twin nodes; none if there are none
  kMetas,       // RowMeta of each row; none without codes, as the next
  kCodes,
  kLinks,  // u32[rows][link_stride]
};
inline constexpr size_t kGraphSections = 11;

struct GraphRange {
  uint64_t offset;
  uint64_t length;
};

struct GraphFooter {
  GraphRange sections[kGraphSections];
  GraphRange block_crcs;  // u32 per checksum block of all that is before
  uint64_t segment;
  uint64_t rotation_seed;
  uint64_t unreachable;
  uint32_t segment_crc;
  uint32_t rows;
  uint32_t dims;
  uint32_t metric;
  uint32_t M;
  uint32_t ef_construction;
  float target_recall;
  uint32_t ef;
  uint32_t rerank_min;
  uint32_t width;
  uint32_t link_stride;
  uint32_t rotated;              // 1 if rotation_seed counts
  uint32_t block_crcs_checksum;  // masked CRC-32C of that section
  uint32_t checksum;             // masked CRC-32C of the footer's bytes before this field
  char magic[8];                 // kGraphMagic
};
static_assert(sizeof(GraphFooter) == 280);
static_assert(offsetof(GraphFooter, checksum) == 268);

inline uint32_t footer_checksum(const GraphFooter& footer) {
  return crc_mask(crc32c(0, &footer, offsetof(GraphFooter, checksum)));
}

}  // namespace ehub::hnsw
