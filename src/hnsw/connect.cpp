#include "hnsw/connect.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "hnsw/walk.h"

namespace ehub::hnsw {
namespace {

class Connector {
 public:
  Connector(const GraphView& view, const BuildDistances& distances, size_t ef, uint32_t* links, size_t links_max)
      : view_(view),
        distances_(distances),
        ef_(ef),
        links_(links),
        links_max_(links_max),
        reached_from_(view.rows, kNobody) {}

  uint64_t run(std::span<const uint32_t> nodes) {
    mark_from(view_.router.front(), view_.router.front());
    uint64_t left = 0;
    for (const uint32_t row : nodes) {
      if (is_reached(row)) continue;
      const uint32_t near = attach(row);
      if (near == kNobody) {
        ++left;
      } else {
        mark_from(row, near);
      }
    }
    return left;
  }

 private:
  static constexpr uint32_t kNobody = std::numeric_limits<uint32_t>::max();

  bool is_reached(uint32_t row) const { return reached_from_[row] != kNobody; }

  void mark_from(uint32_t start, uint32_t reached_from) {
    std::vector<uint32_t> todo = {start};
    reached_from_[start] = reached_from;
    while (!todo.empty()) {
      const uint32_t row = todo.back();
      todo.pop_back();
      const uint32_t* links = view_.links_of(row);
      for (size_t i = 0; i < view_.link_stride && links[i] != row; ++i) {
        if (is_reached(links[i])) continue;
        reached_from_[links[i]] = row;
        todo.push_back(links[i]);
      }
    }
  }

  // Gives `row` a place among the links of a near row that is reached: a free one, or that of a link which can be
  // spared. Returns the near row, or kNobody.
  uint32_t attach(uint32_t row) {
    distances_.set_row(row);
    for (size_t ef = ef_;; ef *= 4) {
      walker_.reset(view_.rows, std::min<size_t>(ef, view_.rows));
      (void)walker_.seed(distances_, view_.router.data(), view_.router.size());
      (void)walker_.walk(view_, distances_);
      const Pool& pool = walker_.pool();
      for (size_t i = 0; i < pool.size(); ++i) {
        if (is_reached(row_of(pool[i])) && add_link(row_of(pool[i]), row)) return row_of(pool[i]);
      }
      for (size_t i = 0; i < pool.size(); ++i) {
        if (is_reached(row_of(pool[i])) && replace_link(row_of(pool[i]), row)) return row_of(pool[i]);
      }
      if (ef >= view_.rows) return kNobody;
    }
  }

  bool add_link(uint32_t from, uint32_t to) {
    uint32_t* links = links_ + size_t{from} * view_.link_stride;
    const auto used = static_cast<size_t>(std::find(links, links + view_.link_stride, from) - links);
    if (from == to || used >= links_max_) return false;
    links[used] = to;
    return true;
  }

  // The last of the links of `from`, all of which are used, that leads to a row which is reached from elsewhere.
  bool replace_link(uint32_t from, uint32_t to) {
    uint32_t* links = links_ + size_t{from} * view_.link_stride;
    for (uint32_t* link = links + links_max_; link-- > links;) {
      if (reached_from_[*link] == from) continue;
      *link = to;
      return true;
    }
    return false;
  }

  const GraphView& view_;
  RowDistances distances_;
  const size_t ef_;
  uint32_t* links_;
  const size_t links_max_;
  Walker walker_;
  std::vector<uint32_t> reached_from_;  // per row the one whose link led to it first, or kNobody
};

}  // namespace

uint64_t connect_rows(const GraphView& view, std::span<const uint32_t> nodes, const BuildDistances& distances,
                      size_t ef, uint32_t* links, size_t links_max) {
  return Connector(view, distances, ef, links, links_max).run(nodes);
}

}  // namespace ehub::hnsw
