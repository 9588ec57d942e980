#include "base/status.h"

#include <cerrno>
#include <system_error>

namespace ehub {

Status corruption(const std::string& path, uint64_t offset, const std::string& what) {
  return {Code::kCorruption, path + ": damaged at byte " + std::to_string(offset) + ": " + what};
}

Status missing(const std::string& path) { return corruption(path, 0, "the file is missing"); }

Status of_making(Status status) {
  if (status.code() != Code::kNotFound) return status;
  return {Code::kIo, status.message(), ENOENT};
}

Status io_error(const std::string& operation, const std::string& path, int error_number) {
  // strerror() need not be safe to call from several threads; this is.
  const std::string reason = std::generic_category().message(error_number);
  return {Code::kIo, operation + " " + path + ": " + reason, error_number};
}

}  // namespace ehub
