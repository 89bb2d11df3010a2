#include "daemon/alert_store.h"

#include <gtest/gtest.h>

#include "base/time_text.h"
#include "daemon/alert_facts.h"
#include "daemon/channels.h"
#include "daemon/noticer.h"
#include "os/file.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;

class AlertStoreTest : public testing::Test {
 protected:
  TemporaryFolder folder_ = *TemporaryFolder::make("alerts");
  Time now_ = from_unix_ns(1'772'445'600'000'000'000);
  NotifyConfig entry_ = [] {
    NotifyConfig entry;
    entry.name = "ops";
    entry.when = {"failure"};
    return entry;
  }();

  std::unique_ptr<AlertStore> open() {
    auto store = AlertStore::open(folder_ / kAlertStoreFile);
    EXPECT_TRUE(store) << store.error().what << store.error().why;
    return store ? std::move(*store) : nullptr;
  }
  static AlertBook::Seen seen(const std::string& what) {
    Trouble trouble;
    trouble.key = "failure x";
    trouble.event = "failure";
    trouble.what = what;
    AlertBook::Seen out;
    out.troubles = {trouble};
    return out;
  }
  AlertStep decide(AlertStore& store, AlertBook& book, const AlertBook::Seen& what, Duration steady) {
    AlertStep step = book.step(what, std::span(&entry_, 1), {now_, steady});
    EXPECT_TRUE(store.write(step, book.state(),
                            {.steady = steady, .wall = now_, .runs_until = 7, .runs_besides = {9}}));
    return step;
  }
};

TEST_F(AlertStoreTest, M4_what_was_decided_is_there_for_the_next_daemon_and_not_decided_again) {
  std::string name;
  {
    auto store = open();
    name = store->name();
    AlertBook book(store->read()->state);
    EXPECT_EQ(decide(*store, book, seen("it 'failed'"), 10h).messages.size(), 1U);
  }
  auto store = open();
  EXPECT_EQ(store->name(), name);
  auto kept = store->read();
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->marks.steady, 10h);
  EXPECT_EQ(kept->marks.runs_until, 7);
  EXPECT_EQ(kept->marks.runs_besides, std::set<int64_t>{9});
  AlertBook book(kept->state);
  EXPECT_TRUE(decide(*store, book, seen("it 'failed'"), 11h).messages.empty());
  const auto waiting = store->next_to_send("ops", now_);
  ASSERT_TRUE(waiting && *waiting);
  EXPECT_EQ((*waiting)->message.items[0].what, "it 'failed'");
  EXPECT_EQ((*waiting)->message.id, 1);
  decide(*store, book, AlertBook::Seen{}, 12h);
  EXPECT_TRUE(book.state().alerts.empty());
  EXPECT_EQ((*store->next_to_send("ops", now_))->message.id, 1) << "in their order";
  ASSERT_TRUE(store->set_trying(1, now_ + 5s));
  EXPECT_FALSE(*store->next_to_send("ops", now_)) << "somebody tries it, or was killed while";
  EXPECT_EQ((*store->next_to_send("ops", now_ + 5s))->tries, 0);
  ASSERT_TRUE(store->set_sent(1, now_));
  EXPECT_EQ((*store->next_to_send("ops", now_))->message.kind, TellKind::kResolved);
  EXPECT_EQ(store->read()->state.next_message, 3);
}

TEST_F(AlertStoreTest, M4_a_message_waits_longer_each_time_and_at_last_is_shown) {
  auto store = open();
  AlertBook book(AlertState{});
  decide(*store, book, seen("failed"), 1h);
  ASSERT_TRUE(store->set_not_sent(1, 1, "no answer", now_ + resend_pause(1)));
  EXPECT_FALSE(*store->next_to_send("ops", now_ + 4s));
  EXPECT_EQ((*store->next_to_send("ops", now_ + 5s))->tries, 1);
  EXPECT_TRUE(*store->next_to_send("ops", now_ - 10h)) << "a clock that was put back";
  EXPECT_TRUE(store->undelivered()->empty());
  ASSERT_TRUE(store->set_not_sent(1, 2, "it said 404", std::nullopt));
  EXPECT_FALSE(*store->next_to_send("ops", now_ + 24h));
  ASSERT_EQ(store->undelivered()->size(), 1U);
  EXPECT_EQ(store->undelivered()->front().second, "it said 404");
  EXPECT_EQ(store->list(0)->front().deliveries.front().second, "failed: it said 404");
  EXPECT_EQ(resend_pause(2), 10s);
  EXPECT_EQ(resend_pause(100), kResendMost);
}

TEST_F(AlertStoreTest, M4_what_was_decided_in_memory_comes_into_a_new_file_as_it_is) {
  auto memory = *AlertStore::open(":memory:");
  AlertBook book(AlertState{});
  decide(*memory, book, seen("failed"), 1h);
  ASSERT_TRUE(memory->set_sent(1, now_));
  decide(*memory, book, AlertBook::Seen{}, 2h);  // over: that waits to be told
  ASSERT_TRUE(memory->watch_pings({{.name = "a"}}, now_));
  auto file = open();
  ASSERT_TRUE(file->take_ping("a", PingCall::kDone, now_ + 1h));  // by the web's side, meanwhile
  const auto moved = file->take_over(*memory, Duration(0));
  ASSERT_TRUE(moved) << moved.error().why;
  EXPECT_EQ(file->name(), memory->name()) << "links that were sent go on";
  EXPECT_EQ(moved->messages, (std::map<int64_t, int64_t>{{1, 1}, {2, 2}}));
  auto next = open();
  EXPECT_EQ(next->name(), memory->name());
  const auto kept = next->read();
  EXPECT_EQ(kept->marks.runs_besides, std::set<int64_t>{9});
  EXPECT_EQ(kept->marks.steady, 2h);
  EXPECT_EQ(kept->state.next_alert, 2);
  EXPECT_EQ((*next->next_to_send("ops", now_))->message.id, 2) << "the first was sent";
  ASSERT_EQ(next->list(9)->size(), 1U);
  EXPECT_EQ(next->list(9)->front().alert.told.size(), 1U);
  EXPECT_EQ(next->pings()->at("a").watched_from, now_);
  EXPECT_EQ(next->pings()->at("a").done, now_ + 1h);
}

TEST_F(AlertStoreTest, M4_what_was_decided_in_memory_goes_on_with_what_stands_in_the_file) {
  auto file = open();
  {
    AlertBook book(AlertState{});
    decide(*file, book, seen("failed"), 10h);
    ASSERT_TRUE(file->set_sent(1, now_));
  }
  auto memory = *AlertStore::open(":memory:");
  AlertBook book(AlertState{});
  AlertBook::Seen two = seen("failed still");
  two.troubles.push_back(two.troubles[0]);
  two.troubles[1].key = "failure y";
  two.troubles[1].what = "another";
  decide(*memory, book, two, 1h);
  ASSERT_EQ(book.state().alerts.size(), 2U);
  const auto moved = file->take_over(*memory, 20h);
  ASSERT_TRUE(moved) << moved.error().why;
  EXPECT_NE(file->name(), memory->name());
  EXPECT_EQ(moved->kept.marks.steady, 21h);
  auto next = open();
  const auto kept = next->read();
  ASSERT_EQ(kept->state.alerts.size(), 2U);
  EXPECT_EQ(kept->state.alerts.at(1).trouble.what, "failed still");
  EXPECT_EQ(kept->state.alerts.at(2).trouble.key, "failure y");
  EXPECT_EQ(kept->state.alerts.at(2).told.front().steady, 21h);
  std::vector<std::string> told;
  while (const auto waiting = *next->next_to_send("ops", now_)) {
    for (const TellItem& item : waiting->message.items) told.push_back(item.what);
    ASSERT_TRUE(next->set_sent(waiting->message.id, now_));
  }
  EXPECT_EQ(told, std::vector<std::string>{"another"}) << "of the first they know";
  // What was told of them meanwhile named them by their numbers in memory.
  const auto former = next->former();
  ASSERT_TRUE(former);
  ASSERT_EQ(former->size(), 2U);
  for (const AlertStore::Former& one : *former) {
    EXPECT_EQ(one.store, memory->name());
    EXPECT_EQ(one.alert, one.there);
    EXPECT_EQ(one.is_new, one.alert == 2) << "of the first they knew by the number it has here";
  }
  AlertBook goes_on(kept->state);
  EXPECT_TRUE(decide(*next, goes_on, two, 22h).messages.empty());
  EXPECT_EQ(decide(*next, goes_on, AlertBook::Seen{}, 23h).messages.size(), 2U) << "both are over";
}

TEST_F(AlertStoreTest, M5_who_acknowledged_is_known_at_once_and_to_the_next_daemon) {
  auto store = open();
  AlertBook book(AlertState{});
  decide(*store, book, seen("failed"), 1h);
  EXPECT_EQ(store->acknowledge(2, "mori", now_).error().kind, ErrorKind::kNotFound);
  ASSERT_TRUE(store->acknowledge(1, "mori", now_));
  ASSERT_TRUE(store->acknowledge(1, "late", now_ + 1h));
  EXPECT_EQ(store->list(0)->front().alert.acknowledged_by, "mori");
  ASSERT_EQ(store->take_acknowledged()->size(), 1U);
  EXPECT_TRUE(store->take_acknowledged()->empty());
  // The daemon that took it was killed before it wrote.
  EXPECT_EQ(open()->read()->state.alerts.at(1).acknowledged_by, "mori");
  decide(*store, book, AlertBook::Seen{}, 2h);
  EXPECT_EQ(store->acknowledge(1, "mori", now_).error().kind, ErrorKind::kRefused);
}

TEST_F(AlertStoreTest, M2_who_called_is_known_to_the_next_daemon) {
  const std::vector<PingFacts> both = {{.name = "a"}, {.name = "b"}};
  {
    auto store = open();
    ASSERT_TRUE(store->watch_pings(both, now_));
    ASSERT_TRUE(store->take_ping("a", PingCall::kStart, now_ + 1h));
    ASSERT_TRUE(store->take_ping("a", PingCall::kFail, now_ + 2h));
    EXPECT_EQ(store->pings()->at("a").started, now_ + 1h);
    EXPECT_EQ(store->pings()->at("a").failed, now_ + 2h);
    ASSERT_TRUE(store->take_ping("a", PingCall::kDone, now_ + 3h));
  }
  auto store = open();
  ASSERT_TRUE(store->watch_pings(both, now_ + 24h));  // it was watched before
  auto pings = *store->pings();
  ASSERT_EQ(pings.size(), 2U);
  EXPECT_EQ(pings.at("a").watched_from, now_);
  EXPECT_FALSE(pings.at("a").started) << "that it is done undoes what was said before";
  EXPECT_FALSE(pings.at("a").failed);
  EXPECT_EQ(pings.at("a").done, now_ + 3h);
  EXPECT_FALSE(pings.at("b").done);
  ASSERT_TRUE(store->watch_pings({{.name = "b"}}, now_ + 24h));
  ASSERT_TRUE(store->watch_pings(both, now_ + 48h));
  EXPECT_EQ(store->pings()->at("a").watched_from, now_ + 48h) << "it was taken out and is new again";
  EXPECT_FALSE(store->pings()->at("a").done);
}

TEST_F(AlertStoreTest, M2_what_a_script_said_last_counts_whatever_the_clock_did) {
  auto store = open();
  ASSERT_TRUE(store->watch_pings({{.name = "a"}}, now_));
  const auto state = [&](Time at) {
    return state_of({.name = "a", .when = {}, .grace = 1h, .calls = store->pings()->at("a")}, at);
  };
  ASSERT_TRUE(store->take_ping("a", PingCall::kDone, now_ + 24h * 365));  // a clock that was a year ahead
  ASSERT_TRUE(store->take_ping("a", PingCall::kStart, now_ + 1h));
  EXPECT_EQ(state(now_ + 1h), PingState::kRunning);
  ASSERT_TRUE(store->take_ping("a", PingCall::kFail, now_ + 2h));
  EXPECT_EQ(state(now_ + 2h), PingState::kFailed);
  ASSERT_TRUE(store->take_ping("a", PingCall::kFail, now_ + 24h * 365));
  ASSERT_TRUE(store->take_ping("a", PingCall::kDone, now_ + 3h));
  EXPECT_EQ(state(now_ + 3h), PingState::kGood);
  ASSERT_TRUE(store->take_ping("a", PingCall::kDone, now_ + 24h * 365));
  ASSERT_TRUE(store->trim(now_ + 4h));
  EXPECT_EQ(store->pings()->at("a").done, now_ + 4h) << "nobody would be late for a year";
}

TEST_F(AlertStoreTest, old_messages_go_and_their_numbers_are_not_used_again) {
  auto store = open();
  AlertBook book(AlertState{});
  decide(*store, book, seen("failed"), 1h);
  decide(*store, book, AlertBook::Seen{}, 2h);
  ASSERT_TRUE(store->set_sent(1, now_));
  ASSERT_TRUE(store->trim(now_ + 24h * 500));
  EXPECT_TRUE(store->list(10)->empty());
  auto kept = store->read();
  EXPECT_EQ(kept->state.next_alert, 2);
  EXPECT_EQ(kept->state.next_message, 3);
  EXPECT_TRUE(*store->next_to_send("ops", now_)) << "what waits stays";
}

TEST_F(AlertStoreTest, M4_a_template_is_filled_by_the_rules_of_what_it_makes) {
  TellItem item;
  item.alert = 3;
  item.event = "failure";
  item.what = "said \"no\"\nand \\ went";
  const TellMessage message{1, "ops", TellKind::kOpened, {item}, now_};
  const Delivery delivery{.message = message, .dedup = "s-m1", .journal = "s", .host = "db1"};
  EXPECT_EQ(*fill_template(R"({"a": "{{what}}", "id": "{{id}}"})", delivery, Escape::kJson),
            R"({"a": "said \"no\"\nand \\ went", "id": "s-m1"})");
  EXPECT_EQ(*fill_template("{{event}}: {{what}}", delivery, Escape::kNone),
            "failure: said \"no\"\nand \\ went");
  EXPECT_EQ(fill_template("{{waht}}", delivery, Escape::kNone).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(fill_template("{{what", delivery, Escape::kNone).error().kind, ErrorKind::kUsage);
}

TEST_F(AlertStoreTest, S19_what_status_prints_is_read_and_what_is_none_is_not) {
  EXPECT_FALSE(read_status(""));
  EXPECT_FALSE(read_status("{}"));
  EXPECT_FALSE(read_status(R"({"schema": "kuramori/status/1", "time": 5})"));
  EXPECT_FALSE(read_status(R"({"schema": "kuramori/error/1", "time": "2026-03-02T10:00:00Z"})"));
  auto status = read_status(
      R"({"schema": "kuramori/status/1", "time": "2026-03-02T10:00:00Z", "resources": [{"resource": "db",
    "restorable_to": "2026-03-02T09:00:00Z", "last_proof": {"time": "2026-03-01T09:00:00Z", "passed": false},
    "last_passed": null, "places": [{"vault": "here", "snapshots": 3, "oldest": "2026-02-02T09:00:00Z",
    "newest": null, "behind_since": null, "trouble": ""}, {"vault": "there", "snapshots": 0, "trouble": "gone"}]}]})");
  ASSERT_TRUE(status);
  const auto& db = status->resources.at(0);
  EXPECT_FALSE(db.proof->passed);
  EXPECT_FALSE(db.passed);
  EXPECT_EQ(db.places.at(0).snapshots, 3U);
  EXPECT_EQ(db.places.at(1).trouble, "gone");
  AlertFacts facts;
  facts.resources = {{.resource = "db"}};
  facts.vaults = {{.name = "there"}};
  std::map<std::string, Time> away;
  add_seen(facts, *status, away);
  EXPECT_FALSE(facts.resources[0].is_seen);
  EXPECT_TRUE(facts.resources[0].last_proof_failed);
  EXPECT_EQ(facts.resources[0].last_proof, db.proof->at);
  EXPECT_EQ(facts.resources[0].oldest, db.places.at(0).oldest);
  EXPECT_TRUE(facts.vaults[0].trouble_since);
  const Time since = *facts.vaults[0].trouble_since;
  add_unseen(facts, "no key", since + 1h, away);
  EXPECT_EQ(facts.vaults[0].trouble_since, since) << "since the first time";
  EXPECT_EQ(read_sizes(R"({"snapshots": [{"time": "2026-03-02T09:00:00Z", "size_bytes": 5},
                          {"time": "2026-03-02T10:00:00Z", "size_bytes": 6}]})"),
            (std::vector<double>{6, 5}));
}

TEST_F(AlertStoreTest, S19_reviews_that_wait_for_somebody_and_no_others) {
  const Config config;
  EXPECT_FALSE(read_reviews("", config));
  EXPECT_FALSE(read_reviews(R"({"schema": "kuramori/error/1"})", config))
      << "a vault was away: nothing is over";
  const auto reviews = read_reviews(R"({"schema": "kuramori/reviews/1", "reviews": [
    {"id": "a", "resource": "db", "vault": "here", "time": "2026-03-02T09:00:00Z", "label": "x", "newer": "b", "newer_is_proven": false},
    {"id": "b", "resource": "db", "vault": "here", "time": "2026-03-02T10:00:00Z", "label": "x", "newer": null, "newer_is_proven": false},
    {"id": "c", "resource": "db", "vault": "here", "time": "2026-03-01T09:00:00Z", "label": "x", "newer": "b", "newer_is_proven": true}, 7]})",
                                    config);
  ASSERT_TRUE(reviews);
  ASSERT_EQ(reviews->size(), 1U);
  EXPECT_EQ(reviews->front().id, "a");
  EXPECT_EQ(reviews->front().label, "x");
}

}  // namespace
}  // namespace kuramori
