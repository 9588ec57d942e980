#include "store/deletion_vector.h"

#include <algorithm>

namespace ehub {
namespace {

// Signed differences as small unsigned numbers: 0, -1, 1, -2 ... become 0, 1, 2, 3 ...
uint64_t zigzag(uint64_t difference) { return (difference << 1) ^ (0 - (difference >> 63)); }
uint64_t unzigzag(uint64_t value) { return (value >> 1) ^ (0 - (value & 1)); }

}  // namespace

bool DeletionVector::kill(Row row, Seq seq) {
  EHUB_ASSERT(seq != 0);
  std::atomic<Seq>* death_seq = deaths_.grow(row);
  if (death_seq->load(std::memory_order_relaxed) != 0) return false;
  death_seq->store(seq, std::memory_order_release);
  dead_count_.fetch_add(1, std::memory_order_release);
  return true;
}

void DeletionVector::encode(Row rows, Seq seq, ByteWriter& out) const {
  // The count comes first but is known last; a second pass could count deaths that happen meanwhile.
  ByteWriter entries;
  uint64_t count = 0;
  uint64_t next = 0;  // the first row whose gap is not written yet
  Seq previous_seq = 0;
  uint64_t run = 0;
  for (uint64_t row = 0; row < rows; row += run) {
    run = std::min<uint64_t>(deaths_.run_length(row), rows - row);
    const std::atomic<Seq>* deaths = deaths_.peek(row);
    for (uint64_t i = 0; deaths != nullptr && i < run; ++i) {
      const Seq death_seq = deaths[i].load(std::memory_order_acquire);
      if (death_seq == 0 || death_seq > seq) continue;
      entries.varint(row + i - next);
      entries.varint(zigzag(death_seq - previous_seq));
      next = row + i + 1;
      previous_seq = death_seq;
      ++count;
    }
  }
  out.varint(count);
  out.raw(entries.data(), entries.size());
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

}  // namespace ehub
