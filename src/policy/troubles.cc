#include "policy/troubles.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/time_text.h"
#include "policy/escrow.h"

namespace kuramori {
namespace {

using IsOpen = std::function<bool(const std::string&)>;

bool is_bad(RunState state) {
  return state == RunState::kFailed || state == RunState::kExpired || state == RunState::kAborted ||
         state == RunState::kPartial;
}

std::string age(Time since, Time now) {
  return format_duration(
      std::max<Duration>(Duration(0), std::chrono::floor<std::chrono::seconds>(now - since)));
}

std::string words_of(RunState state) {
  switch (state) {
    case RunState::kPartial:
      return "was done only in part";
    case RunState::kExpired:
      return "did not start in time";
    case RunState::kAborted:
      return "was not done in time";
    default:
      return "failed";
  }
}

std::string because(const std::string& why) {
  return why.empty() ? "" : ": " + why;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// --- jobs --------------------------------------------------------------------------------------------

std::string what_to_type(const Job& job) {
  const std::string& vault = job.vaults.empty() ? job.to : job.vaults.front();
  switch (job.kind) {
    case JobKind::kBackup:
      return fmt::format("kuramori doctor {}, then kuramori backup {} --plan {}", job.resource, job.resource,
                         job.plan);
    case JobKind::kCopy:
      return fmt::format("kuramori copy {} --to {}", job.resource, job.to);
    case JobKind::kDrill:
      return fmt::format("kuramori drill {}", job.resource);
    case JobKind::kPrune:
      return fmt::format("kuramori prune --vault {} --dry-run", vault);
    case JobKind::kCollect:
      return fmt::format("kuramori vault collect {}", vault);
    case JobKind::kScrub:
      return fmt::format("kuramori vault scrub {}, then --heal", vault);
  }
  return "kuramori jobs";
}

void find_failure(const JobFacts& facts, const IsOpen& is_open, Time now, std::vector<Trouble>& out) {
  const std::string key = "failure " + facts.job.id;
  const int least = facts.thresholds.failures.value_or(1);
  std::string what;
  // One that is still tried has failed so often that somebody should look.
  if (const auto& open = facts.open; open && least == 1) {
    const int failed = open->state == RunState::kRunning ? open->attempt - 1 : open->attempt;
    if (failed >= kTriesUntilTold || (failed >= 1 && is_open(key)))
      what = fmt::format("{} failed {} times and is tried again{}", facts.job.id, failed, because(open->why));
  }
  if (what.empty() && !facts.ended.empty() && is_bad(facts.ended.front().state)) {
    const Run& newest = facts.ended.front();
    // A run of an hour ago may count no more; but only a success ends what has been told.
    int count = 0;
    for (const Run& run : facts.ended) {
      const bool counts = !facts.thresholds.failures_within || least == 1 ||
                          later(run.ended.value_or(run.due), *facts.thresholds.failures_within) >= now;
      count += is_bad(run.state) && counts;
    }
    if (count >= least || is_open(key))
      what = count > 1 ? fmt::format("{} {}, as did others: {} lately{}", facts.job.id,
                                     words_of(newest.state), count, because(newest.why))
                       : fmt::format("{} {}{}", facts.job.id, words_of(newest.state), because(newest.why));
  }
  if (what.empty()) return;
  out.push_back({.key = key,
                 .event = "failure",
                 .also = facts.job.kind == JobKind::kScrub   ? "damage"
                         : facts.job.kind == JobKind::kDrill ? "unproven"
                                                             : "",
                 .resource = facts.job.resource,
                 .criticality = facts.criticality,
                 .what = std::move(what),
                 .next = what_to_type(facts.job),
                 .about_label = {}});
}

Duration grace_of(const JobFacts& facts, Time due) {
  if (facts.job.start_window) return *facts.job.start_window;
  const auto following = next_run(facts.job.when, due);
  if (!following) return kLateMost;
  return std::clamp<Duration>((*following - due) / 2, kLateLeast, kLateMost);
}

// A moment has passed, and nobody has even begun: the absence of failure is no success (M2).
void find_lateness(const JobFacts& facts, Time now, std::vector<Trouble>& out) {
  if (facts.job.when.never()) return;
  std::optional<Time> due;
  if (facts.open) {
    if (facts.open->state == RunState::kRunning || facts.open->attempt > 0) return;
    due = facts.open->since <= now ? facts.open->since : facts.watched_from;
  } else {
    Time from = facts.watched_from;
    // Runs of a clock that was ahead say nothing of the moments before theirs.
    for (const Run& run : facts.ended)
      if (run.due <= now) from = std::max(from, run.due);
    due = next_run(facts.job.when, from);
  }
  // A daemon that has just begun is given the time to begin its jobs.
  if (!due || now - std::max(*due, facts.watched_from) <= grace_of(facts, *due)) return;
  out.push_back({.key = "late " + facts.job.id,
                 .event = "late",
                 .also = {},
                 .resource = facts.job.resource,
                 .criticality = facts.criticality,
                 .what = fmt::format("{} was due {} ago and has not begun{}", facts.job.id, age(*due, now),
                                     facts.open ? because(facts.open->why) : ""),
                 .next = "kuramori jobs",
                 .about_label = {}});
}

void find_slowness(const JobFacts& facts, std::vector<Trouble>& out) {
  if (!facts.thresholds.duration || facts.ended.empty()) return;
  std::vector<double> took;
  for (const Run& run : facts.ended) {
    if (run.state != RunState::kCompleted || !run.started || !run.ended) continue;
    took.push_back(std::chrono::duration<double>(*run.ended - *run.started).count());
    if (took.size() > kEarlierMost) break;
  }
  if (facts.ended.front().state != RunState::kCompleted || took.size() <= kEarlierLeast) return;
  const double newest = took.front(), usual = median({took.begin() + 1, took.end()});
  if (newest <= usual * (1 + *facts.thresholds.duration)) return;
  if (newest - usual < std::chrono::duration<double>(kTookMoreLeast).count()) return;
  const auto shown = [](double seconds) {
    return format_duration(std::chrono::seconds(std::llround(seconds)));
  };
  out.push_back({.key = "slow " + facts.job.id,
                 .event = "anomaly",
                 .also = {},
                 .resource = facts.job.resource,
                 .criticality = facts.criticality,
                 .what = fmt::format("{} took {}, usually {}", facts.job.id, shown(newest), shown(usual)),
                 .next = "kuramori jobs",
                 .about_label = {}});
}

// --- resources ---------------------------------------------------------------------------------------

Trouble measured(const SeenResource& facts, std::string key, std::string event, std::string what,
                 std::string next) {
  return {.key = std::move(key),
          .event = std::move(event),
          .also = {},
          .resource = facts.resource,
          .criticality = facts.criticality,
          .what = std::move(what),
          .next = std::move(next),
          .about_label = {},
          .settles = kMeasuredSettles};
}

void find_age(const SeenResource& facts, std::vector<Trouble>& out) {
  if (!facts.is_seen) return;
  const std::string next =
      fmt::format("kuramori status {}, then kuramori doctor {}", facts.resource, facts.resource);
  if (facts.age_max) {
    const Time since = facts.restorable_to.value_or(facts.watched_from);
    if (later(since, *facts.age_max) < facts.as_of)
      out.push_back(
          measured(facts, "age " + facts.resource, "age",
                   facts.restorable_to
                       ? fmt::format("what is newer than {} of {} cannot be restored, promised: {}",
                                     age(since, facts.as_of), facts.resource, format_period(*facts.age_max))
                       : fmt::format("nothing of {} can be restored", facts.resource),
                   next));
  }
  if (facts.wal_gap_max && facts.restorable_to &&
      later(*facts.restorable_to, *facts.wal_gap_max) < facts.as_of)
    out.push_back(measured(facts, "gap " + facts.resource, "gap",
                           fmt::format("no WAL of {} has arrived that continues what is there, for {}",
                                       facts.resource, age(*facts.restorable_to, facts.as_of)),
                           fmt::format("kuramori wal show {}", facts.resource)));
}

void find_lags(const SeenResource& facts, std::vector<Trouble>& out) {
  for (const SeenResource::Copy& copy : facts.copies) {
    if (!copy.behind_since || !copy.lag_max || later(*copy.behind_since, *copy.lag_max) >= facts.as_of)
      continue;
    out.push_back(
        measured(facts, fmt::format("lag {} {}", facts.resource, copy.vault), "lag",
                 fmt::format("the copy of {} in {} lacks a snapshot of {} ago, allowed: {}", facts.resource,
                             copy.vault, age(*copy.behind_since, facts.as_of), format_period(*copy.lag_max)),
                 fmt::format("kuramori copy {} --to {}", facts.resource, copy.vault)));
  }
}

void find_unproven(const SeenResource& facts, std::vector<Trouble>& out) {
  const auto add = [&](std::string what) {
    out.push_back(measured(facts, "unproven " + facts.resource, "unproven", std::move(what),
                           fmt::format("kuramori drill {}", facts.resource)));
    out.back().settles = Duration(0);
  };
  if (!facts.is_seen) return;
  const std::string proven = facts.last_passed ? fmt::format("{} was last proven {} ago", facts.resource,
                                                             age(*facts.last_passed, facts.as_of))
                                               : fmt::format("{} was never proven", facts.resource);
  if (facts.last_proof && facts.last_proof_failed)
    return add(fmt::format("the last proof of {} failed, {} ago; {}", facts.resource,
                           age(*facts.last_proof, facts.as_of), proven));
  const std::optional<Time> since = facts.last_passed ? facts.last_passed : facts.oldest;
  if (!since) return;
  if (facts.unproven_max && later(*since, *facts.unproven_max) < facts.as_of)
    return add(fmt::format("{}, allowed: {}", proven, format_period(*facts.unproven_max)));
  for (const When& drill : facts.drills) {
    const auto due = next_run(drill, *since);
    if (due && facts.as_of - *due > kDrillLateAfter)
      return add(fmt::format("{}, and a drill was due {} ago", proven, age(*due, facts.as_of)));
  }
}

void find_odd_size(const SeenResource& facts, std::vector<Trouble>& out) {
  if (facts.size_max <= 0 || facts.sizes.size() <= kEarlierLeast) return;
  const size_t count = std::min(facts.sizes.size(), kEarlierMost + 1);
  const double newest = facts.sizes.front();
  const double usual = median({facts.sizes.begin() + 1, facts.sizes.begin() + static_cast<ptrdiff_t>(count)});
  if (std::abs(newest - usual) <= usual * facts.size_max) return;
  out.push_back(measured(
      facts, "size " + facts.resource, "anomaly",
      fmt::format("the newest snapshot of {} has {}, usually {}", facts.resource,
                  format_size(static_cast<uint64_t>(newest)), format_size(static_cast<uint64_t>(usual))),
      fmt::format("kuramori snapshots {}", facts.resource)));
}

// --- vaults and the daemon ---------------------------------------------------------------------------

void find_in_vault(const SeenVault& facts, Time now, std::vector<Trouble>& out) {
  const auto add = [&](std::string_view event, std::string what, std::string next) {
    out.push_back({.key = fmt::format("{} {}", event == "failure" ? "away" : event, facts.name),
                   .event = std::string(event),
                   .also = {},
                   .resource = {},
                   .criticality = facts.criticality,
                   .what = std::move(what),
                   .next = std::move(next),
                   .about_label = {},
                   .settles = event == "failure" ? Duration(0) : kMeasuredSettles});
  };
  if (facts.trouble_since && now - *facts.trouble_since > kVaultAwayMax)
    add("failure",
        fmt::format("vault {} has not been seen for {}{}", facts.name, age(*facts.trouble_since, now),
                    because(facts.trouble)),
        fmt::format("kuramori vault show {}", facts.name));
  if (!facts.is_seen) return;
  if (facts.used && facts.capacity && *facts.capacity > 0) {
    const double share = static_cast<double>(*facts.used) / static_cast<double>(*facts.capacity);
    if (share >= facts.full.value_or(kFullShare))
      add("full",
          fmt::format("vault {} is {:.0f}% full: {} of {}", facts.name, share * 100, format_size(*facts.used),
                      format_size(*facts.capacity)),
          fmt::format("kuramori prune --vault {}, then kuramori vault collect {}", facts.name, facts.name));
  }
  if (facts.snapshots_max && static_cast<double>(facts.snapshots) >= *facts.snapshots_max * kFullShare)
    add("quota",
        fmt::format("vault {} holds {} of {} snapshots", facts.name, facts.snapshots, *facts.snapshots_max),
        fmt::format("kuramori prune --vault {}", facts.name));
}

// The vaults that may have this one's owner's key: of its family, and those that the configuration calls its
// copies, which may not have been looked at.
std::vector<const SeenVault*> of_one_key(const std::vector<SeenVault>& all, const SeenVault& vault) {
  std::vector<const SeenVault*> out;
  for (const SeenVault& one : all) {
    const bool are_known = one.is_kit_known && vault.is_kit_known;
    const bool is_same =
        are_known ? one.family == vault.family : !one.origin.empty() && one.origin == vault.origin;
    if (&one == &vault || is_same) out.push_back(&one);
  }
  return out;
}
bool is_kit_of_all_known(const std::vector<const SeenVault*>& vaults) {
  return std::ranges::all_of(vaults, [](const auto* one) { return one->is_seen && one->is_kit_known; });
}

// A key of which nobody has ever made a kit lies in one place, as far as anybody can say. One trouble a key,
// by the name of the first vault that it opens.
void find_unescrowed(const std::vector<SeenVault>& all, Time now, std::vector<Trouble>& out) {
  for (const SeenVault& vault : all) {
    if (!vault.is_kit_known || !vault.created || now - *vault.created <= kKitWithin) continue;
    const std::vector<const SeenVault*> same = of_one_key(all, vault);
    if (same.front() != &vault || !is_kit_of_all_known(same) || last_kit(all, vault)) continue;
    std::string criticality;
    for (const SeenVault* one : same)
      if (rank_of_criticality(one->criticality) > rank_of_criticality(criticality))
        criticality = one->criticality;
    out.push_back({.key = "unescrowed " + vault.name,
                   .event = "unescrowed",
                   .also = {},
                   .resource = {},
                   .criticality = std::move(criticality),
                   .what = fmt::format("no recovery kit of vault {} was ever made: who loses its key loses "
                                       "everything in it{}",
                                       vault.name, same.size() > 1 ? " and in its copies" : ""),
                   .next = fmt::format("kuramori vault kit {} --to FILE --passphrase-file FILE, with the "
                                       "owner's key; print it and lock it away",
                                       vault.name),
                   .about_label = {}});
  }
}

// --- other people's scripts --------------------------------------------------------------------------

void find_in_ping(const PingFacts& ping, const IsOpen& is_open, Time began, Time now,
                  std::vector<Trouble>& out) {
  const auto add = [&](std::string key, std::string_view event, std::string what) {
    out.push_back({.key = std::move(key),
                   .event = std::string(event),
                   .also = {},
                   .resource = ping.resource,
                   .criticality = ping.criticality,
                   .what = std::move(what),
                   .next = fmt::format("look at {} where it runs; it calls /ping/{} when it is done",
                                       ping.name, ping.name),
                   .about_label = {}});
  };
  const PingCalls& calls = ping.calls;
  if (has_failed(calls))
    add("ping failed " + ping.name, "failure",
        fmt::format("{} said {} ago that it failed", ping.name, age(*calls.failed, now)));
  std::string key = "ping late " + ping.name;
  if (!is_late(ping, now) || (now - began <= ping.grace && !is_open(key))) return;
  const std::optional<Time> due = due_of(ping);
  add(std::move(key), "late",
      fmt::format("{} should have been done {} ago{}", ping.name, age(*due, now),
                  has_begun(calls) ? fmt::format(", and began {} ago", age(*calls.started, now))
                  : calls.done     ? fmt::format(", and was last done {} ago", age(*calls.done, now))
                                   : ", and has never been heard of"));
}

// --- people ------------------------------------------------------------------------------------------

// One of a resource and its label: with each release another snapshot waits, and nobody is told anew.
void find_reviews(const std::vector<SeenReview>& reviews, Time now, std::vector<Trouble>& out) {
  std::map<std::string, std::vector<const SeenReview*>> by_key;
  for (const SeenReview& one : reviews)
    by_key[fmt::format("review {} {} {}", one.vault, one.resource, one.label)].push_back(&one);
  for (const auto& [key, waiting] : by_key) {
    const SeenReview& oldest =
        **std::ranges::min_element(waiting, {}, [](const auto* one) { return one->taken; });
    std::string what = waiting.size() == 1
                           ? fmt::format("the snapshot \"{}\" of {} in {} waits for a review", oldest.label,
                                         oldest.resource, oldest.vault)
                           : fmt::format("{} snapshots \"{}\" of {} in {} wait for a review", waiting.size(),
                                         oldest.label, oldest.resource, oldest.vault);
    what += fmt::format(": {} was taken {} ago, and a newer one is not proven yet", oldest.id,
                        age(oldest.taken, now));
    out.push_back({.key = key,
                   .event = "review",
                   .also = {},
                   .resource = oldest.resource,
                   .criticality = oldest.criticality,
                   .what = std::move(what),
                   .next = fmt::format("kuramori drill {}, or look at it: kuramori review {} --vault {}",
                                       oldest.resource, oldest.id, oldest.vault),
                   .about_label = {}});
  }
}

}  // namespace

void forget_what_is_ahead(AlertFacts& facts, Time now) {
  const auto clamp = [&](Time& at) { at = std::min(at, now); };
  clamp(facts.began);
  for (JobFacts& job : facts.jobs) clamp(job.watched_from);
  for (SeenResource& resource : facts.resources) clamp(resource.watched_from);
  for (SeenVault& vault : facts.vaults)
    if (vault.trouble_since) clamp(*vault.trouble_since);
  if (facts.config_changed_at) clamp(*facts.config_changed_at);
}

std::vector<Trouble> find_troubles(const AlertFacts& facts, const IsOpen& is_open, Time now) {
  std::vector<Trouble> out;
  for (const JobFacts& job : facts.jobs) {
    find_failure(job, is_open, now, out);
    find_lateness(job, now, out);
    find_slowness(job, out);
  }
  for (const SeenResource& resource : facts.resources) {
    find_age(resource, out);
    find_lags(resource, out);
    find_unproven(resource, out);
    find_odd_size(resource, out);
  }
  for (const SeenVault& vault : facts.vaults) find_in_vault(vault, now, out);
  find_unescrowed(facts.vaults, now, out);
  find_reviews(facts.reviews, now, out);
  for (const PingFacts& ping : facts.pings) find_in_ping(ping, is_open, facts.began, now, out);
  if (facts.config_changed_at && now - *facts.config_changed_at > kDriftAfter)
    out.push_back(
        {.key = "drift",
         .event = "drift",
         .also = {},
         .resource = {},
         .criticality = {},
         .what = fmt::format("the configuration was changed {} ago, and the daemon runs by the old one",
                             age(*facts.config_changed_at, now)),
         .next = "kuramori lint, then systemctl reload kuramori",
         .about_label = {}});
  for (const auto& [label, why] : facts.undelivered)
    out.push_back({.key = "undelivered " + label,
                   .event = "failure",
                   .also = {},
                   .resource = {},
                   .criticality = {},
                   .what = fmt::format("\"{}\" of notify cannot be told{}", label, because(why)),
                   .next = fmt::format("kuramori notify test \"{}\"", label),
                   .about_label = label});
  return out;
}

bool was_looked_at(const AlertFacts& facts, const Trouble& trouble) {
  const std::string_view key = trouble.key;
  if (key.starts_with("review ")) return facts.reviews_are_seen;
  for (const std::string_view about : {"age ", "gap ", "lag ", "unproven ", "size "}) {
    if (!key.starts_with(about)) continue;
    const auto found = std::ranges::find(facts.resources, trouble.resource, &SeenResource::resource);
    return found == facts.resources.end() || found->is_seen;
  }
  for (const std::string_view about : {"full ", "quota ", "away ", "unescrowed "}) {
    if (!key.starts_with(about)) continue;
    const auto found = std::ranges::find(facts.vaults, key.substr(about.size()), &SeenVault::name);
    if (found == facts.vaults.end()) return true;
    if (about == "unescrowed ") return is_kit_of_all_known(of_one_key(facts.vaults, *found));
    // What fits is said, and how much is there not measured yet.
    if (about == "full " && found->capacity && !found->used) return false;
    return found->is_seen;
  }
  return true;
}

std::optional<Happening> success_of(const JobFacts& job, const Run& run) {
  if (run.state != RunState::kCompleted || !run.ended) return std::nullopt;
  const Duration took = run.started ? *run.ended - *run.started : Duration(0);
  return Happening{.event = "success",
                   .resource = job.job.resource,
                   .criticality = job.criticality,
                   .what = fmt::format("{} is done, in {}", job.job.id, format_duration(took)),
                   .at = *run.ended};
}

std::string daily_report(const AlertFacts& facts, const std::vector<Trouble>& troubles, Time now) {
  std::string out = troubles.empty() ? "Nothing is wrong.\n"
                                     : fmt::format("{} {} wrong:\n", troubles.size(),
                                                   troubles.size() == 1 ? "thing is" : "things are");
  for (const Trouble& trouble : troubles) out += fmt::format("  - {}\n", trouble.what);
  out += "\nResources\n";
  for (const SeenResource& one : facts.resources) {
    const std::string to = !one.is_seen        ? "not looked at yet"
                           : one.restorable_to ? "restorable to " + age(*one.restorable_to, now) + " ago"
                                               : "NOTHING can be restored";
    const std::string proof =
        one.last_passed ? "proven " + age(*one.last_passed, now) + " ago" : "never proven";
    size_t behind = 0;
    for (const auto& copy : one.copies) behind += copy.behind_since.has_value();
    out +=
        fmt::format("  - {}: {}, {}{}\n", one.resource, to, proof,
                    one.copies.empty() ? ""
                    : behind == 0      ? fmt::format(", {} copies are complete", one.copies.size())
                                  : fmt::format(", {} of {} copies are behind", behind, one.copies.size()));
  }
  out += "\nJobs of the last day\n";
  for (const JobFacts& one : facts.jobs) {
    size_t good = 0, bad = 0;
    for (const Run& run : one.ended) {
      if (!run.ended || now - *run.ended > std::chrono::hours(24)) continue;
      ++(is_bad(run.state) ? bad : good);
    }
    out += fmt::format("  - {}: {} done, {} failed\n", one.job.id, good, bad);
  }
  if (!facts.pings.empty()) out += "\nScripts that call\n";
  for (const PingFacts& one : facts.pings)
    out += fmt::format("  - {}: {}, {}\n", one.name, name_of(state_of(one, now)),
                       one.calls.done ? "last done " + age(*one.calls.done, now) + " ago" : "never done");
  return out;
}

}  // namespace kuramori
