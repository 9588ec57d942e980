// Paths of the simulated disk: where they lead, and why POSIX would refuse them.
//
// Paths begin at the root, with or without a leading slash; "." is ignored, ".." and links do not exist.
//
// Thread-safety: as FaultDisk. Results refer to the bytes of the path they were made from.

#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "io/fault_disk.h"

namespace ehub {

using PathComponents = std::vector<std::string_view>;

PathComponents split_path(std::string_view path);

inline constexpr FaultDisk::NodeId kNoNode = std::numeric_limits<FaultDisk::NodeId>::max();

// Where a path leads. If its parent is not a directory, `error_number` is ENOENT or ENOTDIR and the rest means nothing;
// otherwise `node` is kNoNode if there is nothing of this name. The root has no directory and no name.
struct PathPlace {
  int error_number = 0;
  FaultDisk::NodeId directory = kNoNode;
  std::string_view name;
  FaultDisk::NodeId node = FaultDisk::kRoot;

  bool found() const { return error_number == 0 && node != kNoNode; }
  // The errno of a call that needs the path to exist, 0 if it does.
  int missing_error() const;
};

// One component on from `place`. Requires: place.error_number == 0.
PathPlace descend(const FaultDisk& disk, const PathPlace& place, std::string_view name);
PathPlace locate(const FaultDisk& disk, const PathComponents& components);
PathPlace locate(const FaultDisk& disk, const std::string& path);

// The errno with which rename(2) refuses, or 0; the same for a call that needs an existing directory or file.
int rename_error(const FaultDisk& disk, const PathComponents& from, const PathComponents& to);
int remove_error(const FaultDisk& disk, const PathPlace& place);
int directory_error(const FaultDisk& disk, const PathPlace& place);
int file_error(const FaultDisk& disk, const PathPlace& place);

// Full paths of all files below `directory`, whose own path is `prefix`.
void add_file_paths(const FaultDisk& disk, FaultDisk::NodeId directory, const std::string& prefix,
                    std::vector<std::string>& paths);

}  // namespace ehub
