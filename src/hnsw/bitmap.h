// Sets of rows as bits: row r is bit r & 63 of word r >> 6.

#pragma once

#include <cstddef>
#include <cstdint>

namespace ehub::hnsw {

inline size_t bitmap_words(size_t rows) { return (rows + 63) / 64; }
inline bool has_bit(const uint64_t* bitmap, uint32_t row) { return (bitmap[row >> 6] >> (row & 63) & 1) != 0; }
inline void set_bit(uint64_t* bitmap, uint32_t row) { bitmap[row >> 6] |= uint64_t{1} << (row & 63); }
inline void clear_bit(uint64_t* bitmap, uint32_t row) { bitmap[row >> 6] &= ~(uint64_t{1} << (row & 63)); }

}  // namespace ehub::hnsw
