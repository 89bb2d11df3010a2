// What a probe's findings mean: in one line, and for a vault.
#include <fmt/core.h>

#include "engine/probe.h"

namespace kuramori {

using Verdict = ProbeFinding::Verdict;

const ProbeFinding* ProbeReport::finding(std::string_view name) const {
  for (const ProbeFinding& one : findings)
    if (one.name == name) return &one;
  return nullptr;
}

bool ProbeReport::holds(std::string_view name) const {
  const ProbeFinding* one = finding(name);
  return one && one->verdict == Verdict::kHolds;
}

bool ProbeReport::creates_once() const {
  return holds(probe_names::kAtomicCreate) && holds(probe_names::kNoOverwrite);
}

const ProbeFinding* ProbeReport::broken_contract() const {
  for (std::string_view needed : {probe_names::kReadAfterWrite, probe_names::kListAfterWrite,
                                  probe_names::kPaging, probe_names::kRanges}) {
    const ProbeFinding* one = finding(needed);
    if (one && one->verdict == Verdict::kBroken) return one;
  }
  return nullptr;
}

std::string ProbeReport::in_words() const {
  std::string holding, broken;
  for (const ProbeFinding& one : findings) {
    if (one.verdict == Verdict::kUnchecked) continue;
    std::string& to = one.verdict == Verdict::kHolds ? holding : broken;
    to += (to.empty() ? "" : ", ") + one.name;
  }
  std::string words = holding;
  if (!broken.empty()) words += fmt::format("{}not: {}", words.empty() ? "" : "; ", broken);
  words += versioned ? "; versioned" : "; not versioned";
  if (default_retention)
    words += "; locks everything by default";
  else if (can_retain)
    words += "; can lock";
  return words;
}

Result<void> accept_places(const ProbeReport& objects, const ProbeReport* ledger, bool wants_lock) {
  for (const ProbeReport* place : {&objects, ledger}) {
    if (!place) continue;
    if (const ProbeFinding* broken = place->broken_contract()) {
      return fail(ErrorKind::kRefused,
                  fmt::format("{} cannot hold a vault: {} does not hold", place->location, broken->name),
                  broken->detail, "give another store; this one would lose snapshots in silence");
    }
  }
  const ProbeReport& once = ledger ? *ledger : objects;
  if (!once.creates_once()) {
    const ProbeFinding* why = once.finding(
        once.holds(probe_names::kAtomicCreate) ? probe_names::kNoOverwrite : probe_names::kAtomicCreate);
    std::string cause = why ? why->detail : "it was not checked";
    if (ledger) {
      return fail(
          ErrorKind::kRefused,
          fmt::format("{} cannot be a ledger: it does not put an object exactly once", ledger->location),
          cause + (ledger->versioned ? "; it is versioned" : ""),
          "give ledger: a bucket without versioning and without Object Lock");
    }
    return fail(
        ErrorKind::kRefused,
        fmt::format("{} alone cannot hold a vault: it does not put an object exactly once", objects.location),
        cause + (objects.versioned
                     ? "; this store ignores conditional puts where objects are versioned or locked"
                     : ""),
        "give the vault a second place for what must be put once, a bucket without versioning: "
        "ledger: s3://OTHER-BUCKET/prefix");
  }
  if (!objects.knows_conditions) {
    return fail(ErrorKind::kRefused,
                fmt::format("{} knows no conditional put, and is told to make one", objects.location),
                "beside a ledger the objects can do without: they are looked for before they are put",
                "write at: s3://BUCKET/prefix?conditional=no");
  }
  if (ledger && (ledger->versioned || ledger->default_retention)) {
    return fail(ErrorKind::kRefused,
                fmt::format("{} cannot be a ledger: it is {}", ledger->location,
                            ledger->versioned ? "versioned" : "locked"),
                "what is put once there must be removed for good when it is done with",
                "give ledger: a bucket without versioning and without Object Lock");
  }
  if (wants_lock && !objects.can_retain) {
    return fail(ErrorKind::kRefused,
                fmt::format("lock: cannot be kept at {}: it locks no objects", objects.location),
                "Object Lock is given to a bucket when it is made, and cannot be added",
                "make a bucket with Object Lock, or take lock: out of the configuration");
  }
  return {};
}

}  // namespace kuramori
