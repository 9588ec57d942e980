// Lets a walk touch only those parts of a mapped graph whose checksums were found good.
//
// Thread-safety: all calls from any thread.

#pragma once

#include <atomic>
#include <cstdint>

#include "base/status.h"
#include "io/checked_mapping.h"

namespace ehub::hnsw {

class GraphGuard {
 public:
  explicit GraphGuard(const CheckedMapping& mapping) : mapping_(mapping) {}

  // Where the arrays are in the file, and the bytes of a row of each.
  struct Place {
    uint64_t offset = 0;
    uint64_t row_bytes = 0;
  };
  void set_places(Place links, Place codes, Place metas) {
    links_ = links;
    codes_ = codes;
    metas_ = metas;
  }

  // Nothing needs to be asked any more.
  bool all_good() const { return all_good_.load(std::memory_order_relaxed); }
  void set_all_good() { all_good_.store(true, std::memory_order_relaxed); }

  Status check_links(uint32_t row) const { return check(links_, row); }
  Status check_codes(uint32_t row) const {
    EHUB_RETURN_IF_ERROR(check(metas_, row));
    return check(codes_, row);
  }

 private:
  Status check(const Place& place, uint32_t row) const {
    return mapping_.bytes(place.offset + row * place.row_bytes, place.row_bytes).status();
  }

  const CheckedMapping& mapping_;
  Place links_;
  Place codes_;
  Place metas_;
  std::atomic<bool> all_good_ = false;
};

}  // namespace ehub::hnsw
