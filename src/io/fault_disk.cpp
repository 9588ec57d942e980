#include "io/fault_disk.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "base/check.h"

namespace ehub {
namespace {

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

using FileChange = FaultDisk::FileChange;
using Node = FaultDisk::Node;

// The end of the sector that holds byte `offset`, but not beyond `end`.
uint64_t sector_end(uint64_t offset, uint64_t end) { return std::min((offset / kSectorBytes + 1) * kSectorBytes, end); }

void write_part(Node& file, const FileChange& write, uint64_t begin, uint64_t end) {
  const uint8_t* const bytes = file.unsynced_bytes.data() + write.bytes_at;
  file.durable.write(begin, bytes + (begin - write.offset), end - begin);
}

void apply(Node& file, const FileChange& change) {
  if (change.is_write) {
    write_part(file, change, change.offset, change.offset + change.size);
  } else {
    file.durable.resize(change.offset);
  }
}

void keep_before(Node& file, uint64_t order) {
  for (const FileChange& change : file.unsynced) {
    if (change.order < order) apply(file, change);
  }
}

void keep_random_sectors(Node& file, FaultRandom& random) {
  uint64_t size = file.durable.size_bytes();
  for (const FileChange& change : file.unsynced) {
    const bool size_kept = random.coin();
    if (!change.is_write) {
      if (!size_kept) continue;
      size = change.offset;
      if (size < file.durable.size_bytes()) file.durable.resize(size);
      continue;
    }
    const uint64_t end = change.offset + change.size;
    if (size_kept) size = std::max(size, end);
    for (uint64_t begin = change.offset; begin < end; begin = sector_end(begin, end)) {
      if (random.coin()) write_part(file, change, begin, sector_end(begin, end));
    }
  }
  // Sectors may have been kept beyond a size that was not.
  file.durable.resize(size);
}

void keep_with_torn_tail(Node& file, FaultRandom& random) {
  const auto is_write = [](const FileChange& change) { return change.is_write; };
  const auto last = std::find_if(file.unsynced.rbegin(), file.unsynced.rend(), is_write);
  for (const FileChange& change : file.unsynced) {
    if (last != file.unsynced.rend() && &change == &*last) {
      const uint64_t kept = torn_write_bytes(random, change.offset, change.size);
      write_part(file, change, change.offset, change.offset + kept);
    } else {
      apply(file, change);
    }
  }
}

void keep_sizes(Node& file) {
  for (const FileChange& change : file.unsynced) {
    const uint64_t end = change.offset + change.size;
    file.durable.resize(change.is_write ? std::max(file.durable.size_bytes(), end) : change.offset);
  }
}

}  // namespace

uint64_t FaultRandom::next() {
  state_ += 0x9e3779b97f4a7c15U;
  uint64_t value = state_;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31);
}

uint64_t torn_write_bytes(FaultRandom& random, uint64_t offset, uint64_t size) {
  EHUB_ASSERT(size > 0);
  const uint64_t sectors = (offset + size - 1) / kSectorBytes - offset / kSectorBytes + 1;
  const uint64_t kept = random.below(sectors);
  return kept == 0 ? 0 : (offset / kSectorBytes + kept) * kSectorBytes - offset;
}

FaultDisk::FaultDisk() { nodes_.emplace_back().is_directory = true; }

FaultDisk::NodeId FaultDisk::create(NodeId directory, std::string_view name, bool is_directory) {
  const auto id = static_cast<NodeId>(nodes_.size());
  nodes_.emplace_back().is_directory = is_directory;
  nodes_[directory].names.emplace(name, id);
  unsynced_names_.push_back({next_order_++, id, {}, Name{directory, std::string(name)}});
  return id;
}

void FaultDisk::rename(NodeId from_directory, std::string_view from, NodeId to_directory, std::string_view to) {
  Names& from_names = nodes_[from_directory].names;
  Names& to_names = nodes_[to_directory].names;
  const auto moved = from_names.find(from);
  EHUB_ASSERT(moved != from_names.end());
  const NodeId id = moved->second;
  from_names.erase(moved);
  const auto [place, is_new] = to_names.emplace(to, id);
  if (!is_new) nodes_[std::exchange(place->second, id)].linked = false;
  unsynced_names_.push_back(
      {next_order_++, id, Name{from_directory, std::string(from)}, Name{to_directory, std::string(to)}});
}

void FaultDisk::remove(NodeId directory, std::string_view name) {
  Names& names = nodes_[directory].names;
  const auto removed = names.find(name);
  EHUB_ASSERT(removed != names.end());
  const NodeId id = removed->second;
  nodes_[id].linked = false;
  names.erase(removed);
  unsynced_names_.push_back({next_order_++, id, Name{directory, std::string(name)}, {}});
}

void FaultDisk::sync_directory(NodeId directory) {
  std::vector<Name> needed;
  std::vector<bool> selected(unsynced_names_.size());
  for (size_t i = unsynced_names_.size(); i-- > 0;) {
    const NameChange& change = unsynced_names_[i];
    const Name& home = change.set ? *change.set : *change.unset;
    selected[i] = home.directory == directory || touches(change, needed);
    if (selected[i]) add_names(change, needed);
  }
  std::vector<NameChange> left;
  for (size_t i = 0; i < selected.size(); ++i) {
    if (selected[i]) {
      apply_durably(unsynced_names_[i]);
    } else {
      left.push_back(std::move(unsynced_names_[i]));
    }
  }
  unsynced_names_ = std::move(left);
}

void FaultDisk::write(NodeId id, uint64_t offset, const uint8_t* data, size_t size) {
  if (size == 0) return;
  Node& file = nodes_[id];
  file.cached.write(offset, data, size);
  file.unsynced.push_back({next_order_++, true, offset, size, file.unsynced_bytes.size()});
  file.unsynced_bytes.insert(file.unsynced_bytes.end(), data, data + size);
}

void FaultDisk::truncate(NodeId id, uint64_t size) {
  Node& file = nodes_[id];
  if (file.cached.size_bytes() == size) return;
  file.cached.resize(size);
  file.unsynced.push_back({next_order_++, false, size, 0, 0});
}

void FaultDisk::sync(NodeId id) {
  keep_before(nodes_[id], kNever);
  forget_unsynced(id);
}

void FaultDisk::forget_unsynced(NodeId id) {
  nodes_[id].unsynced.clear();
  nodes_[id].unsynced_bytes.clear();
}

void FaultDisk::replace(NodeId id, const uint8_t* data, size_t size) {
  Node& file = nodes_[id];
  for (FileImage* image : {&file.cached, &file.durable}) {
    image->resize(size);
    image->write(0, data, size);
  }
  forget_unsynced(id);
}

uint64_t FaultDisk::used_bytes() const {
  uint64_t bytes = 0;
  for (const Node& node : nodes_) {
    if (node.linked || node.open_handles > 0) bytes += node.cached.size_bytes();
  }
  return bytes;
}

void FaultDisk::crash(CrashModel model, uint64_t seed) {
  if (model == CrashModel::kKillProcess) {
    drop_handles();
    return;
  }
  FaultRandom random(seed);
  const uint64_t cut = model == CrashModel::kKeepPrefix ? random_cut(random) : kNever;
  if (model == CrashModel::kRandomSectors) {
    keep_random_names(random);
  } else if (model != CrashModel::kDropUnsynced && model != CrashModel::kDropNames) {
    keep_names_before(cut);
  }
  for (Node& node : nodes_) keep_bytes(node, model, cut, random);
  restart_from_durable();
}

bool FaultDisk::touches(const NameChange& change, const std::vector<Name>& names) {
  const auto is_in = [&](const std::optional<Name>& name) {
    return name && std::find(names.begin(), names.end(), *name) != names.end();
  };
  return is_in(change.unset) || is_in(change.set);
}

void FaultDisk::add_names(const NameChange& change, std::vector<Name>& names) {
  if (change.unset) names.push_back(*change.unset);
  if (change.set) names.push_back(*change.set);
}

void FaultDisk::apply_durably(const NameChange& change) {
  if (change.unset) nodes_[change.unset->directory].durable_names.erase(change.unset->name);
  if (change.set) nodes_[change.set->directory].durable_names[change.set->name] = change.node;
}

void FaultDisk::drop_handles() {
  for (Node& node : nodes_) {
    node.open_handles = 0;
    node.shared_locks = 0;
    node.exclusive_lock = false;
  }
}

// The order of the first change that is lost, or kNever.
uint64_t FaultDisk::random_cut(FaultRandom& random) const {
  std::vector<uint64_t> orders{kNever};
  std::transform(unsynced_names_.begin(), unsynced_names_.end(), std::back_inserter(orders),
                 [](const NameChange& change) { return change.order; });
  for (const Node& node : nodes_) {
    for (const FileChange& change : node.unsynced) orders.push_back(change.order);
  }
  std::sort(orders.begin(), orders.end());
  return orders[random.below(orders.size())];
}

void FaultDisk::keep_names_before(uint64_t order) {
  for (const NameChange& change : unsynced_names_) {
    if (change.order < order) apply_durably(change);
  }
}

void FaultDisk::keep_random_names(FaultRandom& random) {
  std::vector<Name> lost;
  for (const NameChange& change : unsynced_names_) {
    const bool kept = random.coin() && !touches(change, lost);
    if (kept) {
      apply_durably(change);
    } else {
      add_names(change, lost);
    }
  }
}

void FaultDisk::keep_bytes(Node& file, CrashModel model, uint64_t cut, FaultRandom& random) {
  switch (model) {
    case CrashModel::kKillProcess:
    case CrashModel::kDropUnsynced:
      return;
    case CrashModel::kKeepPrefix:
    case CrashModel::kDropNames:
      return keep_before(file, cut);
    case CrashModel::kRandomSectors:
      return keep_random_sectors(file, random);
    case CrashModel::kTornTail:
      return keep_with_torn_tail(file, random);
    case CrashModel::kSizeWithoutData:
      return keep_sizes(file);
  }
}

void FaultDisk::restart_from_durable() {
  FaultDisk after;
  after.nodes_.clear();
  after.copy_durable(*this, kRoot);
  *this = std::move(after);
}

// Recursion is as deep as the directories are.
FaultDisk::NodeId FaultDisk::copy_durable(const FaultDisk& from, NodeId id) {
  const auto copy_id = static_cast<NodeId>(nodes_.size());
  const Node& original = from.nodes_[id];
  Node& copy = nodes_.emplace_back();
  copy.is_directory = original.is_directory;
  copy.durable = original.durable;
  copy.cached = original.durable;
  for (const auto& [name, child] : original.durable_names) {
    const NodeId child_copy = copy_durable(from, child);
    copy.durable_names.emplace(name, child_copy);
    copy.names.emplace(name, child_copy);
  }
  return copy_id;
}

}  // namespace ehub
