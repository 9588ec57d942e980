#include "base/crc32c.h"

#include <array>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c_paths.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
#define EHUB_CRC_TARGET __attribute__((target("sse4.2")))
#elif defined(__aarch64__) && defined(__clang__)
#define EHUB_CRC_TARGET __attribute__((target("crc")))
#elif defined(__aarch64__)
#define EHUB_CRC_TARGET __attribute__((target("+crc")))
#endif

namespace ehub {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // 0x1EDC6F41, lowest bit first

constexpr uint32_t times_x(uint32_t value) { return (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0); }

// Slicing by eight: table[k][b] is the effect of byte b, k bytes before the end of a round.
using SliceTable = std::array<std::array<uint32_t, 256>, 8>;

constexpr SliceTable make_slice_table() {
  SliceTable table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = times_x(value);
    table[0][byte] = value;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = table[k - 1][byte];
      table[k][byte] = (before >> 8) ^ table[0][before & 0xff];
    }
  }
  return table;
}

constexpr SliceTable kSlices = make_slice_table();

uint32_t slice_round(uint32_t state, const uint8_t* at) {
  const uint64_t word = load_le<uint64_t>(at) ^ state;
  uint32_t next = 0;
  for (size_t i = 0; i < 8; ++i) next ^= kSlices[7 - i][(word >> (8 * i)) & 0xff];
  return next;
}

#ifdef EHUB_CRC_TARGET

// The instruction takes eight bytes a cycle but answers after three, so three independent streams keep it busy. A block
// is three neighbouring streams; their states are joined by moving the earlier ones over the length of the later ones.
constexpr size_t kLongStreamBytes = 4096;
constexpr size_t kShortStreamBytes = 256;

// a * b modulo the polynomial.
constexpr uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = uint32_t{1} << 31; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = times_x(b);
  }
  return product;
}

// table[k][b]: what byte k of a state, of value b, becomes when a stream of zeros has followed.
using ShiftTable = std::array<std::array<uint32_t, 256>, 4>;

constexpr ShiftTable make_shift_table(size_t stream_bytes) {
  uint32_t power = uint32_t{1} << 23;  // x^8: one byte of zeros
  for (size_t bytes = 1; bytes < stream_bytes; bytes *= 2) power = multiply(power, power);
  ShiftTable table{};
  for (size_t k = 0; k < 4; ++k) {
    for (uint32_t byte = 1; byte < 256; ++byte) {
      const uint32_t lowest = byte & (~byte + 1);
      const bool one_bit = byte == lowest;
      table[k][byte] = one_bit ? multiply(power, byte << (8 * k)) : table[k][byte ^ lowest] ^ table[k][lowest];
    }
  }
  return table;
}

template <size_t kStreamBytes>
constexpr ShiftTable kShifts = make_shift_table(kStreamBytes);

template <size_t kStreamBytes>
uint64_t shift(uint64_t state) {
  static_assert((kStreamBytes & (kStreamBytes - 1)) == 0 && kStreamBytes % 8 == 0);
  const ShiftTable& table = kShifts<kStreamBytes>;
  return table[0][state & 0xff] ^ table[1][(state >> 8) & 0xff] ^ table[2][(state >> 16) & 0xff] ^
         table[3][(state >> 24) & 0xff];
}

#if defined(__x86_64__)
EHUB_CRC_TARGET inline uint64_t step(uint64_t state, uint64_t word) { return __builtin_ia32_crc32di(state, word); }
EHUB_CRC_TARGET inline uint64_t step(uint64_t state, uint32_t word) {
  return __builtin_ia32_crc32si(static_cast<uint32_t>(state), word);
}
EHUB_CRC_TARGET inline uint64_t step(uint64_t state, uint16_t word) {
  return __builtin_ia32_crc32hi(static_cast<uint32_t>(state), word);
}
EHUB_CRC_TARGET inline uint64_t step(uint64_t state, uint8_t word) {
  return __builtin_ia32_crc32qi(static_cast<uint32_t>(state), word);
}
#else
#if defined(__clang__)
#define EHUB_CRC_BUILTIN(suffix_clang, suffix_gcc) __builtin_arm_crc32c##suffix_clang
#else
#define EHUB_CRC_BUILTIN(suffix_clang, suffix_gcc) __builtin_aarch64_crc32c##suffix_gcc
#endif
EHUB_CRC_TARGET inline uint64_t step(uint64_t state, uint64_t word) {
  return EHUB_CRC_BUILTIN(d, x)(static_cast<uint32_t>(state), word);
}
EHUB_CRC_TARGET inline uint64_t step(uint64_t state, uint32_t word) {
  return EHUB_CRC_BUILTIN(w, w)(static_cast<uint32_t>(state), word);
}
EHUB_CRC_TARGET inline uint64_t step(uint64_t state, uint16_t word) {
  return EHUB_CRC_BUILTIN(h, h)(static_cast<uint32_t>(state), word);
}
EHUB_CRC_TARGET inline uint64_t step(uint64_t state, uint8_t word) {
  return EHUB_CRC_BUILTIN(b, b)(static_cast<uint32_t>(state), word);
}
#undef EHUB_CRC_BUILTIN
#endif

struct Position {
  uint64_t state;
  const uint8_t* at;
  size_t left;
};

template <size_t kStreamBytes>
EHUB_CRC_TARGET inline void take_blocks(Position& position) {
  while (position.left >= 3 * kStreamBytes) {
    uint64_t first = position.state;
    uint64_t second = 0;
    uint64_t third = 0;
    const uint8_t* const end = position.at + kStreamBytes;
    for (const uint8_t* at = position.at; at != end; at += 8) {
      first = step(first, load_le<uint64_t>(at));
      second = step(second, load_le<uint64_t>(at + kStreamBytes));
      third = step(third, load_le<uint64_t>(at + 2 * kStreamBytes));
    }
    position.state = shift<kStreamBytes>(shift<kStreamBytes>(first) ^ second) ^ third;
    position.at += 3 * kStreamBytes;
    position.left -= 3 * kStreamBytes;
  }
}

template <typename Word>
EHUB_CRC_TARGET inline void take(Position& position) {
  position.state = step(position.state, load_le<Word>(position.at));
  position.at += sizeof(Word);
  position.left -= sizeof(Word);
}

EHUB_CRC_TARGET uint32_t run_hardware(uint32_t crc, const void* data, size_t size) {
  Position position{~crc, static_cast<const uint8_t*>(data), size};
  take_blocks<kLongStreamBytes>(position);
  take_blocks<kShortStreamBytes>(position);
  while (position.left >= 8) take<uint64_t>(position);
  if (position.left >= 4) take<uint32_t>(position);
  if (position.left >= 2) take<uint16_t>(position);
  if (position.left >= 1) take<uint8_t>(position);
  return ~static_cast<uint32_t>(position.state);
}

bool detect_hardware() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2");
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#else
  return true;  // every AArch64 processor that runs another system we build for (macOS) has it
#endif
}

#else

uint32_t run_hardware(uint32_t, const void*, size_t) { assertion_failed(__FILE__, __LINE__, "no CRC instruction"); }

bool detect_hardware() { return false; }

#endif

}  // namespace

uint32_t crc32c_table(uint32_t crc, const void* data, size_t size) {
  const auto* at = static_cast<const uint8_t*>(data);
  uint32_t state = ~crc;
  for (; size >= 8; size -= 8, at += 8) state = slice_round(state, at);
  for (; size > 0; --size, ++at) state = (state >> 8) ^ kSlices[0][(state ^ *at) & 0xff];
  return ~state;
}

bool crc32c_has_hardware() {
  static const bool found = detect_hardware();
  return found;
}

uint32_t crc32c_hardware(uint32_t crc, const void* data, size_t size) { return run_hardware(crc, data, size); }

uint32_t crc32c(uint32_t crc, const void* data, size_t size) {
  return crc32c_has_hardware() ? run_hardware(crc, data, size) : crc32c_table(crc, data, size);
}

}  // namespace ehub
