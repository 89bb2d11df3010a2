// Does the configuration keep its own promises? Pure: a configuration and what is known of the machine go in,
// findings come out. What lint says, it says before anything runs: a plan that cannot meet its RPO, data that
// is gone before a law lets it go, a service due before the one it needs.
//
// An error is a promise that cannot hold; `kuramori lint` then ends with 4. A risk holds only while nothing
// unlikely happens. A hint costs nothing to heed.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "policy/config.h"

namespace kuramori {

enum class LintLevel : uint8_t { kError, kRisk, kHint };
std::string_view name_of(LintLevel level);  // "error", "risk", "hint"

struct LintFinding {
  std::string id;  // "rpo", "due-before-need": docs/lint.md has a line on each
  LintLevel level = LintLevel::kRisk;
  std::string about;  // plan "orders"
  std::string what, why;
  std::string next;  // what to type
  int line = 0;      // of the configuration; 0: of the file as a whole
};

// What the configuration alone does not say.
struct LintFacts {
  // A `to:` of notify, as it was fetched.
  struct Target {
    std::string text;     // "" when it could not be fetched
    std::string trouble;  // why not
    bool program_is_there = true;
  };
  Time now;  // schedules are looked at for a year from here
  // Of each entry of notify: its own target, then those of its steps. None: nobody looked.
  std::vector<std::vector<Target>> targets;
  // The disk a path lies on (or would); empty: nobody looked.
  std::function<std::optional<uint64_t>(const std::string& path)> disk_of;
};

// What a resource is promised, beside what its plans make of it at worst.
struct LintPromise {
  std::string resource;
  std::optional<Period> rpo;
  std::optional<Duration> worst;  // may be lost; nullopt: no plan bounds it
  std::string plan;               // the one that bounds it
  int copies = 1;                 // the original counted in
  int media = 1, elsewhere = 0;
};

struct LintReport {
  std::vector<LintFinding> findings;  // errors first, then in the order of the file
  std::vector<LintPromise> promises;  // in the order of the file
  bool has_errors() const;
};

LintReport lint(const Config& config, const LintFacts& facts);

}  // namespace kuramori
