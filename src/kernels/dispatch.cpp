#include "kernels/dispatch.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <string_view>

#include "kernels/tables.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ehub {
namespace {

constexpr std::string_view kTierNames[] = {"scalar", "sse41", "avx2", "avx512", "avx512_vnni", "neon"};

#if defined(__x86_64__)

// Register state that the operating system saves on a task switch (XCR0). Without its part, the instructions of a tier
// fault, or lose their upper lanes, whatever the processor can do.
constexpr uint64_t kStateAvx = 0x06;     // xmm, ymm
constexpr uint64_t kStateAvx512 = 0xe6;  // and opmasks, the upper halves of zmm0-15, zmm16-31

struct Processor {
  bool sse41 = false;
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_vnni = false;
};

bool has(uint32_t word, int bit) { return (word >> bit & 1U) != 0; }

uint64_t saved_state() {
  uint32_t low = 0;   // NOLINT(misc-const-correctness): the instruction writes both
  uint32_t high = 0;  // NOLINT(misc-const-correctness)
  // _xgetbv() would need -mxsave for all of this file.
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

Processor detect() {
  Processor found;
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return found;
  found.sse41 = has(ecx, 19);
  const bool fma = has(ecx, 12);
  const bool xgetbv_enabled = has(ecx, 27);
  const bool avx = has(ecx, 28);
  if (!xgetbv_enabled || !avx || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return found;

  const uint64_t state = saved_state();
  found.avx2 = has(ebx, 5) && fma && (state & kStateAvx) == kStateAvx;
  const bool f_dq_bw_vl = has(ebx, 16) && has(ebx, 17) && has(ebx, 30) && has(ebx, 31);
  found.avx512 = found.avx2 && f_dq_bw_vl && (state & kStateAvx512) == kStateAvx512;
  found.avx512_vnni = found.avx512 && has(ecx, 11);
  return found;
}

KernelTable make_vnni_table() {
  KernelTable table = kAvx512Kernels;
  table.name = "avx512_vnni";
  table.codes = kAvx512VnniCodes;
  return table;
}

std::vector<const KernelTable*> detect_tables() {
  static const KernelTable vnni = make_vnni_table();
  std::vector<const KernelTable*> tables = {&kScalarKernels};
  const Processor processor = detect();
  if (processor.sse41) tables.push_back(&kSse41Kernels);
  if (processor.avx2) tables.push_back(&kAvx2Kernels);
  if (processor.avx512) tables.push_back(&kAvx512Kernels);
  if (processor.avx512_vnni) tables.push_back(&vnni);
  return tables;
}

#elif defined(__aarch64__)

std::vector<const KernelTable*> detect_tables() { return {&kScalarKernels, &kNeonKernels}; }

#else

std::vector<const KernelTable*> detect_tables() { return {&kScalarKernels}; }

#endif

std::atomic<const KernelTable*> selected_table{nullptr};

std::string supported_names() {
  std::string names;
  for (const KernelTable* table : supported_kernels()) names += (names.empty() ? "" : ", ") + std::string(table->name);
  return names;
}

}  // namespace

std::vector<const KernelTable*> supported_kernels() { return detect_tables(); }

const KernelTable& kernels() {
  const KernelTable* table = selected_table.load(std::memory_order_acquire);
  if (table == nullptr) {
    // Threads that race here all find the same table.
    table = supported_kernels().back();
    selected_table.store(table, std::memory_order_release);
  }
  return *table;
}

Status select_kernels(const char* name) {
  const std::string_view wanted = name == nullptr ? "" : name;
  const std::vector<const KernelTable*> tables = supported_kernels();
  for (auto table = tables.rbegin(); table != tables.rend(); ++table) {
    if (!wanted.empty() && wanted != (*table)->name) continue;
    selected_table.store(*table, std::memory_order_release);
    return {};
  }
  const bool known = std::find(std::begin(kTierNames), std::end(kTierNames), wanted) != std::end(kTierNames);
  return invalid_argument("EHUB_SIMD is \"" + std::string(wanted) + "\", which " +
                          (known ? "this machine cannot run" : "is no instruction set of ehub") +
                          "; expected one of: " + supported_names() + "; or unset it for the fastest");
}

}  // namespace ehub
