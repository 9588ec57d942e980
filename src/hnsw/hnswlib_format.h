// The bytes of a file that hnswlib saves (0.3.4 to 0.8.0 all alike): its memory as it is, little-endian, under no
// magic, no version and no checksum.
//
//   header | per record: links of level 0, vector, label | per record: u32 length, links of its upper levels
//
// A list of links is u32[1 + M]: how many there are in the lower 16 bits of the first, then as many record numbers, the
// rest is anything. On level 0 there is room for 2 M, and the third byte of the list says whether the record is marked
// as deleted. Records are not aligned to more than 4 bytes.

#pragma once

#include <cstddef>
#include <cstdint>

namespace ehub::hnsw {

struct HnswlibHeader {
  uint64_t level0_offset;  // of a list within its record: 0
  uint64_t capacity;       // records that hnswlib made room for
  uint64_t records;
  uint64_t record_bytes;
  uint64_t label_offset;  // within a record, as the next
  uint64_t vector_offset;
  int32_t level_max;  // -1: no records
  uint32_t entry;     // the record that a search begins at; ~0: no records
  uint64_t M_upper;   // links of a list on the levels from 1 on
  uint64_t M_level0;
  uint64_t M;
  double level_factor;  // 1 / ln(M)
  uint64_t ef_construction;
};
static_assert(sizeof(HnswlibHeader) == 96);
static_assert(offsetof(HnswlibHeader, M_upper) == 56);

inline constexpr uint64_t kHnswlibMMax = 10'000;
inline constexpr uint32_t kHnswlibCountMask = 0xffff;
inline constexpr uint32_t kHnswlibDeleted = 1U << 16;

inline uint64_t hnswlib_list_bytes(uint64_t links) { return sizeof(uint32_t) * (1 + links); }

}  // namespace ehub::hnsw
