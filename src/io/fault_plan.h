// Counts the calls of a FaultFileSystem and decides which of them meet a fault or a power cut.
//
// Calls are numbered from 0. Reading calls have numbers only if they count; calls made without power have none.
//
// Thread-safety: none; FaultFileSystem holds its lock around each call.

#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "base/status.h"

namespace ehub {

enum class Fault : uint8_t {
  kEio,         // the call fails with EIO and does nothing
  kEnospc,      // the call fails with ENOSPC and does nothing
  kShortWrite,  // a write writes some of its first bytes, not all, and fails with ENOSPC; other calls are not affected
  kSyncLost,    // a sync of a file fails with EIO and its unsynced changes are forgotten: the cache shows them, a crash
                // takes them back, unless they are made again. sync_directory fails with EIO, its names can still be
                // synced. Other calls are not affected
};

class FaultPlan {
 public:
  enum class Call : uint8_t { kReading, kWrite, kSync, kOtherMutating };

  // What becomes of a call. The last three are for calls that can be done in part: all but kLostSync are for writes.
  enum class Verdict : uint8_t { kProceed, kEio, kEnospc, kTornWrite, kShortWrite, kLostSync };

  // Gives the call its number and its fate.
  Verdict admit(Call call);
  // The same for a call that is done whole or not at all: ok if it may proceed.
  Status check(Call call, const char* operation, const std::string& path);

  // As in FaultFileSystem.
  uint64_t calls() const { return mutating_calls_ + (reads_counted_ ? reading_calls_ : 0); }
  uint64_t mutating_calls() const { return mutating_calls_; }
  uint64_t faults_injected() const { return faults_injected_; }
  bool powered_off() const { return powered_off_; }
  void count_reads(bool counted) { reads_counted_ = counted; }
  void crash_at(uint64_t call, bool torn);
  void fail_at(uint64_t call, Fault fault, bool forever);
  void clear();

  // Power on, counters at 0, nothing planned; whether reads count is kept.
  void restart();

 private:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  Verdict cut_power(Call call);
  Verdict meet_fault(Call call);

  uint64_t mutating_calls_ = 0;
  uint64_t reading_calls_ = 0;
  uint64_t faults_injected_ = 0;
  bool reads_counted_ = false;
  bool powered_off_ = false;
  uint64_t crash_call_ = kNever;
  bool crash_tears_ = false;
  uint64_t fault_call_ = kNever;
  Fault fault_ = Fault::kEio;
  bool fault_forever_ = false;
};

}  // namespace ehub
