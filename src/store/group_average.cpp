#include "store/group_average.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "kernels/dispatch.h"
#include "store/threads.h"

namespace ehub {
namespace {

// Members that a thread takes at a time: a part of a large group, or several small groups.
constexpr uint64_t kPartMembers = 4096;
constexpr uint64_t kTaskMembers = 4096;

// Bytes summed that a thread is worth.
constexpr uint64_t kBytesPerThread = 1 << 20;

// Rows summed together, and as many behind them are asked for: at most this many bytes, which the second-level cache
// has room for, and enough that the processor has all requests for memory open that it can.
constexpr uint64_t kBytesTogether = 64 << 10;
constexpr size_t kRowsTogether = 16;

// What a status says of a member that must be there; no other does.
constexpr const char* kMissingMember = "a member of a group is missing";

// What a group's members, or some of them, weigh together.
struct Weight {
  int64_t found = 0;
  double total = 0;
};

struct Task {
  size_t first_group;
  size_t end_group;
  uint64_t begin;  // members
  uint64_t end;
  double* part = nullptr;  // where the sum of a part of one group goes; null: whole groups
  Weight weight = {};      // of that part
};

// The members of a task that there are: their rows, and behind these so many null ones as may be asked for ahead; what
// they weigh; and how many of them are before each member.
struct Members {
  std::vector<const float*> rows;
  std::vector<double> weights;
  std::vector<uint32_t> found_before;
};

class Averaging {
 public:
  Averaging(const View& view, const Groups& groups, bool normalize, float* out, int64_t* found, MeanState* states)
      : view_(view),
        groups_(groups),
        dims_(view.schema().dims),
        together_(std::clamp<uint64_t>(kBytesTogether / view.schema().row_bytes(), 1, kRowsTogether)),
        normalize_(normalize),
        out_(out),
        found_(found),
        states_(states),
        order_(view.probing_order()) {}

  Status run(unsigned threads) {
    plan();
    const uint64_t bytes = groups_.begins[groups_.count] * view_.schema().row_bytes();
    const unsigned worth = threads_worth(bytes, kBytesPerThread, threads);
    EHUB_RETURN_IF_ERROR(run_ranges(tasks_.size(), 1, worth, [&](size_t t, size_t, unsigned) {
      return tasks_[t].part == nullptr ? sum_groups(tasks_[t]) : sum_part(tasks_[t]);
    }));
    join_parts();
    return {};
  }

  // The first member that was met of those that must be there and are not; kNoMember if there was none.
  uint64_t missing() const { return missing_; }

 private:
  uint64_t size(size_t group) const { return groups_.begins[group + 1] - groups_.begins[group]; }

  void plan() {
    size_t parts = 0;
    for (size_t g = 0; g < groups_.count; ++g) {
      if (size(g) > kPartMembers) parts += (size(g) + kPartMembers - 1) / kPartMembers;
    }
    parts_.resize(parts * dims_);
    double* part = parts_.data();
    for (size_t g = 0; g < groups_.count;) {
      g = size(g) > kPartMembers ? plan_parts(g, part) : plan_whole(g);
    }
  }
  size_t plan_parts(size_t g, double*& part) {
    const uint64_t end = groups_.begins[g + 1];
    for (uint64_t begin = groups_.begins[g]; begin < end; begin += kPartMembers, part += dims_) {
      tasks_.push_back({g, g + 1, begin, std::min(end, begin + kPartMembers), part});
    }
    return g + 1;
  }
  size_t plan_whole(size_t first) {
    size_t g = first;
    const uint64_t begin = groups_.begins[first];
    while (g < groups_.count && size(g) <= kPartMembers && groups_.begins[g] - begin < kTaskMembers) ++g;
    tasks_.push_back({first, g, begin, groups_.begins[g]});
    return g;
  }

  // Keys are looked up here and not for all tasks at once, so that what is found stays in the cache until it is used.
  Status locate(const Task& task, std::vector<Ordinal>& rows) const {
    rows.resize(task.end - task.begin);
    if (!groups_.keys.empty()) {
      return view_.locate_range(groups_.keys.from(task.begin), rows.size(), order_, rows.data());
    }
    std::copy(groups_.rows + task.begin, groups_.rows + task.end, rows.begin());
    return {};
  }
  Status collect(const Task& task, Members& members) {
    std::vector<Ordinal> rows;
    EHUB_RETURN_IF_ERROR(locate(task, rows));
    members.rows.reserve(rows.size() + together_);
    members.weights.reserve(rows.size());
    members.found_before.reserve(rows.size() + 1);
    members.found_before.push_back(0);
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i] != kNoOrdinal) {
        const Result<const float*> at = view_.vector(rows[i]);
        if (!at.ok()) return at.status();
        members.rows.push_back(at.value());
        members.weights.push_back(groups_.weights == nullptr ? 1.0 : groups_.weights[task.begin + i]);
      } else if (groups_.needs_all) {
        return lacks(task.begin + i);
      }
      members.found_before.push_back(static_cast<uint32_t>(members.rows.size()));
    }
    members.rows.resize(members.rows.size() + together_, nullptr);
    return {};
  }
  Status lacks(uint64_t member) {
    uint64_t first = missing_.load();
    while (member < first && !missing_.compare_exchange_weak(first, member)) {
    }
    return not_found(kMissingMember);
  }

  // Adds those that there are, the `first` of them to before the `end`.
  Weight add(const Members& members, size_t first, size_t end, double* sum) const {
    Weight weight{static_cast<int64_t>(end - first), 0};
    for (size_t i = first; i < end; ++i) weight.total += members.weights[i];
    for (; first < end; first += together_) {
      const float* const* rows = members.rows.data() + first;
      const size_t count = std::min(together_, end - first);
      kernels().accumulate(rows, members.weights.data() + first, count, dims_, rows + together_, sum);
    }
    return weight;
  }

  Status sum_groups(const Task& task) {
    Members members;
    EHUB_RETURN_IF_ERROR(collect(task, members));
    std::vector<double> sum(dims_);
    const auto found_before = [&](uint64_t member) { return members.found_before[member - task.begin]; };
    for (size_t g = task.first_group; g < task.end_group; ++g) {
      std::fill(sum.begin(), sum.end(), 0.0);
      const Weight weight =
          add(members, found_before(groups_.begins[g]), found_before(groups_.begins[g + 1]), sum.data());
      finish(g, weight, sum.data());
    }
    return {};
  }
  Status sum_part(Task& task) {
    Members members;
    EHUB_RETURN_IF_ERROR(collect(task, members));
    task.weight = add(members, 0, members.weights.size(), task.part);
    return {};
  }
  void join_parts() const {
    for (size_t t = 0; t < tasks_.size();) {
      if (tasks_[t].part == nullptr) {
        ++t;
        continue;
      }
      const size_t g = tasks_[t].first_group;
      double* sum = tasks_[t].part;
      Weight weight = tasks_[t].weight;
      for (++t; t < tasks_.size() && tasks_[t].first_group == g; ++t) {
        weight.found += tasks_[t].weight.found;
        weight.total += tasks_[t].weight.total;
        for (size_t d = 0; d < dims_; ++d) sum[d] += tasks_[t].part[d];
      }
      finish(g, weight, sum);
    }
  }

  void finish(size_t g, const Weight& weight, const double* sum) const {
    float* out = out_ + g * dims_;
    found_[g] = weight.found;
    states_[g] = state_of(weight);
    if (states_[g] == MeanState::kOk) states_[g] = write_mean(sum, weight.total, out);
    if (states_[g] != MeanState::kOk) std::fill_n(out, dims_, 0.0F);
  }
  static MeanState state_of(const Weight& weight) {
    if (weight.found == 0) return MeanState::kEmpty;
    return weight.total == 0 || !std::isfinite(weight.total) ? MeanState::kNoWeight : MeanState::kOk;
  }
  MeanState write_mean(const double* sum, double divisor, float* out) const {
    if (normalize_) {
      double largest = 0;
      for (size_t d = 0; d < dims_; ++d) largest = std::max(largest, std::abs(sum[d]));
      if (largest == 0) return MeanState::kZero;
      double squares = 0;  // of what is at most 1, so that none overflows
      for (size_t d = 0; d < dims_; ++d) squares += sum[d] / largest * (sum[d] / largest);
      divisor = std::copysign(largest * std::sqrt(squares), divisor);
    }
    // A quotient rounded twice is still as good as exact to a float32.
    const double factor = 1.0 / divisor;
    if (std::isfinite(factor)) {
      kernels().scale(sum, dims_, factor, out);
    } else {
      for (size_t d = 0; d < dims_; ++d) out[d] = static_cast<float>(sum[d] / divisor);
    }
    return kernels().all_finite(out, dims_) ? MeanState::kOk : MeanState::kTooLarge;
  }

  const View& view_;
  const Groups& groups_;
  const size_t dims_;
  const size_t together_;  // rows
  const bool normalize_;
  float* out_;
  int64_t* found_;
  MeanState* states_;
  const std::vector<size_t> order_;  // in which the segments are asked for keys
  std::atomic<uint64_t> missing_ = kNoMember;
  std::vector<Task> tasks_;
  std::vector<double> parts_;
};

}  // namespace

Status average_groups(const View& view, const Groups& groups, bool normalize, unsigned threads, float* out,
                      int64_t* found, MeanState* states, uint64_t* missing) {
  Averaging averaging(view, groups, normalize, out, found, states);
  Status status = averaging.run(threads);
  // A thread may have met a missing member behind the failure that counts.
  if (missing != nullptr) *missing = status.message() == kMissingMember ? averaging.missing() : kNoMember;
  return status;
}

Status average_partitions(const View& view, uint32_t partitions, bool normalize, float* out, int64_t* found,
                          MeanState* states) {
  const Result<std::vector<Ordinal>> visible = view.visible_rows();
  if (!visible.ok()) return visible.status();
  const Result<std::vector<uint64_t>> counts = view.partition_counts(partitions);
  if (!counts.ok()) return counts.status();
  // Places of the rows sorted by partition: those of partition p begin at ends[p - 1] before they are filled in.
  std::vector<uint64_t> begins(size_t{partitions} + 1, 0);
  for (uint32_t p = 1; p <= partitions; ++p) begins[p] = begins[p - 1] + counts.value()[p];
  std::vector<uint64_t> next(begins.begin(), begins.end());
  std::vector<Ordinal> rows(begins.back());
  for (const Ordinal row : visible.value()) {
    const Result<uint32_t> label = view.partition(row);
    if (!label.ok()) return label.status();
    if (label.value() != 0 && label.value() <= partitions) rows[next[label.value() - 1]++] = row;
  }
  return average_groups(view, {rows.data(), nullptr, begins.data(), partitions}, normalize, 0, out, found, states);
}

}  // namespace ehub
