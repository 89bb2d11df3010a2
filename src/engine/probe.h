// What a store really does, found by trying it: a vault's safety rests on these, and a store that only claims
// them would lose snapshots in silence.
#pragma once
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/reporter.h"
#include "base/world.h"
#include "store/store.h"

namespace kuramori {

// Everything a probe puts stands below this name, and is removed again where the store lets it.
constexpr std::string_view kProbePrefix = "probe/";

struct ProbeFinding {
  enum class Verdict { kHolds, kBroken, kUnchecked };
  std::string name;  // one of the names below
  Verdict verdict = Verdict::kUnchecked;
  std::string detail;  // what was tried, what came of it
};

// The findings, in the order they are made.
namespace probe_names {
constexpr std::string_view kAtomicCreate = "atomic create";       // of 16 at once exactly one wins
constexpr std::string_view kNoOverwrite = "overwrite refused";    // a second put at a name changes nothing
constexpr std::string_view kReadAfterWrite = "read after write";  // and after delete
constexpr std::string_view kListAfterWrite = "list after write";  // and after delete
constexpr std::string_view kPaging = "paging past 1,000";         // no name missing, none twice
constexpr std::string_view kRanges = "ranges";                    // any part of an object
constexpr std::string_view kChecksum = "wrong checksum refused";  // a body that changed on its way
constexpr std::string_view kClock = "clock";                      // ours and the store's
}  // namespace probe_names

struct ProbeReport {
  std::string location;
  std::vector<ProbeFinding> findings;
  bool knows_conditions = true;               // false: nothing else could be tried
  bool versioned = false;                     // what is put over or deleted is still there
  bool can_retain = false;                    // objects can be locked until a date
  std::optional<Duration> default_retention;  // what nobody asked to lock is locked for about so long
  std::optional<Duration> clock_difference;   // the store's minus ours, to a second
  uint64_t left_behind = 0;                   // objects below kProbePrefix that could not be removed
  Duration took{0};

  const ProbeFinding* finding(std::string_view name) const;
  bool holds(std::string_view name) const;
  // What must be put exactly once can be put here.
  bool creates_once() const;
  // The first finding, besides creating once, that no vault can do without and that is broken here.
  const ProbeFinding* broken_contract() const;
  // One line, as the vault keeps it.
  std::string in_words() const;
};

struct ProbeOptions {
  // The same place through another gateway: what one confirmed the other must show.
  Store* other_endpoint = nullptr;
  int rounds = 8;               // of the race
  size_t page_objects = 1'100;  // for paging; 0: not checked
  size_t parallel = 16;         // puts at once, while paging is prepared
  std::stop_token stop;
};
// An error only if it could not be tried; what the store does wrong is in the report.
Result<ProbeReport> probe_store(Store& store, const ProbeOptions& options, Clock& clock, Random& random,
                                Reporter& reporter);

// Whether a vault can stand on these places: `ledger` for what must be put exactly once, null where there is
// one place. kRefused in words otherwise. `wants_lock`: the configuration says `lock:`.
Result<void> accept_places(const ProbeReport& objects, const ProbeReport* ledger, bool wants_lock);

}  // namespace kuramori
