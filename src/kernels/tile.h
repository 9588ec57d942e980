// The kernels of a vector tier, written once over the few operations in which the tiers differ.
//
// Included by the instruction-set units only, each of which compiles its own copy: everything here is in an anonymous
// namespace, for the reason kernels.h gives. A tier describes itself as a class `Simd`:
//
//   Vector                       a register of kLanes floats
//   kLanes, kTileQueries         kTileQueries x kTileRows sums, and their operands, must fit the registers
//   zero(), load(p)              no alignment needed
//   load_tail(p, count)          0 < count < kLanes floats, then zeros; reads nothing beyond them
//   subtract(a, b)               a - b
//   multiply_add(a, b, c)        a * b + c
//   sum(v)                       of all lanes
//   store_sums(v, out)           out[i] = sum(v[i]), i < kTileRows, in the order of summation of sum()
//   Doubles                      a register of kDoubles float64, with load(p), store(v, p), multiply_add(a, b, c),
//                                which exists of single numbers, too, same(value) in all lanes, and widen(floats)
//   magnitude_max(bits, v)       per lane the larger of `bits` (an Integers) and the bit pattern of |v|
//   any_above(bits, limit)       true if a lane of `bits` exceeds `limit`
//
// The distance of a pair is one vector of partial sums over the dimensions, in order, then one horizontal sum. All the
// kernels keep to that, whatever the shape of the tile, and so agree to the bit. The latency of the one chain of
// additions is hidden by the other pairs of the tile.

#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace ehub {
namespace {  // NOLINT(google-build-namespaces): one copy per instruction-set unit is the purpose

constexpr size_t kTileRows = 4;

// Rows of a block of distances_many: about 128 KiB of them, a part of any second-level cache.
inline size_t block_rows(size_t dims) {
  constexpr size_t kBlockFloats = 32 * 1024;
  const size_t tiles = kBlockFloats / (dims * kTileRows);
  return (tiles < 4 ? 4 : tiles) * kTileRows;
}

// The share of one vector of dimensions in a squared distance, and in a dot product.
template <class Simd>
struct SquaredDifference {
  using Vector = typename Simd::Vector;
  static Vector add(Vector query, Vector row, Vector sum) {
    const Vector difference = Simd::subtract(query, row);
    return Simd::multiply_add(difference, difference, sum);
  }
};

template <class Simd>
struct Product {
  using Vector = typename Simd::Vector;
  static Vector add(Vector query, Vector row, Vector sum) { return Simd::multiply_add(query, row, sum); }
};

template <class Simd, bool kTail>
inline typename Simd::Vector load(const float* values, size_t count) {
  if constexpr (kTail) return Simd::load_tail(values, count);
  return Simd::load(values);
}

template <class Simd, size_t kRows>
inline void store_row_sums(const typename Simd::Vector (&sums)[kRows], float* out) {
  if constexpr (kRows == kTileRows) {
    Simd::store_sums(sums, out);
  } else {
    for (size_t r = 0; r < kRows; ++r) out[r] = Simd::sum(sums[r]);
  }
}

// Adds the terms of the dimensions at `queries` and `rows`, kLanes of them or, in the tail, `count`.
template <class Simd, class Term, bool kTail, size_t kQueries, size_t kRows>
inline void add_terms(const float* queries, const float* rows, size_t dims, size_t count,
                      typename Simd::Vector (&sums)[kQueries][kRows]) {
  typename Simd::Vector query[kQueries];
#pragma GCC unroll 8
  for (size_t q = 0; q < kQueries; ++q) query[q] = load<Simd, kTail>(queries + q * dims, count);
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    const typename Simd::Vector row = load<Simd, kTail>(rows + r * dims, count);
#pragma GCC unroll 8
    for (size_t q = 0; q < kQueries; ++q) sums[q][r] = Term::add(query[q], row, sums[q][r]);
  }
}

// kQueries x kRows distances, all sums held in registers.
template <class Simd, class Term, size_t kQueries, size_t kRows>
inline void tile(const float* queries, const float* rows, size_t dims, float* out, size_t out_stride) {
  typename Simd::Vector sums[kQueries][kRows];
#pragma GCC unroll 8
  for (size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) sums[q][r] = Simd::zero();
  }
  size_t d = 0;
  for (; d + Simd::kLanes <= dims; d += Simd::kLanes) {
    add_terms<Simd, Term, false>(queries + d, rows + d, dims, Simd::kLanes, sums);
  }
  if (d < dims) add_terms<Simd, Term, true>(queries + d, rows + d, dims, dims - d, sums);
#pragma GCC unroll 8
  for (size_t q = 0; q < kQueries; ++q) store_row_sums<Simd>(sums[q], out + q * out_stride);
}

template <class Simd, class Term, size_t kQueries>
void tile_rows(const float* queries, const float* rows, size_t n, size_t dims, float* out, size_t out_stride) {
  size_t i = 0;
  for (; i + kTileRows <= n; i += kTileRows) {
    tile<Simd, Term, kQueries, kTileRows>(queries, rows + i * dims, dims, out + i, out_stride);
  }
  for (; i < n; ++i) tile<Simd, Term, kQueries, 1>(queries, rows + i * dims, dims, out + i, out_stride);
}

// One row after the other: memory is read in one stream, which hardware prefetch follows best (four rows abreast read
// memory at half the speed), and the processor overlaps the chains of neighbouring rows by itself.
template <class Simd, class Term>
void distances_one(const float* query, const float* rows, size_t n, size_t dims, float* out) {
  for (size_t i = 0; i < n; ++i) tile<Simd, Term, 1, 1>(query, rows + i * dims, dims, out + i, n);
}

// A block of rows stays in the second-level cache while all queries, one tile of them at a time in the first-level
// cache, pass over it. The odd queries come first because their pass fetches the rows from memory fastest.
template <class Simd, class Term>
void distances_many(const float* queries, size_t m, const float* rows, size_t n, size_t dims, float* out,
                    size_t out_stride) {
  constexpr size_t kQueries = Simd::kTileQueries;
  const size_t block = block_rows(dims);
  for (size_t i = 0; i < n; i += block) {
    const size_t count = n - i < block ? n - i : block;
    const float* block_start = rows + i * dims;
    size_t q = 0;
    for (; q < m % kQueries; ++q) {
      distances_one<Simd, Term>(queries + q * dims, block_start, count, dims, out + q * out_stride + i);
    }
    for (; q < m; q += kQueries) {
      tile_rows<Simd, Term, kQueries>(queries + q * dims, block_start, count, dims, out + q * out_stride + i,
                                      out_stride);
    }
  }
}

// As distances_one, of rows that lie apart: nothing but their own order helps the processor to overlap them, so four go
// abreast.
template <class Simd, class Term>
void distances_apart(const float* query, const float* const* rows, size_t n, size_t dims, float* out) {
  size_t i = 0;
  for (; i + kTileRows <= n; i += kTileRows) {
    typename Simd::Vector sums[kTileRows];
#pragma GCC unroll 8
    for (size_t r = 0; r < kTileRows; ++r) sums[r] = Simd::zero();
    size_t d = 0;
    for (; d + Simd::kLanes <= dims; d += Simd::kLanes) {
      const typename Simd::Vector part = Simd::load(query + d);
#pragma GCC unroll 8
      for (size_t r = 0; r < kTileRows; ++r) sums[r] = Term::add(part, Simd::load(rows[i + r] + d), sums[r]);
    }
    if (d < dims) {
      const typename Simd::Vector part = Simd::load_tail(query + d, dims - d);
#pragma GCC unroll 8
      for (size_t r = 0; r < kTileRows; ++r) {
        sums[r] = Term::add(part, Simd::load_tail(rows[i + r] + d, dims - d), sums[r]);
      }
    }
    Simd::store_sums(sums, out + i);
  }
  for (; i < n; ++i) tile<Simd, Term, 1, 1>(query, rows[i], dims, out + i, 1);
}

template <class Simd, bool kTail>
inline void add_product_and_square(const float* query, const float* row, size_t count, typename Simd::Vector& product,
                                   typename Simd::Vector& square) {
  const typename Simd::Vector values = load<Simd, kTail>(row, count);
  product = Simd::multiply_add(load<Simd, kTail>(query, count), values, product);
  square = Simd::multiply_add(values, values, square);
}

template <class Simd>
void dot_norm_one(const float* query, const float* rows, size_t n, size_t dims, float* out, float* norms_squared) {
  for (size_t i = 0; i < n; ++i) {
    const float* row = rows + i * dims;
    typename Simd::Vector product = Simd::zero();
    typename Simd::Vector square = Simd::zero();
    size_t d = 0;
    for (; d + Simd::kLanes <= dims; d += Simd::kLanes) {
      add_product_and_square<Simd, false>(query + d, row + d, Simd::kLanes, product, square);
    }
    if (d < dims) add_product_and_square<Simd, true>(query + d, row + d, dims - d, product, square);
    out[i] = Simd::sum(product);
    norms_squared[i] = Simd::sum(square);
  }
}

template <class Simd>
void dot_norm_apart(const float* query, const float* const* rows, size_t n, size_t dims, float* out,
                    float* norms_squared) {
  for (size_t i = 0; i < n; ++i) dot_norm_one<Simd>(query, rows[i], 1, dims, out + i, norms_squared + i);
}

// The sums of so many registers of dimensions from `d` on; while a row is added, the same part of the one ahead is
// asked for.
template <class Simd, size_t kRegisters>
inline void accumulate_part(const float* const* rows, const double* weights, size_t n, size_t d,
                            const float* const* ahead, double* sum) {
  constexpr size_t kCacheLine = 64 / sizeof(float);
  constexpr int kIntoSecondLevelCache = 2;
  typename Simd::Doubles sums[kRegisters];
#pragma GCC unroll 8
  for (size_t j = 0; j < kRegisters; ++j) sums[j] = Simd::load(sum + d + j * Simd::kDoubles);
  for (size_t i = 0; i < n; ++i) {
    const typename Simd::Doubles weight = Simd::same(weights[i]);
    if (ahead != nullptr && ahead[i] != nullptr) {
#pragma GCC unroll 8
      for (size_t at = 0; at < kRegisters * Simd::kDoubles; at += kCacheLine) {
        __builtin_prefetch(ahead[i] + d + at, 0, kIntoSecondLevelCache);
      }
    }
#pragma GCC unroll 8
    for (size_t j = 0; j < kRegisters; ++j) {
      sums[j] = Simd::multiply_add(weight, Simd::widen(rows[i] + d + j * Simd::kDoubles), sums[j]);
    }
  }
#pragma GCC unroll 8
  for (size_t j = 0; j < kRegisters; ++j) Simd::store(sums[j], sum + d + j * Simd::kDoubles);
}

// The sums of some dimensions stay in registers while all rows pass.
template <class Simd>
void accumulate(const float* const* rows, const double* weights, size_t n, size_t dims, const float* const* ahead,
                double* sum) {
  constexpr size_t kRegisters = 8;
  size_t d = 0;
  for (; d + kRegisters * Simd::kDoubles <= dims; d += kRegisters * Simd::kDoubles) {
    accumulate_part<Simd, kRegisters>(rows, weights, n, d, ahead, sum);
  }
  for (; d + Simd::kDoubles <= dims; d += Simd::kDoubles) {
    accumulate_part<Simd, 1>(rows, weights, n, d, ahead, sum);
  }
  for (; d < dims; ++d) {
    for (size_t i = 0; i < n; ++i) sum[d] = Simd::multiply_add(weights[i], static_cast<double>(rows[i][d]), sum[d]);
  }
}

template <class Simd>
void scale(const double* sum, size_t dims, double factor, float* out) {
  const typename Simd::Doubles factors = Simd::same(factor);
  size_t d = 0;
  for (; d + Simd::kDoubles <= dims; d += Simd::kDoubles) {
    Simd::store_narrow(Simd::multiply(Simd::load(sum + d), factors), out + d);
  }
  for (; d < dims; ++d) out[d] = static_cast<float>(sum[d] * factor);
}

template <class Simd>
bool all_finite(const float* values, size_t n) {
  constexpr int32_t kLargestFiniteBits = 0x7f7fffff;
  constexpr size_t kStep = 4 * Simd::kLanes;
  typename Simd::Integers bits[4] = {};
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (size_t j = 0; j < 4; ++j) bits[j] = Simd::magnitude_max(bits[j], Simd::load(values + i + j * Simd::kLanes));
  }
  for (; i + Simd::kLanes <= n; i += Simd::kLanes) bits[0] = Simd::magnitude_max(bits[0], Simd::load(values + i));
  if (i < n) bits[1] = Simd::magnitude_max(bits[1], Simd::load_tail(values + i, n - i));
  bool above = false;
  for (const auto& lanes : bits) above |= Simd::any_above(lanes, kLargestFiniteBits);
  return !above;
}

template <class Simd>
constexpr KernelTable make_table(const char* name, const CodeKernels& codes) {
  return {name,
          distances_one<Simd, SquaredDifference<Simd>>,
          distances_one<Simd, Product<Simd>>,
          dot_norm_one<Simd>,
          distances_many<Simd, SquaredDifference<Simd>>,
          distances_many<Simd, Product<Simd>>,
          distances_apart<Simd, SquaredDifference<Simd>>,
          distances_apart<Simd, Product<Simd>>,
          dot_norm_apart<Simd>,
          accumulate<Simd>,
          scale<Simd>,
          all_finite<Simd>,
          codes};
}

}  // namespace
}  // namespace ehub
