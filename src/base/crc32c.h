// CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected), as in iSCSI, ext4 and RocksDB.
//
// Uses the processor's instruction where there is one (SSE4.2, ARMv8 CRC), chosen at run time, several streams at once
// so that it keeps up with memory; a table otherwise. All give the same value.
//
// Thread-safety: pure function.

#pragma once

#include <cstddef>
#include <cstdint>

namespace ehub {

// The checksum of the bytes whose checksum is `crc` followed by these. crc32c(0, data, n) is the plain checksum;
// crc32c(crc32c(0, a), b) == crc32c(0, a + b).
uint32_t crc32c(uint32_t crc, const void* data, size_t size);

// A checksum that is stored beside the bytes it covers is masked, so that the checksum of bytes which hold checksums
// stays good (the rotation and constant of LevelDB's log).
constexpr uint32_t crc_mask(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8U; }

}  // namespace ehub
