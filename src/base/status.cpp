#include "base/status.h"

#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>

namespace ehub {

bool Status::is_full_disk() const { return errno_ == ENOSPC || errno_ == EDQUOT; }

bool Status::is_shortage() const {
  const bool lacks = errno_ == EMFILE || errno_ == ENFILE || errno_ == ENOMEM || code_ == Code::kOutOfMemory;
  return lacks || is_full_disk();
}

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

Status status_of_exception() {
  // Short enough to be held without memory of its own.
  static constexpr const char* kOutOfMemory = "out of memory";
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return {Code::kOutOfMemory, kOutOfMemory};
  } catch (const std::length_error&) {
    return {Code::kOutOfMemory, kOutOfMemory};
  } catch (const std::system_error& error) {
    return {Code::kIo, error.what(), error.code().value()};
  } catch (...) {
    EHUB_ASSERT(!"an exception that the standard library throws for want of something");
  }
}

}  // namespace ehub
