// The kernels over codes, written once over the few operations in which the vector tiers differ.
//
// Included by the instruction-set units only, for the reasons of tile.h. A tier describes itself as a class `Simd`:
//
//   Bytes, kBytes                a register and its size; 64 is a multiple of it
//   load(p)                      no alignment needed
//   load_end(p)                  of kCodeEndBytes, the rest of the register zero
//   zero()                       of a register of int32 sums
//   multiply_u8(sums, row, query)    adds to each int32 lane its share of the products u8 * s8 of CodeKernels::dot_u8,
//                                    of row - 128 if kCentred, else of the row as it is
//   multiply_u4(sums, row, query)    the same of small unsigned values, as they are
//   multiply_s16(sums, row, query)   the same of s16 * s16
//   low_halves(row), high_halves(row)    the 4-bit values of each byte
//   total(sums)                  of all lanes, as int64
//   store_totals(sums, out)      out[r] = total(sums[r]) for kCodeTileRows registers, where they fit an int32
//
// Everything is integer and exact, so the order of additions is free: four rows go abreast to overlap their loads.

#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace ehub {
namespace {  // NOLINT(google-build-namespaces): one copy per instruction-set unit is the purpose

constexpr size_t kCodeTileRows = 4;

template <class Simd>
struct FormatU8 {
  using Query = int8_t;
  static typename Simd::Bytes add(typename Simd::Bytes sums, const uint8_t* row, const int8_t* query, size_t at) {
    return Simd::multiply_u8(sums, Simd::load(row + at), Simd::load(query + at));
  }
  static typename Simd::Bytes add_end(typename Simd::Bytes sums, const uint8_t* end, const int8_t* query) {
    return Simd::multiply_u8(sums, Simd::load_end(end), Simd::load_end(query));
  }
};

template <class Simd>
struct FormatU4 {
  using Query = int8_t;
  static typename Simd::Bytes add(typename Simd::Bytes sums, const uint8_t* row, const int8_t* query, size_t at) {
    const typename Simd::Bytes both = Simd::load(row + at);
    const int8_t* low = query + at / 64 * 128 + at % 64;
    sums = Simd::multiply_u4(sums, Simd::low_halves(both), Simd::load(low));
    return Simd::multiply_u4(sums, Simd::high_halves(both), Simd::load(low + 64));
  }
  static typename Simd::Bytes add_end(typename Simd::Bytes sums, const uint8_t* end, const int8_t* query) {
    const typename Simd::Bytes both = Simd::load_end(end);
    sums = Simd::multiply_u4(sums, Simd::low_halves(both), Simd::load_end(query));
    return Simd::multiply_u4(sums, Simd::high_halves(both), Simd::load_end(query + kCodeEndBytes));
  }
};

template <class Simd>
struct FormatS16 {
  using Query = int16_t;
  static typename Simd::Bytes add(typename Simd::Bytes sums, const uint8_t* row, const int16_t* query, size_t at) {
    return Simd::multiply_s16(sums, Simd::load(row + at), Simd::load(reinterpret_cast<const int8_t*>(query) + at));
  }
  static typename Simd::Bytes add_end(typename Simd::Bytes sums, const uint8_t*, const int8_t*) { return sums; }
};

template <class Simd, class Format, size_t kRows, class Out>
inline void code_tile(const typename Format::Query* query, const uint8_t* codes, size_t row_bytes, const CodeEnds& ends,
                      const uint32_t* rows, Out* out) {
  const uint8_t* row[kRows];
  typename Simd::Bytes sums[kRows];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    row[r] = codes + rows[r] * row_bytes;
    sums[r] = Simd::zero();
  }
  for (size_t at = 0; at < row_bytes; at += Simd::kBytes) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) sums[r] = Format::add(sums[r], row[r], query, at);
  }
  if (ends.codes != nullptr) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      sums[r] = Format::add_end(sums[r], ends.codes + size_t{rows[r]} * kCodeEndBytes, ends.query);
    }
  }
  if constexpr (kRows == kCodeTileRows && sizeof(Out) == sizeof(int32_t)) {
    Simd::store_totals(sums, out);
  } else {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) out[r] = static_cast<Out>(Simd::total(sums[r]));
  }
}

template <class Simd, class Format, class Out>
inline void code_dots(const typename Format::Query* query, const uint8_t* codes, size_t row_bytes, const CodeEnds& ends,
                      const uint32_t* rows, size_t n, Out* out) {
  size_t i = 0;
  for (; i + kCodeTileRows <= n; i += kCodeTileRows) {
    code_tile<Simd, Format, kCodeTileRows>(query, codes, row_bytes, ends, rows + i, out + i);
  }
  for (; i < n; ++i) code_tile<Simd, Format, 1>(query, codes, row_bytes, ends, rows + i, out + i);
}

template <class Simd>
void dot_u8(const int8_t* query, int32_t query_sum, const uint8_t* codes, size_t row_bytes, const CodeEnds& ends,
            const uint32_t* rows, size_t n, int32_t* out) {
  code_dots<Simd, FormatU8<Simd>>(query, codes, row_bytes, ends, rows, n, out);
  if constexpr (!Simd::kCentred) {
    for (size_t i = 0; i < n; ++i) out[i] -= 128 * query_sum;
  }
}

template <class Simd>
void dot_u4(const int8_t* query, int32_t query_sum, const uint8_t* codes, size_t row_bytes, const CodeEnds& ends,
            const uint32_t* rows, size_t n, int32_t* out) {
  code_dots<Simd, FormatU4<Simd>>(query, codes, row_bytes, ends, rows, n, out);
  for (size_t i = 0; i < n; ++i) out[i] = 2 * out[i] - 15 * query_sum;
}

template <class Simd>
void dot_s16(const int16_t* query, const uint8_t* codes, size_t row_bytes, const uint32_t* rows, size_t n,
             int64_t* out) {
  code_dots<Simd, FormatS16<Simd>>(query, codes, row_bytes, {}, rows, n, out);
}

template <class Simd>
constexpr CodeKernels make_code_kernels() {
  return {dot_u8<Simd>, dot_u4<Simd>, dot_s16<Simd>};
}

}  // namespace
}  // namespace ehub
