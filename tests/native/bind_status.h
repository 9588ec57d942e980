// Turns a failed Status into the Python exception `ehub._native._testing.StatusError`, which bind_base() defines: its
// text is the message, `code` the name of the code without the "k", `errno` the error number or 0.

#pragma once

#include <stdexcept>
#include <utility>

#include "base/status.h"

namespace ehub::testing {

class StatusError : public std::runtime_error {
 public:
  explicit StatusError(Status status) : std::runtime_error(status.message()), status_(std::move(status)) {}
  const Status& status() const { return status_; }

 private:
  Status status_;
};

inline void check(const Status& status) {
  if (!status.ok()) throw StatusError(status);
}

template <typename T>
T take(Result<T> result) {
  check(result.status());
  return std::move(result.value());
}

}  // namespace ehub::testing
