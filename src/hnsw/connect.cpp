#include "hnsw/connect.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "hnsw/walk.h"

namespace ehub::hnsw {
namespace {

// The narrowest search that anyone asks for.
constexpr size_t kNarrowEf = 10;

// Rows that are missed are looked for again when they have their new links, which change the ways of others.
constexpr int kRounds = 4;

constexpr size_t kTaskRows = 64;

bool add_link(const GraphView& view, uint32_t* all_links, size_t links_max, uint32_t from, uint32_t to) {
  uint32_t* links = all_links + size_t{from} * view.link_stride;
  const auto used = static_cast<size_t>(std::find(links, links + view.link_stride, from) - links);
  if (from == to || used >= links_max) return false;
  links[used] = to;
  return true;
}

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
        const uint32_t near = row_of(pool[i]);
        if (is_reached(near) && add_link(view_, links_, links_max_, near, row)) return near;
      }
      for (size_t i = 0; i < pool.size(); ++i) {
        if (is_reached(row_of(pool[i])) && replace_link(row_of(pool[i]), row)) return row_of(pool[i]);
      }
      if (ef >= view_.rows) return kNobody;
    }
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

// Looks for rows as a search does.
class Seeker {
 public:
  Seeker(const GraphView& view, const BuildDistances& distances, const CodeSet& codes)
      : view_(view), distances_(distances, codes) {}

  // Empty if the row is found, else the way that was taken instead, nearest first.
  std::vector<Candidate> seek(uint32_t row) {
    distances_.set_row(row);
    walker_.reset(view_.rows, kEntries);
    (void)walker_.seed(distances_, view_.router.data(), view_.router.size());
    const Pool entries = walker_.pool();
    walker_.reset(view_.rows, std::min<size_t>(kNarrowEf, view_.rows));
    for (size_t i = 0; i < entries.size(); ++i) walker_.seed(row_of(entries[i]), distance_of(entries[i]));
    // Nearest of all when its own links are seen, which lead to the nearest there are, it will not be pushed out.
    (void)walker_.walk_to(view_, distances_, row);
    for (size_t i = 0; i < walker_.pool().size(); ++i) {
      if (row_of(walker_.pool()[i]) == row) return {};
    }
    std::vector<Candidate> way = walker_.expanded();
    std::sort(way.begin(), way.end());
    return way;
  }

 private:
  const GraphView& view_;
  RowDistances distances_;
  Walker walker_;
};

}  // namespace

uint64_t connect_rows(const GraphView& view, std::span<const uint32_t> nodes, const BuildDistances& distances,
                      size_t ef, uint32_t* links, size_t links_max) {
  return Connector(view, distances, ef, links, links_max).run(nodes);
}

void make_findable(const GraphView& view, std::span<const uint32_t> nodes, const BuildDistances& distances,
                   const CodeSet& walk_codes, Team& team, uint32_t* links, size_t links_max) {
  std::vector<Seeker> seekers(team.size(), Seeker(view, distances, walk_codes));
  std::vector<uint32_t> sought(nodes.begin(), nodes.end());
  for (int round = 0; round < kRounds && !sought.empty(); ++round) {
    std::vector<std::vector<Candidate>> ways(sought.size());
    team.run(sought.size(), kTaskRows, [&](size_t begin, size_t end, unsigned worker) {
      for (size_t i = begin; i < end; ++i) ways[i] = seekers[worker].seek(sought[i]);
    });
    std::vector<uint32_t> missed;
    for (size_t i = 0; i < sought.size(); ++i) {
      if (ways[i].empty()) continue;
      missed.push_back(sought[i]);
      for (const Candidate candidate : ways[i]) {
        if (add_link(view, links, links_max, row_of(candidate), sought[i])) break;
      }
    }
    sought.swap(missed);
  }
}

}  // namespace ehub::hnsw
