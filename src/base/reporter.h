// What a long operation says while it works. Text and JSON are two sinks of this one stream of events.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace kuramori {

// Methods may be called from several threads at once.
class Reporter {
 public:
  virtual ~Reporter() = default;
  // A new phase begins ("copying", "checking"); `total` in bytes, 0 when unknown.
  virtual void phase(std::string_view name, uint64_t total_bytes) = 0;
  // `bytes` more of the current phase are done.
  virtual void advance(uint64_t bytes) = 0;
  virtual void note(std::string_view text) = 0;     // worth knowing
  virtual void warning(std::string_view text) = 0;  // worth acting on
};

Reporter& silent_reporter();

}  // namespace kuramori
