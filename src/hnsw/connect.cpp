#include "hnsw/connect.h"

#include <algorithm>
#include <vector>

#include "hnsw/walk.h"

namespace ehub::hnsw {
namespace {

class Connector {
 public:
  Connector(const GraphView& view, const BuildDistances& distances, size_t ef, uint32_t* links, size_t links_max)
      : view_(view), distances_(distances), ef_(ef), links_(links), links_max_(links_max), reached_(view.rows, false) {}

  uint64_t run(std::span<const uint32_t> nodes) {
    mark_from(view_.router.front());
    uint64_t left = 0;
    for (const uint32_t row : nodes) {
      if (reached_[row]) continue;
      if (attach(row)) {
        mark_from(row);
      } else {
        ++left;
      }
    }
    return left;
  }

 private:
  void mark_from(uint32_t start) {
    std::vector<uint32_t> todo = {start};
    reached_[start] = true;
    while (!todo.empty()) {
      const uint32_t row = todo.back();
      todo.pop_back();
      const uint32_t* links = view_.links_of(row);
      for (size_t i = 0; i < view_.link_stride && links[i] != row; ++i) {
        if (reached_[links[i]]) continue;
        reached_[links[i]] = true;
        todo.push_back(links[i]);
      }
    }
  }

  // Gives `row` a place among the links of a near row that is reached: a free one.
  bool attach(uint32_t row) {
    distances_.set_row(row);
    for (size_t ef = ef_;; ef *= 4) {
      walker_.reset(view_.rows, std::min<size_t>(ef, view_.rows));
      (void)walker_.seed(distances_, view_.router.data(), view_.router.size());
      (void)walker_.walk(view_, distances_);
      const Pool& pool = walker_.pool();
      for (size_t i = 0; i < pool.size(); ++i) {
        if (reached_[row_of(pool[i])] && add_link(row_of(pool[i]), row)) return true;
      }
      if (ef >= view_.rows) return false;
    }
  }

  bool add_link(uint32_t from, uint32_t to) {
    uint32_t* links = links_ + size_t{from} * view_.link_stride;
    const auto used = static_cast<size_t>(std::find(links, links + view_.link_stride, from) - links);
    if (from == to || used >= links_max_) return false;
    links[used] = to;
    return true;
  }

  const GraphView& view_;
  RowDistances distances_;
  const size_t ef_;
  uint32_t* links_;
  const size_t links_max_;
  Walker walker_;
  std::vector<bool> reached_;
};

}  // namespace

uint64_t connect_rows(const GraphView& view, std::span<const uint32_t> nodes, const BuildDistances& distances, size_t ef, uint32_t* links,
                      size_t links_max) {
  return Connector(view, distances, ef, links, links_max).run(nodes);
}

}  // namespace ehub::hnsw
