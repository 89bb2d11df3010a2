#include "policy/retention.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/time_text.h"

namespace kuramori {
namespace {

constexpr std::string_view kLabelHold = "label:";

// A calendar rule cuts time into buckets and keeps the first snapshot of each.
struct CalendarRule {
  std::string_view name;
  Duration longest;  // more than any bucket lasts, whatever the clocks of the zone do
  std::optional<Period> KeepRules::* period;
  int64_t (*bucket)(const LocalDate&);
  std::string (*label)(const LocalDate&);
};

int64_t week_of(const LocalDate& date) {
  // Day 0 is a Thursday: three days later a week begins, on Monday. Division rounds down below zero as well.
  int64_t shifted = date.day_number + 3;
  return shifted >= 0 ? shifted / 7 : -((6 - shifted) / 7);
}

std::string day_label(const LocalDate& d) {
  return fmt::format("{:04}-{:02}-{:02}", d.year, d.month, d.day);
}

const CalendarRule kCalendarRules[] = {
    {"hourly", std::chrono::hours(3), &KeepRules::hourly,
     [](const LocalDate& d) { return d.day_number * 24 + d.hour; },
     [](const LocalDate& d) { return fmt::format("{} {:02}h", day_label(d), d.hour); }},
    {"daily", std::chrono::hours(50), &KeepRules::daily, [](const LocalDate& d) { return d.day_number; },
     day_label},
    {"weekly", std::chrono::hours(24 * 9), &KeepRules::weekly, week_of,
     [](const LocalDate& d) { return "the week of " + day_label(d); }},
    {"monthly", std::chrono::hours(24 * 33), &KeepRules::monthly,
     [](const LocalDate& d) { return int64_t{d.year} * 12 + d.month; },
     [](const LocalDate& d) { return fmt::format("{:04}-{:02}", d.year, d.month); }},
    {"yearly", std::chrono::hours(24 * 368), &KeepRules::yearly,
     [](const LocalDate& d) { return int64_t{d.year}; },
     [](const LocalDate& d) { return fmt::format("{:04}", d.year); }},
};

// The age of a snapshot is what the store observed: a writer's own date could be anything.
Time observed(const SnapshotFacts& snapshot) {
  return snapshot.stored_at.value_or(snapshot.time);
}

std::string when(Time time) {
  return format_local(time, "UTC");
}

Result<void> check_clocks(const PruneQuestion& question, Time now) {
  auto refuse = [&](std::string why) {
    return fail(ErrorKind::kRefused,
                fmt::format("nothing of {} is pruned: the clocks cannot be believed", question.resource),
                std::move(why), "set this machine's clock (timedatectl), then prune again");
  };
  if (question.store_now) {
    Duration apart = question.now > *question.store_now ? question.now - *question.store_now
                                                        : *question.store_now - question.now;
    if (apart > kClockSkewMax)
      return refuse(
          fmt::format("this machine says {}, the store {}", when(question.now), when(*question.store_now)));
  }
  // The one that is furthest ahead is named, in whatever order they are listed.
  const SnapshotFacts* ahead = nullptr;
  auto dated = [](const SnapshotFacts& s) { return std::pair(std::max(s.time, observed(s)), s.id); };
  for (const SnapshotFacts& snapshot : question.snapshots) {
    if (snapshot.readable && (!ahead || dated(snapshot) > dated(*ahead))) ahead = &snapshot;
  }
  if (ahead && dated(*ahead).first > now + kClockSkewMax)
    return refuse(fmt::format("snapshot {} is dated {}, but it is {}", ahead->id.hex(),
                              when(dated(*ahead).first), when(now)));
  return {};
}

// Why snapshots stay, by their place in the ordered list; the first reason found is the one that is told.
class Reasons {
 public:
  explicit Reasons(size_t snapshots) : of_(snapshots) {}
  void give(size_t place, std::string_view reason) {
    if (!of_[place]) of_[place].emplace(reason);
  }
  const std::optional<std::string>& of(size_t place) const { return of_[place]; }

 private:
  std::vector<std::optional<std::string>> of_;
};

// What serves a window that starts at a moment: of each lineage the newest snapshot that was consistent by
// then, on the timeline itself or, where it has none so old, on the one it forked from (up to the fork).
class WindowBases {
 public:
  WindowBases(const PruneQuestion& question, const std::vector<const SnapshotFacts*>& ordered) {
    for (const Lineage& lineage : question.lineages) branches_[lineage.id].lineage = &lineage;
    for (size_t i = 0; i < ordered.size(); ++i) {
      const SnapshotFacts& snapshot = *ordered[i];
      if (!snapshot.readable) continue;
      Branch& branch = branches_[snapshot.lineage];
      // When it was there: by its own word, or by the store's as well. One that a thief dates back to the
      // window's begin must not take the place of the one that stood there (V20), so that one stays beside
      // it.
      branch.there_since[0].emplace_back(snapshot.stop, i);
      if (snapshot.stored_at)
        branch.there_since[1].emplace_back(std::max(snapshot.stop, *snapshot.stored_at), i);
    }
    for (auto& [id, branch] : branches_)
      for (auto& one : branch.there_since) std::ranges::sort(one);
  }

  // Their places; one may be named more than once.
  std::vector<size_t> of(Time start) const {
    std::vector<size_t> places;
    for (const auto& [id, branch] : branches_) {
      if (branch.has_ended_before(start)) continue;
      for (size_t reading = 0; reading < branch.there_since.size(); ++reading)
        if (const auto place = base_of(id, reading, start)) places.push_back(*place);
    }
    return places;
  }

  // Moments between which no start of a window has other bases than the next.
  std::vector<Time> changes() const {
    std::vector<Time> moments;
    for (const auto& [id, branch] : branches_) {
      for (const auto& one : branch.there_since)
        for (const auto& [since, place] : one) moments.push_back(since);
      if (branch.lineage && branch.lineage->covered_until && *branch.lineage->covered_until != kForever)
        moments.push_back(*branch.lineage->covered_until + Duration(1));
    }
    return moments;
  }

 private:
  struct Branch {
    const Lineage* lineage = nullptr;
    std::array<std::vector<std::pair<Time, size_t>>, 2> there_since;  // by its word, by the store's

    bool has_ended_before(Time start) const {
      return lineage && lineage->covered_until && *lineage->covered_until < start;
    }
  };

  std::optional<size_t> base_of(std::string id, size_t reading, Time by) const {
    std::optional<size_t> oldest;
    Time fork = kForever;        // what came after it serves nobody here
    std::set<std::string> seen;  // a parent that is its own ancestor must not keep us here
    while (seen.insert(id).second) {
      const auto branch = branches_.find(id);
      if (branch == branches_.end()) break;
      const auto& there = branch->second.there_since[reading];
      const auto later_ones =
          std::ranges::upper_bound(there, by, {}, [](const auto& one) { return one.first; });
      if (later_ones != there.begin()) return std::prev(later_ones)->second;
      if (!there.empty() && there.front().first <= fork) oldest = there.front().second;
      const Lineage* here = branch->second.lineage;
      if (!here || !here->parent) break;
      fork = std::min(fork, here->forked_at.value_or(fork));
      by = std::min(by, fork);
      id = *here->parent;
    }
    return oldest;
  }

  std::map<std::string, Branch> branches_;
};

// A newer one that stays for the same label's sake is proven: what this one was kept for is over.
bool is_reviewed(const std::vector<const SnapshotFacts*>& ordered, size_t place) {
  const SnapshotFacts& old = *ordered[place];
  const std::string hold = label_hold(old.label);
  return !old.label.empty() && std::any_of(ordered.begin() + static_cast<ptrdiff_t>(place) + 1, ordered.end(),
                                           [&](const SnapshotFacts* newer) {
                                             return newer->readable && newer->proven &&
                                                    newer->label == old.label &&
                                                    std::ranges::count(newer->holds, hold) != 0;
                                           });
}

// The holds that count, for one that is read.
std::vector<std::string> holds_in_force(const std::vector<const SnapshotFacts*>& ordered, size_t place) {
  std::vector<std::string> holds = ordered[place]->holds;
  const std::string own = label_hold(ordered[place]->label);
  if (std::ranges::count(holds, own) != 0 && is_reviewed(ordered, place)) std::erase(holds, own);
  return holds;
}

std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

// Oldest first, by what the store observed.
std::vector<const SnapshotFacts*> in_order(const PruneQuestion& question) {
  std::vector<const SnapshotFacts*> ordered;
  for (const SnapshotFacts& snapshot : question.snapshots) ordered.push_back(&snapshot);
  std::ranges::sort(ordered, [](const SnapshotFacts* a, const SnapshotFacts* b) {
    return std::pair(observed(*a), a->id) < std::pair(observed(*b), b->id);
  });
  return ordered;
}

// At that moment; without one: what keeps them at any.
Reasons why_they_stay(const PruneQuestion& question, const std::vector<const SnapshotFacts*>& ordered,
                      std::optional<Time> now) {
  const bool tells_all = question.tell == PruneQuestion::Tell::kEverything;
  Reasons reasons(ordered.size());
  std::vector<size_t> readable;
  // Of those proven the newest, and the one that was proven last: which of the two counts for more is
  // nobody's to guess.
  std::optional<size_t> last_proven, proven_last;
  for (size_t i = 0; i < ordered.size(); ++i) {
    const SnapshotFacts& snapshot = *ordered[i];
    if (!snapshot.readable) {
      reasons.give(i, "its records cannot be read: nothing is decided against it");
      continue;
    }
    readable.push_back(i);
    if (snapshot.proven) last_proven = i;
    if (snapshot.proven && snapshot.proven_at &&
        (!proven_last || *snapshot.proven_at > *ordered[*proven_last]->proven_at))
      proven_last = i;
    if (!snapshot.holds.empty()) {
      const std::vector<std::string> holds = holds_in_force(ordered, i);
      if (!holds.empty()) reasons.give(i, "held by " + list_of(holds));
    }
    if (snapshot.keep_until == kForever)
      reasons.give(i, "kept for ever");
    else if (now && snapshot.keep_until > *now)
      reasons.give(i, tells_all ? "kept until " + when(snapshot.keep_until) : std::string());
  }
  if (last_proven)
    reasons.give(*last_proven, fmt::format("the last proven snapshot of {}", question.resource));
  if (proven_last)
    reasons.give(*proven_last, fmt::format("the snapshot of {} that was proven last", question.resource));
  if (!readable.empty())
    reasons.give(readable.back(), fmt::format("the {} snapshot of {}",
                                              readable.size() == 1 ? "only" : "newest", question.resource));
  if (now && question.window) {
    const Time start = earlier(*now, *question.window);
    const std::string base =
        fmt::format("base of the window of {} that begins {}", format_period(*question.window), when(start));
    const std::string oldest =
        fmt::format("the oldest that serves the window of {}", format_period(*question.window));
    for (size_t place : WindowBases(question, ordered).of(start))
      reasons.give(place, ordered[place]->stop <= start ? base : oldest);
  }
  for (size_t k = 0; k < readable.size() && k < static_cast<size_t>(std::max(0, question.keep_last)); ++k)
    reasons.give(readable[readable.size() - 1 - k], fmt::format("among the last {}", question.keep_last));
  return reasons;
}

// Among these are all moments from which on windows of that length begin at `start` or later, and all until
// which they do.
std::vector<Time> when_windows_begin(Time start, Period window) {
  const Time same_day = later(start, window);
  if (window.is_exact() || same_day == kForever) return {same_day};
  // A month has no 31st: several days have the same one before them, by the hour, or a day is nobody's.
  constexpr int kDaysMissingMost = 3;
  std::vector<Time> moments;
  for (int day = 0; day <= kDaysMissingMost + 1; ++day) {
    const Time moment = same_day + std::chrono::days(day);
    moments.push_back(moment);
    moments.push_back(std::chrono::floor<std::chrono::days>(moment));
  }
  return moments;
}

}  // namespace

std::string label_hold(std::string_view label) {
  return fmt::format("{}{}", kLabelHold, label);
}

std::optional<std::string_view> label_of_hold(std::string_view hold) {
  if (!hold.starts_with(kLabelHold)) return std::nullopt;
  return hold.substr(kLabelHold.size());
}

KeepDecision decide_keep_until(const KeepRules& rules, std::string_view zone,
                               std::span<const ExistingSnapshot> existing, Time now) {
  if (rules.empty()) return {kForever, "no keep rule: for ever", "forever"};
  KeepDecision best{now, fmt::format("among the last {}", rules.last), "last"};
  if (rules.all) best = {later(now, *rules.all), "all " + format_period(*rules.all), "all"};
  LocalDate today = local_date(now, zone);
  for (const CalendarRule& rule : kCalendarRules) {
    const std::optional<Period>& period = rules.*rule.period;
    if (!period) continue;
    Time until = later(now, *period);
    if (until <= best.until) continue;
    bool taken = std::ranges::any_of(existing, [&](const ExistingSnapshot& other) {
      return other.time <= now && other.time >= now - rule.longest &&
             other.keep_until >= later(other.time, *period) &&
             rule.bucket(local_date(other.time, zone)) == rule.bucket(today);
    });
    if (!taken)
      best = {until, fmt::format("first of {}: {} {}", rule.label(today), rule.name, format_period(*period)),
              rule.name};
  }
  return best;
}

Result<std::vector<PruneLine>> decide_prune(const PruneQuestion& question) {
  // The earlier of the two clocks: what is due by it is due by both.
  Time now = question.store_now ? std::min(question.now, *question.store_now) : question.now;
  TRY(check_clocks(question, now));
  const bool tells_all = question.tell == PruneQuestion::Tell::kEverything;
  const std::vector<const SnapshotFacts*> ordered = in_order(question);
  const Reasons reasons = why_they_stay(question, ordered, now);

  std::vector<PruneLine> lines;
  for (size_t i = 0; i < ordered.size(); ++i) {
    const SnapshotFacts& snapshot = *ordered[i];
    const std::optional<std::string>& why = reasons.of(i);
    const bool drop = !why;
    if (!drop && !tells_all) continue;
    PruneLine line{.id = snapshot.id,
                   .time = snapshot.time,
                   .keep_until = snapshot.keep_until,
                   .drop = drop,
                   .reason = drop ? "was kept until " + when(snapshot.keep_until) : *why};
    if (drop && !snapshot.holds.empty()) line.reviewed_hold = label_hold(snapshot.label);
    lines.push_back(std::move(line));
  }
  return lines;
}

Result<std::optional<NextDrop>> next_drop(const PruneQuestion& question) {
  TRY(check_clocks(question, question.now));
  const std::vector<const SnapshotFacts*> ordered = in_order(question);
  const Reasons lasting = why_they_stay(question, ordered, std::nullopt);
  // Whatever only its date or a window keeps, from when on no date does.
  std::vector<std::pair<Time, size_t>> due;
  for (size_t i = 0; i < ordered.size(); ++i)
    if (!lasting.of(i)) due.emplace_back(std::max(question.now, ordered[i]->keep_until), i);
  std::ranges::sort(due);
  if (due.empty()) return std::nullopt;
  if (!question.window) return NextDrop{ordered[due.front().second]->id, due.front().first};

  // From the first that is due on, moment by moment: one that is due may begin to serve the window as well as
  // cease to.
  const WindowBases bases(question, ordered);
  Time moment = due.front().first;
  std::vector<Time> changes;
  for (Time start : bases.changes())
    for (Time change : when_windows_begin(start, *question.window))
      if (change > moment) changes.push_back(change);
  std::ranges::sort(changes);
  std::set<size_t> waiting;  // due, and in use
  auto next_due = due.begin();
  auto next_change = changes.begin();
  for (;;) {
    for (; next_due != due.end() && next_due->first <= moment; ++next_due) waiting.insert(next_due->second);
    const std::vector<size_t> in_use = bases.of(earlier(moment, *question.window));
    for (size_t place : waiting)
      if (std::ranges::count(in_use, place) == 0) return NextDrop{ordered[place]->id, moment};
    while (next_change != changes.end() && *next_change <= moment) ++next_change;
    if (next_due == due.end() && next_change == changes.end()) return std::nullopt;
    moment = std::min(next_due == due.end() ? Time::max() : next_due->first,
                      next_change == changes.end() ? Time::max() : *next_change);
  }
}

}  // namespace kuramori
