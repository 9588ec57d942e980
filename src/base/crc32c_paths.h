// The ways to compute CRC-32C that crc32c() chooses from, by name, so that tests can compare them.
//
// Thread-safety: pure functions. Arguments and result as in crc32c().

#pragma once

#include <cstddef>
#include <cstdint>

namespace ehub {

// Runs anywhere; about 8 bytes per table round.
uint32_t crc32c_table(uint32_t crc, const void* data, size_t size);

// Whether this processor has the instruction (SSE4.2 on x86-64, the CRC extension on AArch64).
bool crc32c_has_hardware();

// Requires: crc32c_has_hardware().
uint32_t crc32c_hardware(uint32_t crc, const void* data, size_t size);

}  // namespace ehub
