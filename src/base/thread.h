// What every thread that the engine starts does first.

#pragma once

#include <exception>

namespace ehub {

// Makes what C++ exceptions need in each thread. It is made when a thread first throws otherwise, and if that is
// because memory is exhausted, there is none for it, and the process is ended.
inline void ready_thread() {
  // The compiler may not leave the call out.
  const volatile int none = std::uncaught_exceptions();
  (void)none;
}

}  // namespace ehub
