#include "store/file_record.h"

#include <algorithm>
#include <vector>

#include "base/crc32c.h"

namespace ehub {

Result<FileRecord> record_of(FileSystem& fs, const std::string& root, const std::string& path) {
  constexpr uint64_t kReadBytes = 1 << 20;
  Result<std::unique_ptr<File>> file = fs.open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return file.status();
  const Result<uint64_t> size = file.value()->size();
  if (!size.ok()) return size.status();
  FileRecord record{path.substr(root.size() + 1), size.value(), 0};
  std::vector<uint8_t> buffer(std::min(size.value(), kReadBytes));
  for (uint64_t offset = 0; offset < size.value(); offset += buffer.size()) {
    const size_t n = std::min<uint64_t>(buffer.size(), size.value() - offset);
    EHUB_RETURN_IF_ERROR(file.value()->read(offset, buffer.data(), n));
    record.crc = crc32c(record.crc, buffer.data(), n);
  }
  return record;
}

}  // namespace ehub
