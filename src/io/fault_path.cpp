#include "io/fault_path.h"

#include <algorithm>
#include <cerrno>

#include "base/check.h"

namespace ehub {
namespace {

bool is_inside(const PathComponents& inner, const PathComponents& outer) {
  return inner.size() > outer.size() && std::equal(outer.begin(), outer.end(), inner.begin());
}

}  // namespace

PathComponents split_path(std::string_view path) {
  PathComponents components;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view name = path.substr(begin, end - begin);
    if (!name.empty() && name != ".") components.push_back(name);
    begin = end + 1;
  }
  return components;
}

int PathPlace::missing_error() const {
  if (error_number != 0) return error_number;
  return node == kNoNode ? ENOENT : 0;
}

PathPlace descend(const FaultDisk& disk, const PathPlace& place, std::string_view name) {
  EHUB_ASSERT(place.error_number == 0);
  if (const int error = directory_error(disk, place); error != 0) return {error, kNoNode, name, kNoNode};
  const FaultDisk::Names& names = disk.node(place.node).names;
  const auto found = names.find(name);
  return {0, place.node, name, found == names.end() ? kNoNode : found->second};
}

PathPlace locate(const FaultDisk& disk, const PathComponents& components) {
  PathPlace place;
  for (const std::string_view name : components) {
    place = descend(disk, place, name);
    if (place.error_number != 0) break;
  }
  return place;
}

PathPlace locate(const FaultDisk& disk, const std::string& path) { return locate(disk, split_path(path)); }

int rename_error(const FaultDisk& disk, const PathComponents& from_path, const PathComponents& to_path) {
  const PathPlace from = locate(disk, from_path);
  const PathPlace to = locate(disk, to_path);
  if (from.error_number != 0) return from.error_number;
  if (to.error_number != 0) return to.error_number;
  if (from.node == FaultDisk::kRoot || to.node == FaultDisk::kRoot) return EBUSY;
  if (!from.found()) return ENOENT;
  if (is_inside(to_path, from_path)) return EINVAL;
  if (is_inside(from_path, to_path)) return ENOTEMPTY;
  if (!to.found() || to.node == from.node) return 0;
  const FaultDisk::Node& target = disk.node(to.node);
  const bool moves_directory = disk.node(from.node).is_directory;
  if (moves_directory && !target.is_directory) return ENOTDIR;
  if (!moves_directory && target.is_directory) return EISDIR;
  return target.names.empty() ? 0 : ENOTEMPTY;
}

int remove_error(const FaultDisk& disk, const PathPlace& place) {
  if (!place.found()) return place.missing_error();
  if (place.node == FaultDisk::kRoot) return EBUSY;
  return disk.node(place.node).names.empty() ? 0 : ENOTEMPTY;
}

int directory_error(const FaultDisk& disk, const PathPlace& place) {
  if (!place.found()) return place.missing_error();
  return disk.node(place.node).is_directory ? 0 : ENOTDIR;
}

int file_error(const FaultDisk& disk, const PathPlace& place) {
  if (!place.found()) return place.missing_error();
  return disk.node(place.node).is_directory ? EISDIR : 0;
}

void add_file_paths(const FaultDisk& disk, FaultDisk::NodeId directory, const std::string& prefix,
                    std::vector<std::string>& paths) {
  for (const auto& [name, id] : disk.node(directory).names) {
    const std::string path = prefix + "/" + name;
    if (disk.node(id).is_directory) {
      add_file_paths(disk, id, path, paths);
    } else {
      paths.push_back(path);
    }
  }
}

}  // namespace ehub
