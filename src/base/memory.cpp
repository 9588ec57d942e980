#include "base/memory.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

namespace ehub {
namespace {

using Stream = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
constexpr size_t kLineMax = 128;

// The number after `label` in the first line that begins with it; none if there is no such line or file, or no number.
std::optional<uint64_t> number_in(const char* path, const char* label) {
  const Stream file(std::fopen(path, "re"), std::fclose);
  char line[kLineMax];
  while (file != nullptr && std::fgets(line, sizeof(line), file.get()) != nullptr) {
    if (std::strncmp(line, label, std::strlen(label)) != 0) continue;
    const char* at = line + std::strlen(label);
    while (*at == ' ') ++at;
    uint64_t number = 0;
    if (std::from_chars(at, line + std::strlen(line), number).ec != std::errc()) return std::nullopt;
    return number;
  }
  return std::nullopt;
}

}  // namespace

uint64_t available_memory() {
  const uint64_t available = number_in("/proc/meminfo", "MemAvailable:").value_or(0) << 10;
  const std::optional<uint64_t> limit = number_in("/sys/fs/cgroup/memory.max", "");
  const std::optional<uint64_t> used = number_in("/sys/fs/cgroup/memory.current", "");
  if (!limit || !used) return available;
  return std::min(available, *limit - std::min(*limit, *used));
}

}  // namespace ehub
