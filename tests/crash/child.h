// Runs an attack in a forked child, so that a crash, a failed assertion or a hang of the engine becomes a finding that
// names its place, and not the end of the test run.
//
// The child notes where it is in memory shared with the parent; when it dies, or stays at one place for too long, the
// note is what reproduces it.
//
// Thread-safety: the caller's other threads do not exist in the child; it must not wait for them.

#pragma once

#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

extern "C" void __gcov_dump() __attribute__((weak));  // there in a coverage build

namespace ehub::crash {

// What an attack tried and found.
struct Report {
  uint64_t points = 0;                // situations checked
  uint64_t images = 0;                // different disks among them
  std::vector<std::string> failures;  // each begins with the seed that reproduces it

  void add(const Report& other) {
    points += other.points;
    images += other.images;
    failures.insert(failures.end(), other.failures.begin(), other.failures.end());
  }
};

inline constexpr unsigned kPlaceSecondsMax = 120;  // a place takes milliseconds; the machine may be busy

// One line in memory that outlives the child: the place where it is.
class Note {
 public:
  Note() {
    void* page = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) std::abort();
    text_ = static_cast<char*>(page);
  }
  ~Note() { ::munmap(text_, kBytes); }
  Note(const Note&) = delete;
  Note& operator=(const Note&) = delete;

  // The child has now so much time again.
  void set(const std::string& place) {
    std::snprintf(text_, kBytes, "%s", place.c_str());
    ::alarm(kPlaceSecondsMax);
  }
  std::string get() const { return text_; }

 private:
  static constexpr size_t kBytes = 4096;
  char* text_;
};

inline constexpr size_t kFailuresMax = 20;  // of one attack; more of them say no more

inline std::string encode(const Report& report) {
  std::string text = std::to_string(report.points) + " " + std::to_string(report.images) + "\n";
  for (const std::string& failure : report.failures) text += failure + "\n";
  return text;
}

inline Report decode(const std::string& text) {
  std::istringstream in(text);
  Report report;
  in >> report.points >> report.images;
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) report.failures.push_back(line);
  return report;
}

inline std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t n;
  while ((n = ::read(fd, buffer, sizeof(buffer))) > 0 || (n < 0 && errno == EINTR)) {
    if (n > 0) text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

[[noreturn]] inline void end_child(int fd, const Report& report) {
  const std::string text = encode(report);
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  if (__gcov_dump != nullptr) __gcov_dump();
  ::_exit(0);
}

// Keeps freed memory for the next simulated disk: to give it back and to fault it in again costs more than all else.
inline void keep_memory() {
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);  // more is refused
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  ::mallopt(M_TOP_PAD, 64 << 20);
}

inline std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return signal == SIGALRM ? "hangs" : "dies by signal " + std::to_string(signal);
  }
  return "exits with code " + std::to_string(WEXITSTATUS(status));
}

// What `attack` reports from a child; if it dies, a report of that.
inline Report run_in_child(const std::function<Report(Note&)>& attack) {
  Note note;
  int ends[2];
  if (::pipe(ends) != 0) return {0, 0, {"cannot make a pipe"}};
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    std::signal(SIGALRM, SIG_DFL);
    keep_memory();
    note.set("the start");
    end_child(ends[1], attack(note));
  }
  ::close(ends[1]);
  Report report = decode(read_all(ends[0]));
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) report.failures.push_back(note.get() + ": the process " + how_it_ended(status));
  return report;
}

}  // namespace ehub::crash
