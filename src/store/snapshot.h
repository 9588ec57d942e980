// A point in time of one version, held: the rows that were visible then stay readable while this object lives.
//
// In the writer it holds a lease on its time, so that no rewriting drops a row that it sees; in a reader process a lock
// on the manifest that it read, so that the writer keeps all files that this names. A process that dies holds neither.
//
// Thread-safety: const calls from any thread.

#pragma once

#include <memory>
#include <utility>

#include "io/file.h"
#include "store/table.h"
#include "store/view.h"

namespace ehub {

// A time of a table that is leased of it (pins.h) as long as this object lives.
class Lease {
 public:
  // Requires: `seq` is leased for this object.
  Lease(std::shared_ptr<const Table> table, Seq seq) : table_(std::move(table)), seq_(seq) {}
  ~Lease() {
    if (table_ != nullptr) table_->pins().release(seq_);
  }
  Lease(Lease&&) = default;
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const Table& table() const { return *table_; }
  Seq seq() const { return seq_; }

 private:
  std::shared_ptr<const Table> table_;
  Seq seq_;
};

class Snapshot {
 public:
  // Requires: the lease is of `view`'s time.
  Snapshot(Lease lease, std::shared_ptr<const View> view, std::shared_ptr<File> manifest_lock)
      : lease_(std::move(lease)), view_(std::move(view)), manifest_lock_(std::move(manifest_lock)) {}

  const std::shared_ptr<const View>& view() const { return view_; }
  const Table& table() const { return lease_.table(); }

 private:
  const Lease lease_;
  const std::shared_ptr<const View> view_;
  const std::shared_ptr<File> manifest_lock_;  // null in the writer
};

}  // namespace ehub
