// A growing array whose elements never move, so that readers need no lock while one writer appends.
//
// Chunk 0 holds 4 elements, and chunk c >= 1 the 2^(c+1) elements from index 2^(c+1) on. A chunk is allocated zeroed
// when the writer first asks for one of its elements; untouched pages of a large chunk cost no memory.
//
// Thread-safety: one writer calls grow(); any thread reads elements whose writing happened before something it has
// acquired (a published count or sequence number). peek() may be called for any index at any time.

#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>

namespace ehub {

template <typename T>
class ChunkedArray {
  static_assert(std::is_trivially_destructible_v<T>, "chunks are freed, not destroyed");

 public:
  // `width`: how many T make one element (a row of floats, say). Elements are contiguous within a chunk.
  explicit ChunkedArray(size_t width = 1) : width_(width) {}
  ~ChunkedArray() {
    for (auto& chunk : chunks_) std::free(chunk.load(std::memory_order_relaxed));
  }
  ChunkedArray(const ChunkedArray&) = delete;
  ChunkedArray& operator=(const ChunkedArray&) = delete;

  // The element, its chunk allocated if need be. Writer only. Throws bad_alloc and changes nothing when memory is
  // exhausted.
  T* grow(uint64_t index) {
    const unsigned chunk = chunk_of(index);
    T* base = chunks_[chunk].load(std::memory_order_relaxed);
    if (base == nullptr) {
      base = static_cast<T*>(std::calloc(chunk_size(chunk) * width_, sizeof(T)));
      if (base == nullptr) throw std::bad_alloc();
      chunks_[chunk].store(base, std::memory_order_release);
    }
    return base + (index - chunk_start(chunk)) * width_;
  }
  // Allocates what elements below `size` need, so that grow() of them does not throw.
  void reserve(uint64_t size) {
    for (uint64_t index = 0; index < size; index += run_length(index)) grow(index);
  }
  // The element, or null if its chunk was never allocated.
  T* peek(uint64_t index) const {
    const unsigned chunk = chunk_of(index);
    T* base = chunks_[chunk].load(std::memory_order_acquire);
    return base == nullptr ? nullptr : base + (index - chunk_start(chunk)) * width_;
  }
  // Requires: grow(index) happened before.
  T* at(uint64_t index) const { return peek(index); }
  // How many elements from `index` on are contiguous in memory.
  static uint64_t run_length(uint64_t index) {
    const unsigned chunk = chunk_of(index);
    return chunk_start(chunk) + chunk_size(chunk) - index;
  }

 private:
  static constexpr unsigned kChunks = 31;  // indexes below 2^32
  static unsigned chunk_of(uint64_t index) { return index < 4 ? 0 : static_cast<unsigned>(std::bit_width(index)) - 2; }
  static uint64_t chunk_start(unsigned chunk) { return chunk == 0 ? 0 : uint64_t{1} << (chunk + 1); }
  static uint64_t chunk_size(unsigned chunk) { return chunk == 0 ? 4 : uint64_t{1} << (chunk + 1); }

  std::atomic<T*> chunks_[kChunks] = {};
  const size_t width_;
};

}  // namespace ehub
