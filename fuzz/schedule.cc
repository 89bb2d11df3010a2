// Any text as a schedule: refused in words, or one whose next run is later, found from anywhere before, and
// found soon: nothing steps through years by the minute.
#include "policy/schedule.h"

#include <cstdint>

#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  auto schedule = parse_schedule({reinterpret_cast<const char*>(data), size});
  if (!schedule) {
    CHECK(schedule.error().kind == ErrorKind::kUsage && !schedule.error().why.empty());
    return 0;
  }
  for (const char* zone : {"", "Australia/Lord_Howe", "America/Sao_Paulo"}) {
    const Time after = from_unix_ns(int64_t{1'700'000'000} * 1'000'000'000);
    const auto next = next_run(*schedule, zone, after);
    if (!next) continue;
    CHECK(*next > after);
    CHECK(next_run(*schedule, zone, after + (*next - after) / 2) == next);
    CHECK(next_run(*schedule, zone, *next) != next);
  }
  return 0;
}
