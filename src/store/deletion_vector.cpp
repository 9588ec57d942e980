#include "store/deletion_vector.h"

#include <algorithm>
#include <utility>

#include "store/segment.h"

namespace ehub {
namespace {

// Signed differences as small unsigned numbers: 0, -1, 1, -2 ... become 0, 1, 2, 3 ...
uint64_t zigzag(uint64_t difference) { return (difference << 1) ^ (0 - (difference >> 63)); }
uint64_t unzigzag(uint64_t value) { return (value >> 1) ^ (0 - (value & 1)); }

}  // namespace

bool WantedGaps::has(Seq died, Seq revived) const {
  if (revived > asked_at) return true;
  const auto first = std::lower_bound(times.begin(), times.end(), died);
  return first != times.end() && *first < revived;
}

Result<std::shared_ptr<DeletionVector>> DeletionVector::restored(const DeletionVector& now, const Segment& segment,
                                                                 Seq then, Seq seq, const WantedGaps* wanted) {
  EHUB_ASSERT(then < seq);
  const Result<Row> born_then = segment.rows_at(then);
  if (!born_then.ok()) return born_then.status();
  auto vector = std::make_shared<DeletionVector>();
  vector->layered_ = true;
  auto gap = now.gaps_.begin();
  for (Row row = 0; row < segment.row_count(); ++row) {
    for (; gap != now.gaps_.end() && gap->row == row; ++gap) {
      if (wanted == nullptr || wanted->has(gap->died, gap->revived)) vector->gaps_.push_back(*gap);
    }
    const Seq death_seq = now.death(row);
    const bool lived = row < born_then.value() && !now.dead_at(row, then);
    if (lived && death_seq != 0) vector->gaps_.push_back({row, death_seq, seq});
    if (!lived) vector->kill(row, death_seq != 0 ? death_seq : seq);
  }
  return vector;
}

Result<std::shared_ptr<DeletionVector>> DeletionVector::forked(const DeletionVector& now, const Segment& segment,
                                                               Seq then, Seq seq) {
  const Result<Row> born_then = segment.rows_at(then);
  if (!born_then.ok()) return born_then.status();
  auto vector = std::make_shared<DeletionVector>();
  vector->layered_ = now.layered_ || then < segment.seq_max();
  for (Row row = 0; row < segment.row_count(); ++row) {
    const bool lived = row < born_then.value() && !now.dead_at(row, then);
    if (lived) {
      vector->layered_ |= now.death(row) != 0;
    } else {
      vector->kill(row, seq);
    }
  }
  return vector;
}

// Deaths are counted before rows: a row that is added in between lives.
bool DeletionVector::is_history(const Segment& segment) const {
  const uint32_t dead = dead_count();
  return dead != 0 && dead == segment.row_count();
}

bool DeletionVector::kill(Row row, Seq seq) {
  EHUB_ASSERT(seq != 0);
  std::atomic<Seq>* death_seq = deaths_.grow(row);
  if (death_seq->load(std::memory_order_relaxed) != 0) return false;
  death_seq->store(seq, std::memory_order_release);
  // Before the count: whoever finds all rows dead must not miss the last death.
  if (last_death_.load(std::memory_order_relaxed) < seq) last_death_.store(seq, std::memory_order_release);
  dead_count_.fetch_add(1, std::memory_order_release);
  return true;
}

std::pair<const DeletionVector::Gap*, const DeletionVector::Gap*> DeletionVector::gaps_of(Row row) const {
  const auto begin =
      std::lower_bound(gaps_.begin(), gaps_.end(), row, [](const Gap& gap, Row wanted) { return gap.row < wanted; });
  auto end = begin;
  while (end != gaps_.end() && end->row == row) ++end;
  return {gaps_.data() + (begin - gaps_.begin()), gaps_.data() + (end - gaps_.begin())};
}

bool DeletionVector::in_gap(Row row, Seq seq) const {
  const auto [begin, end] = gaps_of(row);
  return std::any_of(begin, end, [seq](const Gap& gap) { return gap.died <= seq && seq < gap.revived; });
}

bool DeletionVector::lives_at_any(Row row, Seq born, const std::vector<Seq>& times) const {
  const auto any_in = [&](Seq begin, Seq end) {
    const auto first = std::lower_bound(times.begin(), times.end(), begin);
    return first != times.end() && *first < end;
  };
  Seq begin = born;
  if (!gaps_.empty()) {
    const auto [first, last] = gaps_of(row);
    for (const Gap* gap = first; gap != last; ++gap) {
      if (any_in(begin, gap->died)) return true;
      begin = gap->revived;
    }
  }
  const Seq death_seq = death(row);
  return any_in(begin, death_seq == 0 ? kSeqMax : death_seq);
}

void DeletionVector::copy_row(const DeletionVector& from, Row source, Row row) {
  layered_ |= from.layered_;
  if (const Seq death_seq = from.death(source); death_seq != 0) kill(row, death_seq);
  if (from.gaps_.empty()) return;
  const auto [begin, end] = from.gaps_of(source);
  for (const Gap* gap = begin; gap != end; ++gap) gaps_.push_back({row, gap->died, gap->revived});
}

Seq DeletionVector::death_by(Row row, Seq death_seq, Seq seq) const {
  if (death_seq != 0 && death_seq <= seq) return death_seq;
  if (gaps_.empty()) return 0;
  const auto [begin, end] = gaps_of(row);
  const Gap* gap = std::find_if(begin, end, [seq](const Gap& g) { return g.died <= seq && seq < g.revived; });
  return gap == end ? 0 : gap->died;
}

void DeletionVector::encode(Row rows, Seq seq, ByteWriter& out) const {
  // The count comes first but is known last; a second pass could count deaths that happen meanwhile.
  ByteWriter entries;
  uint64_t count = 0;
  uint64_t next = 0;  // the first row whose gap is not written yet
  Seq previous_seq = 0;
  const auto put = [&](uint64_t row, Seq death_seq) {
    entries.varint(row - next);
    entries.varint(zigzag(death_seq - previous_seq));
    next = row + 1;
    previous_seq = death_seq;
    ++count;
  };
  uint64_t run = 0;
  for (uint64_t row = 0; row < rows; row += run) {
    run = std::min<uint64_t>(deaths_.run_length(row), rows - row);
    const std::atomic<Seq>* deaths = deaths_.peek(row);
    if (deaths == nullptr && gaps_.empty()) continue;
    for (uint64_t i = 0; i < run; ++i) {
      const Seq last = deaths == nullptr ? 0 : deaths[i].load(std::memory_order_acquire);
      const Seq death_seq = death_by(static_cast<Row>(row + i), last, seq);
      if (death_seq != 0) put(row + i, death_seq);
    }
  }
  out.varint(count);
  out.raw(entries.data(), entries.size());
}

void DeletionVector::encode_gaps(Seq seq, const WantedGaps& wanted, ByteWriter& out) const {
  const auto is_kept = [&](const Gap& gap) { return gap.revived <= seq && wanted.has(gap.died, gap.revived); };
  if (!layered_) return;
  out.varint(static_cast<uint64_t>(std::count_if(gaps_.begin(), gaps_.end(), is_kept)));
  Row row = 0;
  for (const Gap& gap : gaps_) {
    if (!is_kept(gap)) continue;
    out.varint(gap.row - row);
    out.varint(gap.died);
    out.varint(gap.revived - gap.died);
    row = gap.row;
  }
}

bool DeletionVector::decode(Row rows, ByteReader& in) {
  const uint64_t count = in.varint();
  if (count > rows) return false;
  uint64_t next = 0;
  Seq seq = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t gap = in.varint();
    seq += unzigzag(in.varint());
    if (!in.ok() || gap >= rows - next || seq == 0) return false;
    if (!kill(static_cast<Row>(next + gap), seq)) return false;
    next += gap + 1;
  }
  return in.ok();
}

bool DeletionVector::decode_gaps(Row rows, ByteReader& in) {
  constexpr uint64_t kGapBytesMin = 3;
  layered_ = true;
  const uint64_t count = in.varint();
  if (!in.ok() || count > in.left() / kGapBytesMin) return false;
  gaps_.reserve(count);
  uint64_t row = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t step = in.varint();
    const Seq died = in.varint();
    const Seq lasted = in.varint();
    if (!in.ok() || step >= rows - row || died == 0 || lasted == 0 || lasted > kSeqMax - died) return false;
    row += step;
    const Gap gap = {static_cast<Row>(row), died, died + lasted};
    // A row lives between its deaths, if not for long.
    const bool again = !gaps_.empty() && gaps_.back().row == gap.row;
    if (again && died < gaps_.back().revived) return false;
    if (const Seq last = death(gap.row); last != 0 && last < gap.revived) return false;
    gaps_.push_back(gap);
  }
  return true;
}

}  // namespace ehub
