// A file system in memory that forgets, tears and fails on request; for tests, fast enough to try each crash point of
// a workload in turn.
//
// It follows file.h as PosixFileSystem does, with these rules of its own:
// - Paths begin at the root, with or without a leading slash; "." is ignored, ".." and links do not exist. The root
//   always exists; a file in a missing directory is kNotFound.
// - What is durable and what a crash may leave is told in fault_disk.h, the faults in fault_plan.h.
// - The same calls with the same seeds give the same results.
// - start_writeback() does nothing: it promises nothing, and a crash may keep unsynced bytes anyway.
// - A mapping keeps its memory for its life, also after a crash, and sees what is written until then.
//
// Counting. A call that may change the disk is a mutating call: open() that makes or empties a file, write of at least
// one byte, truncate, sync, rename, remove, sync_directory, and each step of make_directory (a directory made, or a
// parent synced). The other calls that return a Status or Result are reading calls. Calls are numbered from 0; a call
// is numbered before it is found to be possible or not. Calls that the power cut or an invalid handle refused have no
// number.
//
// Thread-safety: all calls, from any thread; each is atomic.
// Failure: as in file.h, plus the planned ones.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/fault_disk.h"
#include "io/fault_plan.h"
#include "io/file.h"

namespace ehub {

class FaultFileSystem : public FileSystem {
 public:
  // `seed` decides how much of a failing write is written.
  explicit FaultFileSystem(uint64_t seed = 0);
  ~FaultFileSystem() override;

  Result<std::unique_ptr<File>> open(const std::string& path, Mode mode) override;
  Result<std::unique_ptr<File>> open_directory(const std::string& directory) override;
  Status make_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status sync_directory(const std::string& directory) override;

  // Calls so far, since construction or the last crash(): the mutating ones, and the reading ones too if they count.
  uint64_t calls() const;
  uint64_t mutating_calls() const;
  // Whether reading calls have numbers in calls() and fail_at(). At first they do not.
  void count_reads(bool counted);

  // The power fails at mutating call `call` (in the numbers of mutating_calls()): it does nothing, or, if `torn` and it
  // is a write, it writes some of its first sectors, not all; it and every call after it, reading ones too, fail with
  // EIO until crash() turns the power on. To crash after a call, crash at the next.
  void crash_at(uint64_t call, bool torn = false);
  bool powered_off() const;
  // Call `call` (in the numbers of calls()) meets `fault`, and if `forever` every later one. Replaces the last plan.
  void fail_at(uint64_t call, Fault fault, bool forever = false);
  // Calls that a fault of fail_at() has changed; when a run leaves this at 0, its calls are exhausted.
  uint64_t faults_injected() const;
  // Forgets crash_at() and fail_at(). Does not turn the power on.
  void clear_plan();
  // What all files together may hold. A write beyond it writes what fits and fails with ENOSPC; a truncate fails.
  void set_disk_bytes_max(uint64_t bytes);

  // Ends the process that uses this file system, by a power cut unless kKillProcess, and starts the machine again:
  // open Files fail every call with EIO from now on, locks are gone, the disk holds what `model` leaves, the plan is
  // cleared and the counters are 0. The limit of the disk stays.
  void crash(CrashModel model, uint64_t seed);
  // All of this: cached and durable state, plan, counters, power; but no open file and no lock.
  std::unique_ptr<FaultFileSystem> clone() const;

  // Past the seam: not counted, no faults, no power needed.
  // Full paths of all files, sorted.
  std::vector<std::string> paths() const;
  // A number for the paths and the bytes of all files as reads show them: disks that show the same have the same.
  uint64_t fingerprint() const;
  // Bytes of a file as reads show them; kNotFound.
  Result<std::string> contents(const std::string& path) const;
  // Replaces the bytes of an existing file, cached and durable, with nothing left to sync; kNotFound. Requires: no one
  // reads a mapping of it meanwhile.
  Status set_contents(const std::string& path, std::string_view bytes);

 private:
  struct State;

  explicit FaultFileSystem(std::shared_ptr<State> state);

  std::shared_ptr<State> state_;  // shared with the open files
};

}  // namespace ehub
