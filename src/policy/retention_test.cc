#include "policy/retention.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/time_text.h"

namespace kuramori {
namespace {

Time at(std::string_view text) {
  return parse_moment(text)->time;
}
Period period(std::string_view text) {
  return *parse_period(text);
}
SnapshotId id_of(uint8_t number) {
  SnapshotId id;
  id.raw[0] = number;
  return id;
}

// A snapshot of ten minutes that was due an hour ago unless said otherwise.
SnapshotFacts due(uint8_t number, std::string_view time, std::string_view lineage = "1") {
  SnapshotFacts s;
  s.id = id_of(number);
  s.lineage = lineage;
  s.time = at(time);
  s.stop = s.time + std::chrono::minutes(10);
  s.stored_at = s.stop;
  s.keep_until = s.time;
  return s;
}

PruneQuestion question(std::vector<SnapshotFacts> snapshots) {
  PruneQuestion q;
  q.resource = "orders-db";
  q.snapshots = std::move(snapshots);
  q.now = at("2026-03-01 12:00:00Z");
  q.store_now = q.now;
  return q;
}

std::string dropped(const PruneQuestion& q) {
  auto lines = decide_prune(q);
  if (!lines) return "refused: " + lines.error().why;
  std::string out;
  for (const PruneLine& line : *lines)
    if (line.drop) out += (out.empty() ? "" : " ") + std::to_string(line.id.raw[0]);
  return out;
}

std::string reason(const PruneQuestion& q, uint8_t number) {
  auto lines = decide_prune(q);
  if (!lines) return "refused";
  for (const PruneLine& line : *lines)
    if (line.id == id_of(number)) return (line.drop ? "drop: " : "keep: ") + line.reason;
  return "no line";
}

TEST(KeepUntil, TheLongestRuleThatAppliesDecides) {
  KeepRules rules{.all = period("14d"), .monthly = period("7y")};
  Time first = at("2026-02-01 03:00:00+09:00");
  KeepDecision decision = decide_keep_until(rules, "Asia/Tokyo", {}, first);
  EXPECT_EQ(decision.until, later(first, period("7y")));
  EXPECT_EQ(decision.reason, "first of 2026-02: monthly 7y");

  std::vector<ExistingSnapshot> existing{{first, decision.until}};
  Time second = at("2026-02-01 06:00:00+09:00");
  decision = decide_keep_until(rules, "Asia/Tokyo", existing, second);
  EXPECT_EQ(decision.until, later(second, period("14d")));
  EXPECT_EQ(decision.reason, "all 14d");
}

TEST(KeepUntil, TheMonthTurnsInThePlansZone) {
  KeepRules rules{.all = period("14d"), .monthly = period("7y")};
  // 18:00 UTC on 31 January is 03:00 on 1 February in Tokyo.
  Time january = at("2026-01-15 00:00:00Z"), moment = at("2026-01-31 18:00:00Z");
  std::vector<ExistingSnapshot> existing{{january, later(january, period("7y"))}};
  EXPECT_EQ(decide_keep_until(rules, "Asia/Tokyo", existing, moment).until, later(moment, period("7y")));
  EXPECT_EQ(decide_keep_until(rules, "UTC", existing, moment).until, later(moment, period("14d")));
}

TEST(KeepUntil, AShortLivedSnapshotDoesNotTakeTheMonthsPlace) {
  KeepRules rules{.all = period("14d"), .monthly = period("7y")};
  Time manual = at("2026-02-01 00:00:00Z"), now = at("2026-02-01 03:00:00Z");
  std::vector<ExistingSnapshot> existing{{manual, later(manual, period("1d"))}};
  EXPECT_EQ(decide_keep_until(rules, "UTC", existing, now).until, later(now, period("7y")));
}

// P61: a snapshot from the future (a clock that was wrong, a forged date) does not take it either.
TEST(KeepUntil, P61_ASnapshotFromTheFutureCountsForNothing) {
  KeepRules rules{.monthly = period("7y")};
  Time now = at("2026-02-01 03:00:00Z");
  std::vector<ExistingSnapshot> existing{{at("2026-02-27 00:00:00Z"), kForever}};
  EXPECT_EQ(decide_keep_until(rules, "UTC", existing, now).until, later(now, period("7y")));
}

TEST(KeepUntil, WithoutARuleForEver) {
  EXPECT_EQ(decide_keep_until({}, "UTC", {}, at("2026-02-01 03:00:00Z")).until, kForever);
  Time now = at("2026-02-01 03:00:00Z");
  EXPECT_EQ(decide_keep_until({.last = 3}, "UTC", {}, now).until, now);
}

TEST(KeepUntil, WeeksBeginOnMonday) {
  KeepRules rules{.weekly = period("12w")};
  Time sunday = at("2026-02-08 03:00:00Z"), monday = at("2026-02-09 03:00:00Z"),
       tuesday = at("2026-02-10 03:00:00Z");
  std::vector<ExistingSnapshot> existing{{sunday, kForever}};
  EXPECT_EQ(decide_keep_until(rules, "UTC", existing, monday).reason,
            "first of the week of 2026-02-09: weekly 84d");
  existing.push_back({monday, kForever});
  EXPECT_EQ(decide_keep_until(rules, "UTC", existing, tuesday).until, tuesday);
}

TEST(Prune, DropsWhatIsDueAndSaysWhy) {
  PruneQuestion q = question(
      {due(1, "2026-01-01 00:00:00Z"), due(2, "2026-01-02 00:00:00Z"), due(3, "2026-01-03 00:00:00Z")});
  EXPECT_EQ(dropped(q), "1 2");
  EXPECT_EQ(reason(q, 1), "drop: was kept until 2026-01-01 00:00:00 UTC");
  EXPECT_EQ(reason(q, 3), "keep: the newest snapshot of orders-db");
  q.snapshots[0].keep_until = kForever;
  EXPECT_EQ(reason(q, 1), "keep: kept for ever");
  q.snapshots[1].keep_until = at("2026-04-01 00:00:00Z");
  EXPECT_EQ(reason(q, 2), "keep: kept until 2026-04-01 00:00:00 UTC");
  EXPECT_EQ(dropped(q), "");
}

TEST(Prune, NeverTheOnlyNorTheLastProvenNorAHeldOne) {
  PruneQuestion q = question({due(1, "2026-01-01 00:00:00Z")});
  EXPECT_EQ(reason(q, 1), "keep: the only snapshot of orders-db");
  q = question({due(1, "2026-01-01 00:00:00Z"), due(2, "2026-01-02 00:00:00Z"),
                due(3, "2026-01-03 00:00:00Z"), due(4, "2026-01-04 00:00:00Z")});
  q.snapshots[0].proven = q.snapshots[1].proven = true;
  EXPECT_EQ(dropped(q), "1 3");
  EXPECT_EQ(reason(q, 2), "keep: the last proven snapshot of orders-db");
  q.snapshots[0].holds = {"audit-2026", "legal"};
  EXPECT_EQ(reason(q, 1), "keep: held by audit-2026, legal");
  q.keep_last = 2;
  EXPECT_EQ(reason(q, 3), "keep: among the last 2");
}

TEST(Prune, WhatCannotBeReadStaysAndCountsForNothing) {
  PruneQuestion q = question({due(1, "2026-01-01 00:00:00Z"), due(2, "2026-01-02 00:00:00Z")});
  q.snapshots[1].readable = false;
  EXPECT_EQ(reason(q, 1), "keep: the only snapshot of orders-db");
  EXPECT_EQ(reason(q, 2), "keep: its records cannot be read: nothing is decided against it");
}

TEST(Prune, TheBaseOfAPromisedWindowStays) {
  PruneQuestion q = question({due(1, "2026-02-01 00:00:00Z"), due(2, "2026-02-10 00:00:00Z"),
                              due(3, "2026-02-20 00:00:00Z"), due(4, "2026-02-28 00:00:00Z")});
  q.window = period("14d");  // begins 2026-02-15 12:00
  EXPECT_EQ(dropped(q), "1 3");
  EXPECT_EQ(reason(q, 2), "keep: base of the window of 14d that begins 2026-02-15 12:00:00 UTC");
  // One that began before the window but was consistent only after it cannot serve its first second.
  q.snapshots[1].stop = at("2026-02-15 12:00:01Z");
  EXPECT_EQ(dropped(q), "2 3");
}

// What is kept for a shorter time than the window still becomes its base: the window grows until it is whole.
TEST(Prune, TheOldestServesAWindowThatIsNotWholeYet) {
  PruneQuestion q = question(
      {due(1, "2026-02-20 00:00:00Z"), due(2, "2026-02-24 00:00:00Z"), due(3, "2026-02-28 00:00:00Z")});
  q.window = period("14d");
  EXPECT_EQ(dropped(q), "2");
  EXPECT_EQ(reason(q, 1), "keep: the oldest that serves the window of 14d");
  // Of a timeline that forked before it the oldest of both serves; what came after the fork does not.
  q.snapshots[1].lineage = q.snapshots[2].lineage = "2";
  q.lineages = {{"1", std::nullopt, std::nullopt, at("2026-02-21 00:00:00Z")},
                {"2", "1", at("2026-02-19 00:00:00Z"), std::nullopt}};
  EXPECT_EQ(dropped(q), "");
  q.lineages[1].forked_at = at("2026-02-20 12:00:00Z");
  EXPECT_EQ(dropped(q), "2");
}

// P59: order is time within a lineage; names and timelines say nothing about age.
TEST(Prune, P59_ATimelinesBaseIsFoundByTimeAndDescent) {
  PruneQuestion q = question({due(9, "2026-02-01 00:00:00Z", "1"), due(8, "2026-02-12 00:00:00Z", "1"),
                              due(1, "2026-02-14 00:00:00Z", "1"), due(7, "2026-02-20 00:00:00Z", "2"),
                              due(6, "2026-02-28 00:00:00Z", "2")});
  q.window = period("14d");
  // Timeline 2 forked on the 13th: nothing of its own is old enough, and the parent's snapshot 1 came after
  // the fork.
  q.lineages = {{"1", std::nullopt, std::nullopt, at("2026-02-14 06:00:00Z")},
                {"2", "1", at("2026-02-13 00:00:00Z"), std::nullopt}};
  EXPECT_EQ(dropped(q), "9 1 7");
  EXPECT_EQ(reason(q, 8).substr(0, 23), "keep: base of the windo");
  // Two months later timeline 2 stands on its own feet.
  q.now = at("2026-05-01 00:00:00Z");
  q.store_now.reset();
  EXPECT_EQ(dropped(q), "9 8 1 7");
}

// A snapshot with a forged date must not push out a real one.
TEST(Prune, AgeIsWhatTheStoreObserved) {
  PruneQuestion q = question({due(1, "2026-02-01 00:00:00Z"), due(2, "2026-01-01 00:00:00Z")});
  q.snapshots[0].stored_at = at("2026-01-05 00:00:00Z");  // claims to be newer than it is
  q.snapshots[1].stored_at = at("2026-01-06 00:00:00Z");
  EXPECT_EQ(dropped(q), "1");
}

// V20: whatever dates a stolen writer's key claims, what was promised before it was stolen stays.
TEST(Prune, V20_ForgedDatesTakeNobodysPlace) {
  PruneQuestion honest = question(
      {due(1, "2026-02-01 00:00:00Z"), due(2, "2026-02-10 00:00:00Z"), due(3, "2026-02-28 00:00:00Z")});
  honest.window = period("14d");  // begins 2026-02-15 12:00: 2 is its base
  honest.snapshots[0].proven = true;
  EXPECT_EQ(dropped(honest), "");
  Time stolen = at("2026-03-01 09:00:00Z");
  for (const char* claimed : {"2020-01-01 00:00:00Z", "2026-02-10 00:00:01Z", "2026-02-15 11:40:00Z",
                              "2026-02-15 11:50:00Z", "2026-03-01 08:00:00Z", "2026-03-01 12:30:00Z"}) {
    PruneQuestion q = honest;
    for (uint8_t number = 10; number < 14; ++number) {
      SnapshotFacts forged = due(number, claimed);
      forged.stored_at = stolen;
      q.snapshots.push_back(forged);
    }
    for (uint8_t number : {1, 2})
      EXPECT_EQ(reason(q, number).substr(0, 5), "keep:") << claimed << ": " << unsigned{number};
  }
  // A date far ahead is no date: nothing is dropped at all.
  honest.snapshots.push_back(due(20, "2099-01-01 00:00:00Z"));
  EXPECT_EQ(dropped(honest).substr(0, 7), "refused");
}

// P61: no clock that is in doubt drops anything.
TEST(Prune, P61_NothingIsDroppedWhenClocksCannotBeBelieved) {
  PruneQuestion q = question({due(1, "2026-01-01 00:00:00Z"), due(2, "2026-01-02 00:00:00Z")});
  q.store_now = q.now + std::chrono::minutes(61);
  EXPECT_EQ(dropped(q).substr(0, 7), "refused");
  q.store_now = q.now - std::chrono::minutes(59);
  EXPECT_EQ(dropped(q), "1");
  q.snapshots.push_back(due(3, "2027-01-01 00:00:00Z"));
  EXPECT_EQ(dropped(q),
            "refused: snapshot 0300000000000000 is dated 2027-01-01 00:10:00 UTC, but it is 2026-03-01 "
            "11:01:00 UTC");
}

// The earlier clock decides: what the machine alone believes to be due stays.
TEST(Prune, P61_TheEarlierClockDecides) {
  PruneQuestion q = question({due(1, "2026-01-01 00:00:00Z"), due(2, "2026-01-02 00:00:00Z")});
  q.snapshots[0].keep_until = q.now - std::chrono::minutes(10);
  EXPECT_EQ(dropped(q), "1");
  q.store_now = q.now - std::chrono::minutes(30);
  EXPECT_EQ(dropped(q), "");
}

PruneQuestion any_question() {
  PruneQuestion q = question({});
  int count = *rc::gen::inRange(0, 12);
  for (int i = 0; i < count; ++i) {
    SnapshotFacts s = due(static_cast<uint8_t>(i + 1), "2026-01-01 00:00:00Z", *rc::gen::element("1", "2"));
    s.time += std::chrono::hours(*rc::gen::inRange(0, 58 * 24));
    s.stop = s.time + std::chrono::minutes(*rc::gen::inRange(1, 600));
    s.stored_at = *rc::gen::arbitrary<bool>() ? std::optional(s.stop) : std::nullopt;
    s.keep_until = s.time + std::chrono::hours(*rc::gen::inRange(0, 90 * 24));
    s.proven = *rc::gen::inRange(0, 3) == 0;
    s.readable = *rc::gen::inRange(0, 6) != 0;
    if (*rc::gen::inRange(0, 5) == 0) s.holds = {"legal"};
    q.snapshots.push_back(s);
  }
  if (*rc::gen::arbitrary<bool>()) q.window = Period::of_seconds(86400 * *rc::gen::inRange(1, 50));
  if (*rc::gen::inRange(0, 5) == 0) q.window = Period{.months = 1};
  q.keep_last = *rc::gen::inRange(0, 4);
  return q;
}

void check(bool held) {
  RC_ASSERT(held);
}

TEST(Prune, PropertyWhatMustStayStays) {
  EXPECT_TRUE(rc::check("prune keeps what is needed", [] {
    PruneQuestion q = any_question();
    auto lines = decide_prune(q);
    check(lines.has_value());
    check(lines->size() == q.snapshots.size());
    auto drops = [&](const SnapshotFacts& s) {
      return std::ranges::any_of(*lines, [&](const PruneLine& l) { return l.id == s.id && l.drop; });
    };
    size_t left = 0, readable = 0, last_proven_kept = 0, proven = 0;
    for (const SnapshotFacts& s : q.snapshots) {
      if (drops(s)) {
        check(s.readable && s.holds.empty() && s.keep_until <= q.now);
      } else if (s.readable) {
        ++left;
      }
      readable += s.readable;
      proven += s.readable && s.proven;
      last_proven_kept += s.readable && s.proven && !drops(s);
    }
    check(readable == 0 || left >= 1);
    check(proven == 0 || last_proven_kept >= 1);
    check(left >= std::min<size_t>(readable, static_cast<size_t>(q.keep_last)));
    if (q.window) {
      // Whatever second of the window could be restored before can be restored after.
      Time start = earlier(q.now, *q.window);
      for (const char* lineage : {"1", "2"}) {
        std::optional<Time> before, after;  // from when on
        for (const SnapshotFacts& s : q.snapshots) {
          if (!s.readable || s.lineage != lineage) continue;
          const Time from = std::max(start, s.stop);
          before = std::min(before.value_or(from), from);
          if (!drops(s)) after = std::min(after.value_or(from), from);
        }
        check(before == after);
      }
    }
  }));
}

// One that is due may begin to serve the window: it goes before, or not at all.
TEST(Prune, WhatGoesNextMayStayLater) {
  PruneQuestion q = question(
      {due(1, "2026-01-10 00:00:00Z"), due(2, "2026-01-20 00:00:00Z"), due(3, "2026-02-20 00:00:00Z")});
  q.snapshots[0].holds = {"legal"};
  q.window = Period::of_seconds(86400 * 45);  // begins at Jan 15; from Mar 6 on the second would be its base
  const auto now = next_drop(q);
  ASSERT_TRUE(now && *now);
  EXPECT_EQ((*now)->id, id_of(2));
  EXPECT_EQ((*now)->at, q.now);
  // It was promised until it is the base already: then it waits for the third.
  q.snapshots[1].keep_until = at("2026-03-10 00:00:00Z");
  const auto after = next_drop(q);
  ASSERT_TRUE(after && *after);
  EXPECT_EQ((*after)->id, id_of(2));
  EXPECT_EQ((*after)->at, at("2026-04-06 00:10:00Z"));
}

// Against prunes at every hour for half a year: the first that drops anything.
TEST(Prune, PropertyWhatGoesNextIsWhatTheFirstPruneDrops) {
  EXPECT_TRUE(rc::check("next_drop is exact", [] {
    PruneQuestion q = any_question();
    const auto any_time = [] {
      return at("2026-01-01 00:00:00Z") + std::chrono::hours(*rc::gen::inRange(0, 58 * 24));
    };
    if (*rc::gen::arbitrary<bool>()) {
      q.lineages.push_back({.id = "1", .parent = {}, .forked_at = {}, .covered_until = any_time()});
      q.lineages.push_back({.id = "2", .parent = "1", .forked_at = any_time(), .covered_until = {}});
    }
    const auto next = next_drop(q);
    check(next.has_value());
    PruneQuestion later_on = q;
    later_on.store_now.reset();
    std::vector<PruneLine> drops;
    for (int hour = 0; hour < 24 * 200; ++hour) {
      later_on.now = q.now + std::chrono::hours(hour);
      later_on.tell = PruneQuestion::Tell::kDropsAlone;
      drops = *decide_prune(later_on);
      if (!drops.empty()) break;
    }
    check(next->has_value() == !drops.empty());
    if (drops.empty()) return;
    check((*next)->at <= later_on.now && (*next)->at > later_on.now - std::chrono::hours(1));
    // Exactly then it goes, and a nanosecond before nothing does.
    later_on.now = (*next)->at;
    check(decide_prune(later_on)->front().id == (*next)->id);
    if ((*next)->at == q.now) return;
    later_on.now -= Duration(1);
    check(decide_prune(later_on)->empty());
  }));
}

TEST(Prune, PropertyOrderOfTheListDoesNotMatter) {
  EXPECT_TRUE(rc::check("any order gives the same answer", [] {
    PruneQuestion q = any_question();
    auto one = decide_prune(q);
    std::ranges::reverse(q.snapshots);
    auto two = decide_prune(q);
    check(one.has_value() && two.has_value());
    for (size_t i = 0; i < one->size(); ++i)
      check((*one)[i].id == (*two)[i].id && (*one)[i].drop == (*two)[i].drop &&
            (*one)[i].reason == (*two)[i].reason);
  }));
}

TEST(Prune, PropertyPruningTwiceDropsNothingMore) {
  EXPECT_TRUE(rc::check("pruning is idempotent", [] {
    PruneQuestion q = any_question();
    auto one = decide_prune(q);
    check(one.has_value());
    std::erase_if(q.snapshots, [&](const SnapshotFacts& s) {
      return std::ranges::any_of(*one, [&](const PruneLine& l) { return l.id == s.id && l.drop; });
    });
    auto two = decide_prune(q);
    check(two.has_value());
    for (const PruneLine& line : *two) check(!line.drop);
  }));
}

}  // namespace
}  // namespace kuramori
