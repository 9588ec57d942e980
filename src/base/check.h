// Assertions about our own code: a failure is a bug in the engine, never in its input or in the world.
//
// They stay on in release builds: each costs one predicted branch, and going on with a broken invariant would put wrong
// bytes on disk. For the world's failures use Status; for the user's, too.

#pragma once

namespace ehub {

// Writes "file:line: expression" to stderr and aborts the process.
[[noreturn]] void assertion_failed(const char* file, int line, const char* expression);

}  // namespace ehub

#define EHUB_ASSERT(expression)                                  \
  do {                                                           \
    if (!(expression)) [[unlikely]]                              \
      ::ehub::assertion_failed(__FILE__, __LINE__, #expression); \
  } while (false)
