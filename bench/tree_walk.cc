// What the walk over a tree costs when nothing changed: what an hourly snapshot of a million files waits for.
//
//   tree_walk [--runs N] [--attributes] FOLDER
//
// Walks FOLDER as a capture does, N times (5), without asking for attributes or content, and then runs
// `find FOLDER -printf %s` as often. Prints the fastest of each and the walk's largest memory. With
// --attributes it asks for those of each entry, which a first snapshot does. Nothing is put out of any cache:
// the first run is the one that waits for the disk.
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <limits>

#include "os/process.h"
#include "source/files/capture.h"

namespace kuramori::files {
namespace {

struct Cost {
  double seconds = std::numeric_limits<double>::max();
  double cpu_seconds = std::numeric_limits<double>::max();
};

double cpu_seconds(int who) {
  rusage used;
  ::getrusage(who, &used);
  return static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

// The fastest of `runs`.
Result<Cost> measure(int runs, int who, const std::function<Result<void>()>& work) {
  Cost best;
  for (int i = 0; i < runs; ++i) {
    const Duration begun = system_clock().steady();
    const double cpu = cpu_seconds(who);
    TRY(work());
    const Duration taken = system_clock().steady() - begun;
    best.seconds = std::min(best.seconds, std::chrono::duration<double>(taken).count());
    best.cpu_seconds = std::min(best.cpu_seconds, cpu_seconds(who) - cpu);
  }
  return best;
}

Result<void> bench(const std::string& folder, int runs, bool attributes) {
  uint64_t entries = 0, defects = 0;
  TRY_ASSIGN(Cost walk, measure(runs, RUSAGE_SELF, [&]() -> Result<void> {
               TRY_ASSIGN(auto capture, begin_capture({.paths = {folder}}, {}, silent_reporter(), {}));
               for (entries = 0;; ++entries) {
                 TRY_ASSIGN(std::optional<CaptureItem> item, capture->next());
                 if (!item) break;
                 if (attributes) TRY(capture->complete(*item));
               }
               defects = capture->defects().size();
               return capture->finish();
             }));
  rusage used;
  ::getrusage(RUSAGE_SELF, &used);
  TRY_ASSIGN(Cost find, measure(runs, RUSAGE_CHILDREN, [&]() -> Result<void> {
               TRY_ASSIGN(Finished ran, run({.argv = {"find", folder, "-printf", "%s\n"},
                                             .on_output = [](ByteView) { return Result<void>(); }}));
               if (!ran.exit.ok()) return fail(ErrorKind::kFailed, "find", ran.exit.describe());
               return {};
             }));
  fmt::print("{} entries, {} defects; largest memory {} MiB\n", entries, defects, used.ru_maxrss / 1024);
  fmt::print("walk {:.2f} s ({:.2f} s of processor), find -printf %s {:.2f} s ({:.2f} s): {:.2f} times\n",
             walk.seconds, walk.cpu_seconds, find.seconds, find.cpu_seconds, walk.seconds / find.seconds);
  return {};
}

int main_of(int count, char** arguments) {
  std::string folder;
  int runs = 5;
  bool attributes = false;
  for (int i = 1; i < count; ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--attributes") {
      attributes = true;
    } else if (argument == "--runs" && i + 1 < count) {
      runs = std::max(1, std::atoi(arguments[++i]));
    } else if (argument.starts_with("-") || !folder.empty()) {
      folder.clear();
      break;
    } else {
      folder = argument;
    }
  }
  if (folder.empty()) {
    std::fputs("tree_walk [--runs N] [--attributes] FOLDER\n", stderr);
    return 2;
  }
  Result<void> done = bench(folder, runs, attributes);
  if (done) return 0;
  fmt::print(stderr, "{}: {}\n", done.error().what, done.error().why);
  return 1;
}

}  // namespace
}  // namespace kuramori::files

int main(int count, char** arguments) {
  return kuramori::files::main_of(count, arguments);
}
