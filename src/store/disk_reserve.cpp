#include "store/disk_reserve.h"

#include "base/bytes.h"

namespace ehub {
namespace {

// A log, a manifest and CURRENT, and some hundred thousand deletes.
constexpr uint64_t kReserveBytesMin = 1 << 20;

constexpr uint64_t kReserveStepBytes = 1 << 20;

uint64_t reserve_bytes(uint64_t more) { return align_up(kReserveBytesMin + more, kReserveStepBytes); }

}  // namespace

void DiskReserve::refill(uint64_t more) {
  const std::lock_guard lock(mutex_);
  (void)refill_locked(more);
}

Status DiskReserve::refill_locked(uint64_t more) {
  disk_is_full_ = false;
  const Status status = resize(reserve_bytes(more));
  if (status.ok()) {
    given_up_ = false;
  } else {
    (void)resize(0);
  }
  return status;
}

void DiskReserve::extend(uint64_t more) {
  const uint64_t wanted = reserve_bytes(more);
  if (wanted <= bytes_) return;
  const std::lock_guard lock(mutex_);
  if (bytes_ == 0 || wanted <= bytes_ || disk_is_full_) return;
  disk_is_full_ = !resize(wanted).ok();
}

bool DiskReserve::give_up() {
  const std::lock_guard lock(mutex_);
  const bool freed = bytes_ != 0 && resize(0).ok();
  if (freed) given_up_ = true;
  return freed;
}

Status DiskReserve::regain(uint64_t more) {
  if (!given_up_) return {};
  const std::lock_guard lock(mutex_);
  return given_up_ ? refill_locked(more) : Status();
}

void DiskReserve::release() { file_.reset(); }

// Never synced: what a crash makes of it is found out when it is opened again.
Status DiskReserve::resize(uint64_t bytes) {
  if (file_ == nullptr) {
    auto file = fs_.open(path_, FileSystem::Mode::kOpenOrCreate);
    if (!file.ok()) return file.status();
    file_ = std::move(file.value());
    const Result<uint64_t> size = file_->size();
    if (!size.ok()) return size.status();
    bytes_ = size.value();
  }
  if (bytes < bytes_) EHUB_RETURN_IF_ERROR(file_->truncate(bytes));
  EHUB_RETURN_IF_ERROR(file_->reserve(bytes));
  bytes_ = bytes;
  return {};
}

}  // namespace ehub
