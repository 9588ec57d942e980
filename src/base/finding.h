// Something that is wrong with a file, as verify() and repair() tell it.
//
// Thread-safety: values and pure functions.

#pragma once

#include <string>
#include <utility>

#include "base/status.h"

namespace ehub {

struct Finding {
  std::string path;
  std::string what;
};

// What a failed call says of a file, without the path that it may begin with.
inline Finding finding_of(std::string path, const Status& status) {
  const std::string& message = status.message();
  const std::string prefix = path + ": ";
  std::string what = message.starts_with(prefix) ? message.substr(prefix.size()) : message;
  return {std::move(path), std::move(what)};
}

}  // namespace ehub
