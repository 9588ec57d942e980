#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace ehub {

void assertion_failed(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, expression);
  std::abort();
}

}  // namespace ehub
