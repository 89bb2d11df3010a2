// When a plan runs: five cron fields, or AWS's cron(…) with six. Checked and kept here; the daemon runs it.
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori {

struct Schedule {
  enum class Dialect { kNone, kCron, kAws };
  std::string text;  // as written: "0 */3 * * *", "cron(0 */3 * * ? *)"
  Dialect dialect = Dialect::kNone;
};

// kUsage names the field that cannot be and what it may hold.
Result<Schedule> parse_schedule(std::string_view text);

}  // namespace kuramori
