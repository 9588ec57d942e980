// A program for AArch64: NEON computes what the scalar kernels compute, and repeats itself to the bit.
//
// test_simd_build.py runs it under qemu on other machines, so it needs neither Python nor a test framework. It prints
// what differs and fails; or it prints "ok".

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/scan.h"
#include "kernels/tables.h"

namespace {

using ehub::CodeEnds;
using ehub::kCodeEndBytes;
using ehub::kNeonKernels;
using ehub::kScalarKernels;
using ehub::Metric;
using ehub::Neighbor;

constexpr size_t kQueries = 9;
constexpr size_t kRows = 11;

int failures = 0;

void check(bool right, const char* what, size_t dims) {
  if (right) return;
  std::printf("%s is wrong for %zu dimensions\n", what, dims);
  ++failures;
}

std::vector<float> random_floats(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

bool close(const std::vector<float>& a, const std::vector<float>& b, size_t dims) {
  const float tolerance = 1e-5F * static_cast<float>(dims + 8);  // where a lost term would cost about 1
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::fabs(a[i] - b[i]) <= tolerance)) return false;
  }
  return true;
}

bool same_bits(const float* a, const float* b, size_t count) { return std::memcmp(a, b, count * sizeof(float)) == 0; }

void check_distances(size_t dims) {
  const std::vector<float> queries = random_floats(kQueries * dims, 1);
  const std::vector<float> rows = random_floats(kRows * dims, 2);
  std::vector<float> neon(kQueries * kRows);
  std::vector<float> scalar(kQueries * kRows);
  std::vector<float> one(kRows);
  std::vector<float> norms(kRows);

  kNeonKernels.l2_many(queries.data(), kQueries, rows.data(), kRows, dims, neon.data(), kRows);
  kScalarKernels.l2_many(queries.data(), kQueries, rows.data(), kRows, dims, scalar.data(), kRows);
  check(close(neon, scalar, dims), "l2_many", dims);
  for (size_t q = 0; q < kQueries; ++q) {
    kNeonKernels.l2_one(queries.data() + q * dims, rows.data(), kRows, dims, one.data());
    check(same_bits(one.data(), neon.data() + q * kRows, kRows), "l2_one", dims);
  }

  kNeonKernels.dot_many(queries.data(), kQueries, rows.data(), kRows, dims, neon.data(), kRows);
  kScalarKernels.dot_many(queries.data(), kQueries, rows.data(), kRows, dims, scalar.data(), kRows);
  check(close(neon, scalar, dims), "dot_many", dims);
  kNeonKernels.dot_one(queries.data(), rows.data(), kRows, dims, one.data());
  check(same_bits(one.data(), neon.data(), kRows), "dot_one", dims);
  kNeonKernels.dot_norm_one(queries.data(), rows.data(), kRows, dims, one.data(), norms.data());
  check(same_bits(one.data(), neon.data(), kRows), "dot_norm_one", dims);
  for (size_t i = 0; i < kRows; ++i) {
    kNeonKernels.dot_one(rows.data() + i * dims, rows.data() + i * dims, 1, dims, one.data());
    check(same_bits(one.data(), norms.data() + i, 1), "dot_norm_one's norm", dims);
  }
}

void check_rows_apart(size_t dims) {
  const std::vector<float> query = random_floats(dims, 6);
  const std::vector<float> rows = random_floats(kRows * dims, 7);
  std::vector<const float*> apart;
  for (size_t i = 0; i < kRows; ++i) apart.push_back(rows.data() + (kRows - 1 - i) * dims);
  std::vector<float> expected(kRows);
  std::vector<float> found(kRows);
  std::vector<float> norms(kRows);
  const auto check_reversed = [&](const char* what) {
    std::reverse(expected.begin(), expected.end());
    check(same_bits(expected.data(), found.data(), kRows), what, dims);
  };
  kNeonKernels.l2_one(query.data(), rows.data(), kRows, dims, expected.data());
  kNeonKernels.l2_apart(query.data(), apart.data(), kRows, dims, found.data());
  check_reversed("l2_apart");
  kNeonKernels.dot_one(query.data(), rows.data(), kRows, dims, expected.data());
  kNeonKernels.dot_apart(query.data(), apart.data(), kRows, dims, found.data());
  check_reversed("dot_apart");
  kNeonKernels.dot_norm_one(query.data(), rows.data(), kRows, dims, found.data(), expected.data());
  kNeonKernels.dot_norm_apart(query.data(), apart.data(), kRows, dims, norms.data(), found.data());
  check_reversed("dot_norm_apart");
}

// `kind`: 0 random values, else the extreme ones.
void check_codes(size_t row_bytes, int kind) {
  std::mt19937 random(static_cast<unsigned>(row_bytes));
  std::vector<uint8_t> codes(kRows * row_bytes);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(kind == 0 ? random() : kind == 1 ? 255 : 0);
  std::vector<uint8_t> end_codes(kRows * kCodeEndBytes);
  for (uint8_t& code : end_codes) code = static_cast<uint8_t>(kind == 0 ? random() : kind == 1 ? 255 : 0);
  std::vector<int8_t> query(2 * row_bytes);
  std::vector<int8_t> end_query(2 * kCodeEndBytes);
  const auto any = [&] { return static_cast<int8_t>(kind == 0 ? static_cast<int>(random() % 255) - 127 : -127); };
  std::generate(query.begin(), query.end(), any);
  std::generate(end_query.begin(), end_query.end(), any);
  const uint32_t numbers[] = {4, 0, 3, 3, 10, 1, 2, 9, 0};
  constexpr size_t kNumbers = std::size(numbers);
  const auto sum_of = [](const std::vector<int8_t>& values, size_t n) {
    return std::accumulate(values.begin(), values.begin() + static_cast<long>(n), 0);
  };
  const int sum_u8 = sum_of(query, row_bytes) + sum_of(end_query, kCodeEndBytes);
  const int sum_u4 = sum_of(query, 2 * row_bytes) + sum_of(end_query, 2 * kCodeEndBytes);
  const CodeEnds ends = {end_codes.data(), end_query.data()};
  int32_t neon[kNumbers];
  int32_t scalar[kNumbers];
  for (size_t n = 0; n <= kNumbers; ++n) {
    const auto same = [&] { return std::equal(neon, neon + n, scalar); };
    kNeonKernels.codes.dot_u8(query.data(), sum_u8, codes.data(), row_bytes, ends, numbers, n, neon);
    kScalarKernels.codes.dot_u8(query.data(), sum_u8, codes.data(), row_bytes, ends, numbers, n, scalar);
    check(same(), "dot_u8", row_bytes);
    kNeonKernels.codes.dot_u4(query.data(), sum_u4, codes.data(), row_bytes, ends, numbers, n, neon);
    kScalarKernels.codes.dot_u4(query.data(), sum_u4, codes.data(), row_bytes, ends, numbers, n, scalar);
    check(same(), "dot_u4", row_bytes);
  }
}

void check_codes_16(size_t row_bytes) {
  std::mt19937 random(static_cast<unsigned>(row_bytes));
  const size_t values = row_bytes / sizeof(int16_t);
  const int limit = std::min(32767, static_cast<int>(std::sqrt(8589934592.0 / static_cast<double>(values))) - 1);
  std::vector<int16_t> rows(kRows * values);
  std::vector<int16_t> query(values);
  const auto any = [&] { return static_cast<int16_t>(static_cast<int>(random() % (2U * limit + 1)) - limit); };
  std::generate(rows.begin() + static_cast<long>(values), rows.end(), any);
  std::fill_n(rows.begin(), values, static_cast<int16_t>(limit));
  std::generate(query.begin(), query.end(), any);
  const auto* codes = reinterpret_cast<const uint8_t*>(rows.data());
  const uint32_t numbers[] = {4, 0, 3, 3, 10};
  int64_t neon[5];
  int64_t scalar[5];
  kNeonKernels.codes.dot_s16(query.data(), codes, row_bytes, numbers, 5, neon);
  kScalarKernels.codes.dot_s16(query.data(), codes, row_bytes, numbers, 5, scalar);
  check(std::equal(neon, neon + 5, scalar), "dot_s16", row_bytes);
}

void check_accumulate(size_t dims) {
  const std::vector<float> row = random_floats(dims, 3);
  std::vector<double> neon(dims + 1, 0.25);
  std::vector<double> scalar(dims + 1, 0.25);
  const float* const rows[] = {row.data(), row.data()};
  const double weights[] = {-0.37, 0.11};
  kNeonKernels.accumulate(rows, weights, 2, dims, rows, neon.data());
  kScalarKernels.accumulate(rows, weights, 2, dims, nullptr, scalar.data());
  for (size_t d = 0; d <= dims; ++d) check(std::fabs(neon[d] - scalar[d]) < 1e-14, "accumulate", dims);
}

void check_scale(size_t dims) {
  const std::vector<float> row = random_floats(dims, 4);
  const std::vector<double> sum(row.begin(), row.end());
  std::vector<float> neon(dims + 1, 7);
  std::vector<float> scalar(dims + 1, 7);
  kNeonKernels.scale(sum.data(), dims, 1.0 / 3, neon.data());
  kScalarKernels.scale(sum.data(), dims, 1.0 / 3, scalar.data());
  check(same_bits(neon.data(), scalar.data(), dims + 1), "scale", dims);
}

void check_all_finite(size_t count) {
  std::vector<float> values(count, -3.4e38F);
  check(kNeonKernels.all_finite(values.data(), count), "all_finite of finite values", count);
  for (float& value : values) {
    for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
      value = bad;
      check(!kNeonKernels.all_finite(values.data(), count), "all_finite", count);
    }
    value = 1e-45F;
  }
}

void check_scan(Metric metric, size_t dims) {
  constexpr size_t kScanned = 200;
  const std::vector<float> queries = random_floats(kQueries * dims, 4);
  std::vector<float> rows = random_floats(kScanned * dims, 5);
  const std::vector<uint64_t> selected = {~uint64_t{0}, 0, 0x8421842184218421U, 0x7fU};
  std::vector<float> norms(kQueries);
  for (size_t q = 0; q < kQueries; ++q) {
    kNeonKernels.dot_one(queries.data() + q * dims, queries.data() + q * dims, 1, dims, &norms[q]);
  }
  std::vector<ehub::TopK> neon(kQueries, ehub::TopK(8));
  std::vector<ehub::TopK> scalar(kQueries, ehub::TopK(8));
  ehub::scan_block(kNeonKernels, metric, queries.data(), norms.data(), kQueries, rows.data(), kScanned, dims,
                   selected.data(), 1000, neon.data());
  ehub::scan_block(kScalarKernels, metric, queries.data(), norms.data(), kQueries, rows.data(), kScanned, dims,
                   selected.data(), 1000, scalar.data());
  for (size_t q = 0; q < kQueries; ++q) {
    const std::vector<Neighbor> left = neon[q].take_sorted();
    const std::vector<Neighbor> right = scalar[q].take_sorted();
    check(left.size() == 8 && right.size() == 8, "the size of an answer", dims);
    for (size_t i = 0; i < left.size() && i < right.size(); ++i) {
      check(std::fabs(left[i].distance - right[i].distance) < 1e-6F * static_cast<float>(dims + 8), "scan", dims);
    }
  }
  rows[150 * dims + dims - 1] = NAN;
  check(first_invalid_row(kNeonKernels, metric, rows.data(), kScanned, dims) == 150, "first_invalid_row", dims);
}

}  // namespace

int main() {
  check(&ehub::kernels() == &kNeonKernels, "the choice of kernels", 0);
  check(ehub::select_kernels("scalar").ok() && &ehub::kernels() == &kScalarKernels, "select_kernels(scalar)", 0);
  check(!ehub::select_kernels("avx2").ok(), "select_kernels(avx2)", 0);
  for (size_t dims = 1; dims <= 70; ++dims) {
    check_distances(dims);
    check_rows_apart(dims);
    check_accumulate(dims);
    check_scale(dims);
    check_all_finite(dims);
  }
  for (const size_t dims : {size_t{127}, size_t{384}, size_t{3001}}) check_distances(dims);
  for (const size_t row_bytes : {size_t{64}, size_t{192}, size_t{768}, size_t{3072}}) {
    for (const int kind : {0, 1, 2}) check_codes(row_bytes, kind);
    check_codes_16(row_bytes);
  }
  for (const size_t dims : {size_t{1}, size_t{3}, size_t{30}, size_t{65}}) {
    check_scan(Metric::kL2, dims);
    check_scan(Metric::kInnerProduct, dims);
    check_scan(Metric::kCosine, dims);
  }
  if (failures == 0) std::puts("ok");
  return failures == 0 ? 0 : 1;
}
