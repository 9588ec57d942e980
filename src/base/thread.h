// What a thread needs before it can throw.

#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <exception>
#include <memory>
#include <new>

namespace ehub {

// Makes what C++ exceptions need in each thread. It is made when a thread first throws otherwise, and if that is
// because memory is exhausted, there is none for it, and the C library ends the process. Next to nothing once it is
// made.
inline void ready_to_throw() {
  // The compiler may not leave the call out.
  const volatile int none = std::uncaught_exceptions();
  (void)none;
}

// The same for a thread of the engine's own, which may start when memory is exhausted: whoever starts it makes this
// object before, and the thread, which owns it, begins with enter(), which gives back memory that was there and takes
// what it needs of that. The memory is mapped, because malloc asks the system for a new thread's first block, whatever
// is free elsewhere.
class ThreadStart {
 public:
  // Throws bad_alloc; then there is no thread to be had.
  ThreadStart() : spare_(mmap(nullptr, kSpareBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (spare_.get() == MAP_FAILED) throw std::bad_alloc();
  }

  void enter() {
    spare_.reset();
    ready_to_throw();
  }

 private:
  static constexpr size_t kSpareBytes = 64 << 10;
  struct Unmap {
    void operator()(void* memory) const {
      if (memory != MAP_FAILED) munmap(memory, kSpareBytes);
    }
  };

  std::unique_ptr<void, Unmap> spare_;
};

}  // namespace ehub
