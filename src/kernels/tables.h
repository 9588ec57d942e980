// The kernel tables of this build, one per instruction set. Only dispatch.cpp and checks of single tiers need them; all
// others ask dispatch.h for the one to use.

#pragma once

#include "kernels/kernels.h"

namespace ehub {

extern const KernelTable kScalarKernels;

#if defined(__x86_64__)
extern const KernelTable kSse41Kernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const CodeKernels kAvx512VnniCodes;  // the tier "avx512_vnni" is kAvx512Kernels with these
#elif defined(__aarch64__)
extern const KernelTable kNeonKernels;
#endif

}  // namespace ehub
