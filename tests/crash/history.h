// Which contents a hub may have after a crash: the promise of durability, in one place.
//
// A History is the models after each step so far. The hub may come back as any of them from the last one that had to be
// durable up to the one that was under way; a killed process, at any durability, with at least what it acknowledged.
// What is derived has to be durable when a batch is that follows and is not.
//
// Thread-safety: one thread.

#pragma once

#include <string>
#include <utility>
#include <vector>

#include "look.h"
#include "model.h"

namespace ehub::crash {

class History {
 public:
  History(Durability durability, ModelHub start) : durability_(durability), models_{std::move(start)} {}

  // What the hub holds: every acknowledged step.
  const ModelHub& now() const { return models_[acknowledged_]; }
  const ModelHub& model(size_t i) const { return models_[i]; }

  // From here on the step may have happened.
  void begin(const Step& step) { models_.push_back(after(now(), step)); }
  // The step that began has returned success.
  void acknowledge(const Step& step) {
    acknowledged_ = models_.size() - 1;
    if (step.is_derived) {
      follows_derived_ = true;
    } else if (step.kind == Step::Kind::kSet || step.settles()) {
      follows_derived_ = false;  // of the others some write nothing
    }
    if ((durability_ == Durability::kFull && !follows_derived_) || step.settles()) settled_ = acknowledged_;
    forget_before(settled_);
  }
  // The step that began has failed and so must not have happened.
  void refuse() { models_.pop_back(); }
  // All that is acknowledged has become durable.
  void settle() {
    follows_derived_ = false;
    settled_ = acknowledged_;
    forget_before(settled_);
  }

  // The first and the last model that a hub may equal after a crash.
  size_t first_allowed(CrashModel crash) const { return crash == CrashModel::kKillProcess ? acknowledged_ : settled_; }
  size_t last_allowed() const { return models_.size() - 1; }

  // The hub came back as model `i` after a crash. Of a killed process that had not synced, the disk still knows less.
  void come_back(size_t i, CrashModel crash) {
    models_.resize(i + 1);
    acknowledged_ = i;
    const bool was_synced = durability_ == Durability::kFull && !follows_derived_;
    if (crash != CrashModel::kKillProcess || was_synced) settle();
    forget_before(settled_);
  }

 private:
  void forget_before(size_t i) {
    models_.erase(models_.begin(), models_.begin() + static_cast<ptrdiff_t>(i));
    acknowledged_ -= i;
    settled_ = 0;
  }

  Durability durability_;
  std::vector<ModelHub> models_;
  size_t acknowledged_ = 0;
  size_t settled_ = 0;
  bool follows_derived_ = false;  // and nothing since must have made it durable
};

// The youngest of the models [first, last] that the hub equals, or none: then how it differs from the model `first`.
struct Match {
  size_t model = 0;
  std::string wrong;
};

inline Match match(const SeenHub& seen, const History& history, size_t first, size_t last) {
  for (size_t i = last + 1; i-- > first;) {
    if (differs(seen, history.model(i)).empty()) return {i, ""};
  }
  return {0, "equals no allowed state; against what must be there: " + differs(seen, history.model(first))};
}

}  // namespace ehub::crash
