// What a file is, for those who want to know after it is gone.
//
// Thread-safety: pure, but for the file.

#pragma once

#include <string>

#include "base/status.h"
#include "io/file.h"
#include "store/erasure.h"

namespace ehub {

// Reads the whole file. Requires: `path` is below `root`.
Result<FileRecord> record_of(FileSystem& fs, const std::string& root, const std::string& path);

}  // namespace ehub
