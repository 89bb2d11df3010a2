#include "base/reporter.h"

namespace kuramori {
namespace {
class SilentReporter final : public Reporter {
 public:
  void phase(std::string_view, uint64_t) override {}
  void advance(uint64_t) override {}
  void note(std::string_view) override {}
  void warning(std::string_view) override {}
};
}  // namespace

Reporter& silent_reporter() {
  static SilentReporter reporter;
  return reporter;
}
}  // namespace kuramori
