#include "policy/pings.h"

#include <gtest/gtest.h>

#include "base/time_text.h"
#include "policy/troubles.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

Time at(const std::string& text) {
  return parse_moment(text)->time;
}

PingFacts nightly() {
  PingFacts ping{
      .name = "nightly", .resource = {}, .criticality = "high", .when = {}, .grace = 30min, .calls = {}};
  ping.when.schedule = *parse_schedule("0 3 * * *");
  ping.when.timezone = "Asia/Tokyo";
  ping.calls.watched_from = at("2026-03-01T00:00:00Z");  // 9:00 there
  return ping;
}

std::vector<std::string> keys_of(const PingFacts& ping, Time now, bool is_open = false, Time began = {}) {
  AlertFacts facts;
  facts.pings = {ping};
  facts.began = began;
  std::vector<std::string> keys;
  for (const Trouble& one : find_troubles(facts, [&](const std::string&) { return is_open; }, now))
    keys.push_back(one.key);
  return keys;
}

TEST(Pings, M2_a_script_that_says_nothing_is_late_after_its_moment_and_its_grace) {
  const PingFacts ping = nightly();
  const Time due = at("2026-03-01T18:00:00Z");
  EXPECT_EQ(due_of(ping), due);
  EXPECT_EQ(state_of(ping, due + 30min), PingState::kWaiting);
  EXPECT_EQ(state_of(ping, due + 30min + 1s), PingState::kLate);
  EXPECT_TRUE(keys_of(ping, due + 30min).empty());
  EXPECT_EQ(keys_of(ping, due + 31min), std::vector<std::string>{"ping late nightly"});
}

TEST(Pings, M2_a_word_in_time_counts_until_the_next_moment) {
  PingFacts ping = nightly();
  ping.calls.done = at("2026-03-01T18:05:00Z");
  EXPECT_EQ(due_of(ping), at("2026-03-02T18:00:00Z"));
  EXPECT_EQ(state_of(ping, at("2026-03-02T18:29:00Z")), PingState::kGood);
  ping.calls.started = at("2026-03-02T18:00:01Z");
  EXPECT_EQ(state_of(ping, at("2026-03-02T18:29:00Z")), PingState::kRunning);
  // To begin is not to be done.
  EXPECT_EQ(state_of(ping, at("2026-03-02T18:31:00Z")), PingState::kLate);
  ping.calls.done = at("2026-03-02T18:32:00Z");
  EXPECT_EQ(state_of(ping, at("2026-03-02T18:33:00Z")), PingState::kGood);
}

TEST(Pings, M2_a_failure_stands_until_it_is_done_and_lateness_comes_on_top) {
  PingFacts ping = nightly();
  ping.calls.done = at("2026-03-01T18:05:00Z");
  ping.calls.failed = at("2026-03-02T18:05:00Z");
  EXPECT_EQ(state_of(ping, at("2026-03-02T18:06:00Z")), PingState::kFailed);
  EXPECT_EQ(keys_of(ping, at("2026-03-02T18:06:00Z")), std::vector<std::string>{"ping failed nightly"});
  EXPECT_EQ(keys_of(ping, at("2026-03-03T18:31:00Z")),
            (std::vector<std::string>{"ping failed nightly", "ping late nightly"}));
  ping.calls.done = at("2026-03-03T18:32:00Z");
  EXPECT_TRUE(keys_of(ping, at("2026-03-03T18:40:00Z")).empty());
}

TEST(Pings, every_is_counted_from_the_last_word) {
  PingFacts ping = nightly();
  ping.when = {.schedule = {}, .every = Period::of_seconds(3600), .timezone = {}};
  ping.calls.done = at("2026-03-01T00:50:00Z");
  EXPECT_EQ(due_of(ping), at("2026-03-01T01:50:00Z"));  // not at the hour
}

// While no daemon ran nobody could call: it gets its grace anew, but what was told already is not over.
TEST(Pings, M2_a_daemon_that_has_just_begun_blames_nobody_for_its_own_silence) {
  const PingFacts ping = nightly();
  const Time began = at("2026-03-02T06:00:00Z");
  EXPECT_TRUE(keys_of(ping, began + 29min, false, began).empty());
  EXPECT_FALSE(keys_of(ping, began + 31min, false, began).empty());
  EXPECT_FALSE(keys_of(ping, began + 1s, true, began).empty());
}

}  // namespace
}  // namespace kuramori
