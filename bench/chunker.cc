// How fast content is cut into chunks on one processor, without reading, hashing or storing it: ./dev bench
// chunker.
//
//   chunker [--json]
//
// Random data in memory; the median of eleven runs over it, by seconds of processor. The public rule alone is
// shown beside it.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "codec/cut_candidates.h"
#include "vault/chunker.h"

namespace kuramori {
namespace {

constexpr size_t kBytes = size_t{256} << 20;
constexpr size_t kRuns = 11;

Bytes noise() {
  Bytes bytes(kBytes);
  uint64_t seed = 1;
  for (size_t at = 0; at < kBytes; at += sizeof seed) {
    seed += 0x9e3779b97f4a7c15;
    uint64_t mixed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    mixed ^= mixed >> 31;
    std::memcpy(bytes.data() + at, &mixed, sizeof mixed);
  }
  return bytes;
}

// Of this thread: what others do on the machine does not count.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

template <class Work>
double gigabytes_a_second(const Work& work) {
  std::array<double, kRuns> speeds{};
  for (double& speed : speeds) {
    const double begin = processor_seconds();
    work();
    speed = static_cast<double>(kBytes) / (processor_seconds() - begin) / 1e9;
  }
  std::ranges::sort(speeds);
  return speeds[kRuns / 2];
}

int run(bool json) {
  const Bytes data = noise();
  size_t chunks = 0, places = 0;
  Chunker chunker(KeyBundle::new_owner("bench", system_random()));
  const double cutting = gigabytes_a_second([&] {
    chunks = 0;
    for (size_t at = 0; at < data.size(); ++chunks) at += chunker.cut(ByteView(data).subspan(at));
  });
  const double looking = gigabytes_a_second([&] {
    places = 0;
    for (size_t at = kCandidateWindowBytes; at < data.size(); ++at, ++places) at = next_candidate(data, at);
  });
  if (json) {
    std::printf("{\"cut_gb_per_s\":%.3f,\"rule_gb_per_s\":%.3f,\"mean_bytes\":%zu}\n", cutting, looking,
                data.size() / chunks);
  } else {
    std::printf("cutting            %6.2f GB/s, chunks of %zu KiB on average\n", cutting,
                data.size() / chunks >> 10);
    std::printf("its public rule    %6.2f GB/s, a place every %zu bytes\n", looking, data.size() / places);
  }
  return 0;
}

}  // namespace
}  // namespace kuramori

int main(int count, char** words) {
  return kuramori::run(count > 1 && std::strcmp(words[1], "--json") == 0);
}
