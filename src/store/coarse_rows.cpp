#include "store/coarse_rows.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "hnsw/bounded_codes.h"
#include "hnsw/code.h"
#include "hnsw/team.h"

namespace ehub {
namespace {

constexpr uint64_t kBlockBytes = 512 << 10;  // of vectors

// Rows of the first block that the mean is of.
constexpr size_t kMeanRows = 1024;

// All coarse rows together may take one part in so many of the memory that is available.
constexpr uint64_t kMemoryShare = 8;

// Codes by which more than one in so many rows of a block is read in vain cost about what they save.
constexpr size_t kVainShare = 8;
// Such a block costs two blocks' worth of trust, another one gains one; without any, one block in so many is tried.
constexpr int kTrustMost = 32;
constexpr int kTrustFirst = 16;
constexpr uint32_t kTryOneIn = 32;

constinit MemoryBudget all_coarse_rows(kMemoryShare);

}  // namespace

bool CoarseRows::suit(const Schema& schema) {
  return 2 * hnsw::BoundedCodes::bytes(schema.dims, 64) <= 64 * schema.row_bytes();
}

Row CoarseRows::block_rows(const Schema& schema) {
  return static_cast<Row>(std::max<uint64_t>(64, (kBlockBytes / schema.row_bytes()) & ~uint64_t{63}));
}

CoarseRows::CoarseRows(const Schema& schema, MemoryBudget& budget)
    : schema_(schema), block_rows_(block_rows(schema)), budget_(budget), trust_(kTrustFirst) {}

CoarseRows::~CoarseRows() { budget_.give(made_.size() * block_bytes()); }

uint64_t CoarseRows::block_bytes() const { return hnsw::BoundedCodes::bytes(schema_.dims, block_rows_); }

const hnsw::BoundedCodes* CoarseRows::block(size_t block) const {
  const Place* place = places_.peek(block);
  return place == nullptr ? nullptr : place->codes.load(std::memory_order_acquire);
}

// Whatever goes wrong leaves the rows to be read as they are.
void CoarseRows::make(size_t block, const float* rows) {
  (void)guarded([&]() -> Status {
    Place& place = place_of(block);
    if (place.is_taken.exchange(true, std::memory_order_relaxed)) return {};
    if (!make_at(place, rows)) place.is_taken.store(false, std::memory_order_relaxed);
    return {};
  });
}

CoarseRows::Place& CoarseRows::place_of(size_t block) {
  const std::lock_guard lock(mutex_);
  return *places_.grow(block);
}

bool CoarseRows::make_at(Place& place, const float* rows) {
  if (!budget_.take(block_bytes())) return false;
  bool is_made = false;
  (void)guarded([&]() -> Status {
    const hnsw::Encoder* encoder = encoder_from(rows);
    if (encoder == nullptr) return {};
    std::unique_ptr<const hnsw::BoundedCodes> codes = hnsw::BoundedCodes::make(*encoder, rows, block_rows_);
    if (codes == nullptr) return {};
    const std::lock_guard lock(mutex_);
    made_.push_back(std::move(codes));
    place.codes.store(made_.back().get(), std::memory_order_release);
    is_made = true;
    return {};
  });
  if (is_made) {
    blocks_made_.fetch_add(1, std::memory_order_relaxed);
  } else {
    budget_.give(block_bytes());
  }
  return is_made;
}

// The first one learns it; who comes meanwhile goes without.
const hnsw::Encoder* CoarseRows::encoder_from(const float* rows) {
  if (const hnsw::Encoder* known = encoder()) return known;
  if (is_learning_.exchange(true, std::memory_order_relaxed)) return nullptr;
  const Status status = guarded([&]() -> Status {
    hnsw::Team alone(1);
    learned_ = std::make_unique<const hnsw::Encoder>(
        hnsw::Encoder::learn_mean(schema_.metric, rows, std::min(block_rows_, kMeanRows), schema_.dims, alone));
    return {};
  });
  if (status.ok()) {
    encoder_.store(learned_.get(), std::memory_order_release);
  } else {
    is_learning_.store(false, std::memory_order_relaxed);
  }
  return encoder();
}

void CoarseRows::note(size_t rows, size_t ruled_out, size_t in_vain) {
  judged_.fetch_add(rows, std::memory_order_relaxed);
  ruled_out_.fetch_add(ruled_out, std::memory_order_relaxed);
  const int trust = trust_.load(std::memory_order_relaxed);
  const int next = in_vain * kVainShare > rows ? std::max(0, trust - 2) : std::min(kTrustMost, trust + 1);
  if (next != trust) trust_.store(next, std::memory_order_relaxed);
}

bool CoarseRows::are_worth_reading() const {
  if (trust_.load(std::memory_order_relaxed) > 0) return true;
  return refusals_.fetch_add(1, std::memory_order_relaxed) % kTryOneIn == 0;
}

std::shared_ptr<CoarseRows> CoarseRowsPlace::load() const {
  const std::lock_guard lock(mutex_);
  return rows_;
}

std::shared_ptr<CoarseRows> CoarseRowsPlace::load_or_make(const Schema& schema) {
  const std::lock_guard lock(mutex_);
  if (rows_ == nullptr) {
    (void)guarded([&]() -> Status {
      rows_ = std::make_shared<CoarseRows>(schema, coarse_memory());
      return {};
    });
    is_taken_ = rows_ != nullptr;
  }
  return rows_;
}

void CoarseRowsPlace::store(std::shared_ptr<CoarseRows> rows) {
  const std::lock_guard lock(mutex_);
  rows_.swap(rows);
  is_taken_ = rows_ != nullptr;
}

MemoryBudget& coarse_memory() { return all_coarse_rows; }

}  // namespace ehub
