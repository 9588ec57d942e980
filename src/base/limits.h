// Every maximum of the engine, in one place. Readers refuse what is above a limit before they allocate for it.

#pragma once

#include <cstddef>
#include <cstdint>

namespace ehub {

inline constexpr uint32_t kDimsMax = 65'535;
inline constexpr size_t kKeyBytesMax = 1024;
inline constexpr size_t kNameBytesMax = 255;  // of a space, version, partition or tag
inline constexpr size_t kNoteNameBytesMax = 4096;
inline constexpr size_t kNoteBytesMax = 16 << 20;
inline constexpr size_t kSpacesMax = 1'000'000;
inline constexpr size_t kNeighborsMax = 1'000'000;  // k of one search
inline constexpr uint32_t kSegmentRowsMax = 1U << 30;
inline constexpr uint32_t kPartitionsMax = 1U << 24;

// Checksums cover files in blocks of this size.
inline constexpr uint64_t kChecksumBlockBytes = 64 << 10;

}  // namespace ehub
