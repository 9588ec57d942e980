// The candidates of a walk: the nearest rows found so far, sorted, each expanded once.
//
// A candidate is one integer: its distance as bits that sort like the number, then its row, then whether it has been
// expanded. So candidates are compared in one instruction, and ties go to the smaller row everywhere.
//
// Thread-safety: belongs to one thread.

#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace ehub::hnsw {

using Candidate = uint64_t;

// Bits that are ordered as the floats are. Not for NaN.
inline uint32_t ordered_bits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return bits ^ ((bits >> 31) != 0 ? 0xffffffffU : 0x80000000U);
}
inline float from_ordered_bits(uint32_t bits) {
  return std::bit_cast<float>(bits ^ ((bits >> 31) != 0 ? 0x80000000U : 0xffffffffU));
}

// Requires: row < 2^31.
inline Candidate make_candidate(float distance, uint32_t row) {
  return uint64_t{ordered_bits(distance)} << 32 | row << 1;
}
inline uint32_t row_of(Candidate candidate) { return static_cast<uint32_t>(candidate) >> 1; }
inline float distance_of(Candidate candidate) { return from_ordered_bits(static_cast<uint32_t>(candidate >> 32)); }

class Pool {
 public:
  static constexpr Candidate kNoCandidate = std::numeric_limits<Candidate>::max();

  // Empties it. Requires: capacity >= 1.
  void reset(size_t capacity) {
    if (candidates_.size() < capacity + 1) candidates_.resize(capacity + 1);
    capacity_ = capacity;
    room_ = capacity;
    size_ = 0;
    cursor_ = 0;
    wanted_ = 0;
    gathered_limit_ = kNoCandidate;
  }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  Candidate operator[](size_t i) const { return candidates_[i] & ~Candidate{1}; }

  bool is_expanded(size_t i) const { return (candidates_[i] & 1) != 0; }

  // Candidates from this one on cannot enter.
  Candidate limit() const {
    return size_ == capacity_ ? candidates_[size_ - 1] : std::numeric_limits<Candidate>::max();
  }

  // Requires: its row is not in the pool.
  void insert(Candidate candidate) {
    if (candidate >= limit()) return;
    Candidate* begin = candidates_.data();
    Candidate* at = begin;
    for (size_t left = size_; left > 0;) {
      const size_t half = left / 2;
      const bool after = at[half] < candidate;
      at = after ? at + half + 1 : at;
      left = after ? left - half - 1 : half;
    }
    std::memmove(at + 1, at, static_cast<size_t>(begin + size_ - at) * sizeof(Candidate));
    *at = candidate;
    size_ = std::min(size_ + 1, capacity_);
    cursor_ = std::min(cursor_, static_cast<size_t>(at - begin));
  }

  // insert() of rows[i] at distances[i] for each i below `n`. Which of them cannot enter is not to be foreseen, so they
  // are left out first, without a branch.
  void insert_all(const float* distances, const uint32_t* rows, size_t n) {
    constexpr size_t kPart = 64;
    for (size_t begin = 0; begin < n; begin += kPart) {
      Candidate entering[kPart];
      size_t count = 0;
      const Candidate bound = limit();
      for (size_t i = begin; i < std::min(n, begin + kPart); ++i) {
        entering[count] = make_candidate(distances[i], rows[i]);
        count += entering[count] < bound ? 1 : 0;
      }
      for (size_t i = 0; i < count; ++i) insert(entering[i]);
    }
  }

  // Takes a candidate of many, in no order: to move those behind each would take a time that grows with their square.
  // Nothing else may be called until settle() has sorted the nearest. Requires: as insert(); nothing was inserted.
  void gather(Candidate candidate) {
    if (candidate >= gathered_limit_) return;
    if (size_ == candidates_.size()) candidates_.resize(2 * size_);
    candidates_[size_++] = candidate;
    if (size_ == 2 * capacity_) keep_nearest();
  }
  void settle() {
    keep_nearest();
    std::sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(size_));
  }

  // For insert_up_to(): drops what is behind the `quota`-th that is wanted. Requires: quota >= 1.
  template <typename IsWanted>
  void keep_up_to(size_t quota, IsWanted is_wanted) {
    wanted_ = 0;
    for (size_t i = 0; i < size_; ++i) {
      if (!is_wanted(row_of(candidates_[i])) || ++wanted_ < quota) continue;
      size_ = i + 1;
      capacity_ = size_;
      cursor_ = std::min(cursor_, size_);
      return;
    }
    capacity_ = room_;
  }
  // Inserts, and keeps all up to the `quota`-th that is wanted, however many lie between, as far as there is room.
  // Requires: as insert(); keep_up_to() came before, with the same `quota`.
  template <typename IsWanted>
  void insert_up_to(size_t quota, Candidate candidate, IsWanted is_wanted) {
    if (candidate >= limit()) return;
    const bool wanted = is_wanted(row_of(candidate));
    if (wanted_ == quota && !wanted && capacity_ < room_) ++capacity_;
    if (size_ == capacity_ && is_wanted(row_of(candidates_[size_ - 1]))) --wanted_;
    insert(candidate);
    if (wanted) ++wanted_;
    capacity_ = room_;
    if (wanted_ < quota) return;
    while (!is_wanted(row_of(candidates_[size_ - 1]))) --size_;
    capacity_ = size_;
    cursor_ = std::min(cursor_, size_);
  }
  size_t room() const { return room_; }
  // Wanted ones that insert_up_to() keeps.
  size_t wanted() const { return wanted_; }

  // Takes the nearest candidate that was not expanded yet, or kNoCandidate.
  Candidate expand() {
    while (cursor_ < size_ && (candidates_[cursor_] & 1) != 0) ++cursor_;
    if (cursor_ == size_) return kNoCandidate;
    const Candidate candidate = candidates_[cursor_];
    candidates_[cursor_++] |= 1;
    return candidate;
  }
  // Calls use(row) for the next two that expand() would take, as far as they are among the next few places.
  template <typename Use>
  void peek_two(Use use) const {
    int seen = 0;
    for (size_t i = cursor_; i < std::min(cursor_ + 6, size_) && seen < 2; ++i) {
      if ((candidates_[i] & 1) != 0) continue;
      use(row_of(candidates_[i]));
      ++seen;
    }
  }

 private:
  void keep_nearest() {
    if (size_ <= capacity_) return;
    const auto last = candidates_.begin() + static_cast<ptrdiff_t>(capacity_ - 1);
    std::nth_element(candidates_.begin(), last, candidates_.begin() + static_cast<ptrdiff_t>(size_));
    gathered_limit_ = *last;
    size_ = capacity_;
  }

  std::vector<Candidate> candidates_;
  size_t capacity_ = 0;  // now; room_ at most
  size_t room_ = 0;
  size_t size_ = 0;
  size_t cursor_ = 0;  // candidates before it are expanded
  size_t wanted_ = 0;
  Candidate gathered_limit_ = kNoCandidate;  // from this one on none is gathered
};

}  // namespace ehub::hnsw
