#include "policy/retention.h"

#include <fmt/core.h>

#include <algorithm>
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
  void give(size_t place, std::string reason) {
    if (!of_[place]) of_[place] = std::move(reason);
  }
  const std::optional<std::string>& of(size_t place) const { return of_[place]; }

 private:
  std::vector<std::optional<std::string>> of_;
};

const Lineage* find_lineage(const PruneQuestion& question, const std::string& id) {
  for (const Lineage& lineage : question.lineages)
    if (lineage.id == id) return &lineage;
  return nullptr;
}

// A window that starts at `start` is served by the newest snapshot that was consistent by then, on the
// timeline itself or, where it has none so old, on the one it forked from (up to the fork).
void keep_window_bases(const PruneQuestion& question, const std::vector<const SnapshotFacts*>& ordered,
                       Time start, Reasons& reasons) {
  std::set<std::string> lineages;
  for (const SnapshotFacts* snapshot : ordered) lineages.insert(snapshot->lineage);
  for (const Lineage& lineage : question.lineages) lineages.insert(lineage.id);

  std::string text =
      fmt::format("base of the window of {} that begins {}", format_period(*question.window), when(start));
  // When a snapshot was there: by its own word, or by the store's as well. One that a thief dates back to the
  // window's begin must not take the place of the one that stood there (V20), so that one stays beside it.
  auto by_its_word = [](const SnapshotFacts& s) { return std::optional(s.stop); };
  auto by_the_stores = [](const SnapshotFacts& s) {
    return s.stored_at ? std::optional(std::max(s.stop, *s.stored_at)) : std::nullopt;
  };
  auto keep_base_of = [&](const std::string& id, const auto& there_since) {
    Time by = start;
    std::string branch = id;
    std::set<std::string> seen;  // a parent that is its own ancestor must not keep us here
    while (seen.insert(branch).second) {
      std::optional<size_t> base;
      for (size_t i = 0; i < ordered.size(); ++i) {
        if (!ordered[i]->readable || ordered[i]->lineage != branch) continue;
        std::optional<Time> since = there_since(*ordered[i]);
        if (!since || *since > by) continue;
        if (!base || *since >= *there_since(*ordered[*base])) base = i;
      }
      if (base) {
        reasons.give(*base, text);
        return;
      }
      const Lineage* here = find_lineage(question, branch);
      if (!here || !here->parent) return;
      if (here->forked_at) by = std::min(by, *here->forked_at);
      branch = *here->parent;
    }
  };
  for (const std::string& id : lineages) {
    const Lineage* lineage = find_lineage(question, id);
    if (lineage && lineage->covered_until && *lineage->covered_until < start)
      continue;  // ended before the window
    keep_base_of(id, by_its_word);
    keep_base_of(id, by_the_stores);
  }
}

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

  std::vector<const SnapshotFacts*> ordered;
  for (const SnapshotFacts& snapshot : question.snapshots) ordered.push_back(&snapshot);
  std::ranges::sort(ordered, [](const SnapshotFacts* a, const SnapshotFacts* b) {
    return std::pair(observed(*a), a->id) < std::pair(observed(*b), b->id);
  });

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
    else if (snapshot.keep_until > now)
      reasons.give(i, tells_all ? "kept until " + when(snapshot.keep_until) : std::string());
  }
  if (last_proven)
    reasons.give(*last_proven, fmt::format("the last proven snapshot of {}", question.resource));
  if (proven_last)
    reasons.give(*proven_last, fmt::format("the snapshot of {} that was proven last", question.resource));
  if (!readable.empty())
    reasons.give(readable.back(), fmt::format("the {} snapshot of {}",
                                              readable.size() == 1 ? "only" : "newest", question.resource));
  if (question.window) keep_window_bases(question, ordered, earlier(now, *question.window), reasons);
  for (size_t k = 0; k < readable.size() && k < static_cast<size_t>(std::max(0, question.keep_last)); ++k)
    reasons.give(readable[readable.size() - 1 - k], fmt::format("among the last {}", question.keep_last));

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

Result<std::optional<NextDrop>> next_drop(PruneQuestion question) {
  question.tell = PruneQuestion::Tell::kDropsAlone;
  question.store_now.reset();
  // What keeps a snapshot ends at such a moment, and nothing begins to: so the first at which something goes
  // can be searched for by halves.
  std::vector<Time> moments{question.now};
  for (const SnapshotFacts& snapshot : question.snapshots) {
    if (snapshot.keep_until != kForever) moments.push_back(snapshot.keep_until);
    if (question.window) moments.push_back(later(snapshot.stop, *question.window));
  }
  std::erase_if(moments, [&](Time moment) { return moment < question.now; });
  std::ranges::sort(moments);
  std::optional<NextDrop> first;
  for (size_t from = 0, to = moments.size(); from < to;) {
    const size_t middle = from + (to - from) / 2;
    question.now = moments[middle];
    TRY_ASSIGN(const std::vector<PruneLine> drops, decide_prune(question));
    if (drops.empty()) {
      from = middle + 1;
      continue;
    }
    first = NextDrop{drops.front().id, moments[middle]};
    to = middle;
  }
  return first;
}

}  // namespace kuramori
