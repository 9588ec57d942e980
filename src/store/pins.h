// The times of a table that somebody will look at again: tags, which are durable and have names, and leases, which are
// held by handles in this process.
//
// A row that is dead now but was visible at such a time is still needed: segments are rewritten with it.
//
// Thread-safety: all calls from any thread.

#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "store/types.h"

namespace ehub {

// A tag that only needs to be put in its place: the memory for it is taken.
class PreparedTag {
 public:
  PreparedTag(const std::string& name, Seq seq) : node_{{name, seq}} {}

 private:
  friend class Pins;
  std::map<std::string, Seq> node_;
};

class Pins {
 public:
  std::optional<Seq> tag(const std::string& name) const;
  std::map<std::string, Seq> tags() const;
  // Throws nothing. Requires: there is no such tag.
  void add_tag(PreparedTag tag);
  void remove_tag(const std::string& name);
  void set_tags(std::map<std::string, Seq> tags);

  // Leases the time that `now` says, which is asked within the lock: whoever reads all() later knows of it, and whoever
  // read it before was not past that time.
  Seq lease(const std::function<Seq()>& now);
  // Leases `seq`; false if it is neither leased nor tagged, so that rows of it may be gone.
  bool lease_again(Seq seq);
  void release(Seq seq);
  size_t lease_count() const;

  // Every such time once, ascending; `now`, if given, is asked within the lock and its answer put in `*at`.
  std::vector<Seq> all() const;
  std::vector<Seq> all_before(const std::function<Seq()>& now, Seq* at) const;

 private:
  std::vector<Seq> list() const;

  mutable std::mutex mutex_;
  std::map<std::string, Seq> tags_;
  std::multiset<Seq> leases_;
};

}  // namespace ehub
