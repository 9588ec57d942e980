// Files that have numbers for names: manifests, logs, both files of a segment.
//
// Only the one name that the store itself gives a number counts: whatever else lies beside them is somebody else's.
//
// Thread-safety: pure functions, but for the directory.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/file.h"

namespace ehub {

// manifest_path, log_path, vector_path, segment_path
using NumberedPath = std::string (*)(const std::string& directory, uint64_t number);

// The number of a file of this name, above 0; nothing if `path` gives no number this name.
std::optional<uint64_t> number_of(const std::string& name, NumberedPath path);
// The numbers of such files in a directory, ascending.
Result<std::vector<uint64_t>> list_numbered(FileSystem& fs, const std::string& directory, NumberedPath path);

}  // namespace ehub
