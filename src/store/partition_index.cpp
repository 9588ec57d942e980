#include "store/partition_index.h"

#include <algorithm>
#include <mutex>

#include "store/segment.h"

namespace ehub {
namespace {

// Labels read at a time.
constexpr Row kLabels = 16'384;

}  // namespace

void PartitionIndex::add(const uint32_t* labels, Row begin, Row end) {
  uint32_t number = 0;
  RowSet* members = nullptr;
  for (Row row = begin; row < end; ++row) {
    const uint32_t label = labels[row - begin];
    if (label == 0) continue;
    if (label != number) {
      members = &members_[label];
      number = label;
    }
    members->add(row);
  }
}

// Where memory runs out in the middle, the same rows are added again later, which changes nothing that is asked.
Status PartitionIndex::cover(const Segment& segment, Row rows) {
  if (covered_ >= rows) return {};
  std::vector<uint32_t> labels(std::min(kLabels, rows - covered_));
  while (covered_ < rows) {
    const Row n = std::min(kLabels, rows - covered_);
    EHUB_RETURN_IF_ERROR(segment.labels(covered_, n, labels.data()));
    add(labels.data(), covered_, covered_ + n);
    covered_ += n;
  }
  for (auto& [number, members] : members_) members.condense(covered_);
  return {};
}

Status PartitionIndex::mark(const Segment& segment, uint32_t number, Row rows, std::vector<uint64_t>& bitmap) {
  std::shared_lock shared(mutex_);
  if (covered_ < rows) {
    shared.unlock();
    {
      const std::unique_lock alone(mutex_);
      EHUB_RETURN_IF_ERROR(cover(segment, rows));
    }
    shared.lock();
  }
  if (const auto found = members_.find(number); found != members_.end()) found->second.mark(rows, bitmap);
  return {};
}

Status PartitionIndex::count_all(const Segment& segment) {
  {
    const std::shared_lock shared(mutex_);
    if (covered_ == segment.row_count() && counts_.size() == members_.size()) return {};
  }
  const std::unique_lock alone(mutex_);
  EHUB_RETURN_IF_ERROR(cover(segment, segment.row_count()));
  for (const auto& [number, members] : members_) counts_[number] = members.count();
  return {};
}

Result<uint64_t> PartitionIndex::count(const Segment& segment, uint32_t number) {
  EHUB_RETURN_IF_ERROR(count_all(segment));
  const std::shared_lock shared(mutex_);
  const auto found = counts_.find(number);
  return found == counts_.end() ? 0 : found->second;
}

Result<std::vector<uint32_t>> PartitionIndex::with_rows(const Segment& segment, uint64_t rows_min, uint64_t rows_max) {
  EHUB_RETURN_IF_ERROR(count_all(segment));
  const std::shared_lock shared(mutex_);
  std::vector<uint32_t> numbers;
  for (const auto& [number, count] : counts_) {
    if (count >= rows_min && count <= rows_max) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

}  // namespace ehub
