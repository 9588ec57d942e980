#include "store/pins.h"

#include <algorithm>
#include <utility>

namespace ehub {

std::optional<Seq> Pins::tag(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = tags_.find(name);
  return found == tags_.end() ? std::nullopt : std::optional(found->second);
}

std::map<std::string, Seq> Pins::tags() const {
  const std::lock_guard lock(mutex_);
  return tags_;
}

void Pins::add_tag(PreparedTag tag) {
  const std::lock_guard lock(mutex_);
  tags_.merge(tag.node_);
}

void Pins::remove_tag(const std::string& name) {
  const std::lock_guard lock(mutex_);
  tags_.erase(name);
}

void Pins::set_tags(std::map<std::string, Seq> tags) {
  const std::lock_guard lock(mutex_);
  tags_ = std::move(tags);
}

Seq Pins::lease(const std::function<Seq()>& now) {
  const std::lock_guard lock(mutex_);
  return *leases_.insert(now());
}

bool Pins::lease_again(Seq seq) {
  const std::lock_guard lock(mutex_);
  const bool tagged = std::any_of(tags_.begin(), tags_.end(), [seq](const auto& tag) { return tag.second == seq; });
  if (!tagged && !leases_.contains(seq)) return false;
  leases_.insert(seq);
  return true;
}

void Pins::release(Seq seq) {
  const std::lock_guard lock(mutex_);
  leases_.erase(leases_.find(seq));
}

size_t Pins::lease_count() const {
  const std::lock_guard lock(mutex_);
  return leases_.size();
}

std::vector<Seq> Pins::list() const {
  std::vector<Seq> seqs(leases_.begin(), leases_.end());
  for (const auto& [name, seq] : tags_) seqs.push_back(seq);
  std::sort(seqs.begin(), seqs.end());
  seqs.erase(std::unique(seqs.begin(), seqs.end()), seqs.end());
  return seqs;
}

std::vector<Seq> Pins::all() const {
  const std::lock_guard lock(mutex_);
  return list();
}

std::vector<Seq> Pins::all_before(const std::function<Seq()>& now, Seq* at) const {
  const std::lock_guard lock(mutex_);
  *at = now();
  return list();
}

}  // namespace ehub
