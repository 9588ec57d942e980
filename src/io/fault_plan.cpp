#include "io/fault_plan.h"

#include <cerrno>

#include "base/check.h"

namespace ehub {

FaultPlan::Verdict FaultPlan::admit(Call call) {
  if (powered_off_) return Verdict::kEio;
  const bool mutating = call != Call::kReading;
  const uint64_t number = calls();
  const uint64_t mutating_number = mutating_calls_;
  ++(mutating ? mutating_calls_ : reading_calls_);
  if (mutating && mutating_number == crash_call_) return cut_power(call);
  const bool numbered = mutating || reads_counted_;
  const bool planned = number == fault_call_ || (number > fault_call_ && fault_forever_);
  return numbered && planned ? meet_fault(call) : Verdict::kProceed;
}

FaultPlan::Verdict FaultPlan::cut_power(Call call) {
  powered_off_ = true;
  return crash_tears_ && call == Call::kWrite ? Verdict::kTornWrite : Verdict::kEio;
}

FaultPlan::Verdict FaultPlan::meet_fault(Call call) {
  if (fault_ == Fault::kShortWrite && call != Call::kWrite) return Verdict::kProceed;
  if (fault_ == Fault::kSyncLost && call != Call::kSync) return Verdict::kProceed;
  ++faults_injected_;
  switch (fault_) {
    case Fault::kEio:
      return Verdict::kEio;
    case Fault::kEnospc:
      return Verdict::kEnospc;
    case Fault::kShortWrite:
      return Verdict::kShortWrite;
    case Fault::kSyncLost:
      return Verdict::kLostSync;
  }
  EHUB_ASSERT(!"a fault");
}

Status FaultPlan::check(Call call, const char* operation, const std::string& path) {
  const Verdict verdict = admit(call);
  if (verdict == Verdict::kProceed) return {};
  return io_error(operation, path, verdict == Verdict::kEnospc ? ENOSPC : EIO);
}

void FaultPlan::crash_at(uint64_t call, bool torn) {
  crash_call_ = call;
  crash_tears_ = torn;
}

void FaultPlan::fail_at(uint64_t call, Fault fault, bool forever) {
  fault_call_ = call;
  fault_ = fault;
  fault_forever_ = forever;
}

void FaultPlan::clear() { crash_call_ = fault_call_ = kNever; }

void FaultPlan::restart() {
  const bool reads_counted = reads_counted_;
  *this = FaultPlan();
  reads_counted_ = reads_counted;
}

}  // namespace ehub
