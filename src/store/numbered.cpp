#include "store/numbered.h"

#include <algorithm>
#include <cstdlib>

namespace ehub {

std::optional<uint64_t> number_of(const std::string& name, NumberedPath path) {
  const size_t digits = name.find_first_of("0123456789");
  if (digits == std::string::npos) return std::nullopt;
  const uint64_t number = std::strtoull(name.c_str() + digits, nullptr, 10);
  return number != 0 && path("", number) == "/" + name ? std::optional(number) : std::nullopt;
}

Result<std::vector<uint64_t>> list_numbered(FileSystem& fs, const std::string& directory, NumberedPath path) {
  const Result<std::vector<std::string>> names = fs.list(directory);
  if (!names.ok()) return names.status();
  std::vector<uint64_t> numbers;
  for (const std::string& name : names.value()) {
    if (const std::optional<uint64_t> number = number_of(name, path)) numbers.push_back(*number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

}  // namespace ehub
