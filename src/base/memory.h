// How much memory the process may still take.
//
// Thread-safety: all calls from any thread.

#pragma once

#include <cstdint>

namespace ehub {

// Bytes that can be had without pushing others out: what the kernel estimates (MemAvailable), or less if the control
// group of the process (v2) allows less. 0 if the kernel does not say.
uint64_t available_memory();

}  // namespace ehub
