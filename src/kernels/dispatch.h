// Chooses the kernel table, once per process.
//
// The best tier that this CPU and operating system support (CPUID and XGETBV), unless the environment variable
// EHUB_SIMD names another: "scalar", "sse41", "avx2", "avx512", "avx512_vnni" or "neon". A name that is unknown, or a
// tier that this machine cannot run, is an error that the binding layer reports at import; it never runs an unsupported
// instruction.
//
// Thread-safety: all functions may be called from any thread.

#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/kernels.h"

namespace ehub {

// The table in use. Requires: nothing; before a successful select_kernels() it is the best supported one.
const KernelTable& kernels();

// Applies EHUB_SIMD (null or "" for "the best supported"). kInvalidArgument if it is unknown or unsupported here.
Status select_kernels(const char* name);

// The tiers this machine can run, slowest first; each may be asked for by name in tests.
std::vector<const KernelTable*> supported_kernels();

}  // namespace ehub
