// Doing what a plan shows: for `apply`, and for `init` once its file stands.
#pragma once
#include "cli/planning.h"

namespace kuramori {

// What a small backup and its restore through a vault came to.
struct CanaryFlight {
  std::string snapshot;
  bool passed = false;
  double backup_seconds = 0, restore_seconds = 0;
  std::optional<Error> trouble;
};

// What applying did to one vault, and what was read there afterwards.
struct AppliedVault {
  std::string vault;
  bool made = false, key_was_made = false;
  std::string id;
  std::optional<AppliedRecord> stands;
  bool reads_back = false;
  std::optional<Error> trouble;
  std::optional<CanaryFlight> canary;
};

// What became of the question whether a daemon of this machine reads the configuration.
enum class Daemon { kNotAsked, kNone, kTook, kSilent };

struct Applied {
  std::vector<AppliedVault> vaults;
  Daemon daemon = Daemon::kNotAsked;
};

// Makes missing vaults, records the configuration, tells the daemon, reads back. What befalls a single vault
// stands with it.
Result<Applied> apply_planned(Context& context, const Planned& planned);

}  // namespace kuramori
