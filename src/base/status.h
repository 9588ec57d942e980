// The one way an engine call reports failure.
//
// The engine throws nothing of its own and prints nothing; but the standard library throws when memory or threads run
// out. That is caught by guarded() where work would be left half done, and else passes on to the binding. A call that
// can fail returns a Status by value (or a Result: a value or a Status); the binding layer turns it into the Python
// exception of the same name, in one place. Messages say what was given, what was expected and, where it helps, what to
// do.
//
// Thread-safety: values; copy them freely.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/thread.h"

namespace ehub {

// Codes are a closed set; each is one exception class of `ehub.errors`, but kOutOfMemory, which is Python's
// MemoryError. `kIo` carries an errno.
enum class Code : uint8_t {
  kOk = 0,
  kNotFound,
  kExists,
  kInvalidArgument,
  kDimension,
  kInvalidVector,
  kInvalidKey,
  kFrozen,
  kReadOnly,
  kLocked,
  kCorruption,
  kFormat,
  kClosed,
  kConflict,
  kDeadline,
  kIo,
  kOutOfMemory,
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message, int error_number = 0)
      : code_(code), errno_(error_number), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  // errno of the failed system call for `kIo`, else 0.
  int error_number() const { return errno_; }
  const std::string& message() const { return message_; }
  // No room on the disk, or none that this user may have.
  bool is_full_disk() const;
  // Room on the disk, memory or descriptors are lacking: nothing is broken, and the same call may succeed later.
  bool is_shortage() const;

 private:
  Code code_ = Code::kOk;
  int errno_ = 0;
  std::string message_;
};

inline Status not_found(std::string message) { return {Code::kNotFound, std::move(message)}; }
inline Status exists(std::string message) { return {Code::kExists, std::move(message)}; }
inline Status invalid_argument(std::string message) { return {Code::kInvalidArgument, std::move(message)}; }
inline Status read_only(std::string message) { return {Code::kReadOnly, std::move(message)}; }
inline Status closed(std::string message) { return {Code::kClosed, std::move(message)}; }
inline Status format_error(std::string message) { return {Code::kFormat, std::move(message)}; }

// Damage found in `path` at byte `offset`.
Status corruption(const std::string& path, uint64_t offset, const std::string& what);
// A file that the hub needs is not there.
Status missing(const std::string& path);
// `status` of making a file: kNotFound means that its directory is gone, and becomes what the system said, kIo.
Status of_making(Status status);
// A failed system call: "<operation> <path>: <strerror>".
Status io_error(const std::string& operation, const std::string& path, int error_number);

// The exception in flight: no memory, or a failed system call. Of no other kind: that is a bug. Needs no memory to say
// that there is none. Requires: an exception is being handled.
Status status_of_exception();

// What `work` returns, a Status, or what the exception says that it ended with.
template <typename Work>
Status guarded(Work&& work) {
  ready_to_throw();
  try {
    return std::forward<Work>(work)();
  } catch (...) {
    return status_of_exception();
  }
}

// A value, or the reason why there is none. Requires: ok() before value().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {
    EHUB_ASSERT(!status_.ok());
  }  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() {
    EHUB_ASSERT(ok());
    return *value_;
  }
  const T& value() const {
    EHUB_ASSERT(ok());
    return *value_;
  }

 private:
  std::optional<T> value_;
  Status status_;
};

// Returns from the enclosing function if `expression` (a Status) failed.
#define EHUB_RETURN_IF_ERROR(expression)                        \
  do {                                                          \
    if (::ehub::Status status_ = (expression); !status_.ok()) { \
      return status_;                                           \
    }                                                           \
  } while (false)

}  // namespace ehub
