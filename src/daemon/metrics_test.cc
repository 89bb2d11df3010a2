#include "daemon/metrics.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

using testing::Test;
using JobRun = Run;

Time at(int64_t seconds) {
  return from_unix_ns(seconds * 1'000'000'000);
}

bool has(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

TEST(Metrics, B5_M1_WhatIsKnownOfAResourceAndNothingThatIsNot) {
  MetricFacts facts{.version = "1.2.3", .now = at(10'000), .started = at(9'000)};
  ShownStatus::Resource one{.name = "orders \"db\"\\\n", .kind = "postgres", .state = "at risk", .rpo = "1h"};
  one.restorable_to = at(9'000);
  one.broken = {"no", "neither"};
  one.places = {
      {.vault = "tokyo", .snapshots = 3, .added_bytes = 77, .newest = at(9'500), .newest_wal = at(9'900)},
      {.vault = "osaka", .snapshots = 2, .newest = at(8'000), .behind_since = at(9'500)},
      {.vault = "away", .trouble = "it is away"}};
  one.places[0].wal_gaps = 2;
  facts.status = ShownStatus{.at = at(9'999), .resources = {one, {.name = "files", .state = "unprotected"}}};
  const std::string text = metrics_text(facts);
  const std::string name = R"(resource="orders \"db\"\\\n")";
  EXPECT_TRUE(has(text, "kuramori_build_info{version=\"1.2.3\"} 1")) << text;
  EXPECT_TRUE(has(text, "kuramori_resource_rpo_promised_seconds{" + name + "} 3600")) << text;
  EXPECT_TRUE(has(text, "kuramori_resource_rpo_achieved_seconds{" + name + "} 1000"));
  EXPECT_TRUE(has(text, "kuramori_resource_protected{" + name + "} 0"));
  EXPECT_TRUE(has(text, "kuramori_resource_restorable{" + name + "} 1"));
  EXPECT_TRUE(has(text, "kuramori_resource_restorable{resource=\"files\"} 0"));
  EXPECT_TRUE(has(text, "kuramori_resource_broken_promises{" + name + "} 2"));
  EXPECT_TRUE(has(text, "kuramori_resource_copy_lag_seconds{" + name + ",vault=\"osaka\"} 500"));
  EXPECT_TRUE(has(text, "kuramori_resource_copy_lag_seconds{" + name + ",vault=\"tokyo\"} 0"));
  EXPECT_TRUE(has(text, "kuramori_resource_wal_lag_seconds{" + name + ",vault=\"tokyo\"} 100"));
  EXPECT_TRUE(has(text, "kuramori_resource_wal_gaps{" + name + ",vault=\"tokyo\"} 2"));
  EXPECT_TRUE(has(text, "kuramori_vault_reachable{vault=\"away\"} 0"));
  EXPECT_TRUE(has(text, "kuramori_vault_snapshots{vault=\"tokyo\"} 3"));
  // Of what cannot be looked at nothing is said; what nobody promised or proved is absent.
  EXPECT_EQ(text.find("vault=\"away\"} 0\nkuramori_vault_snapshots"), std::string::npos);
  EXPECT_EQ(text.find("kuramori_resource_snapshots{" + name + ",vault=\"away\"}"), std::string::npos);
  EXPECT_EQ(text.find("kuramori_resource_rto_"), std::string::npos);
  EXPECT_EQ(text.find("kuramori_jobs"), std::string::npos);
  EXPECT_EQ(text.find("kuramori_resource_last_proof"), std::string::npos);
}

TEST(Metrics, M2_AlertsByWhatIsWrongAndHowCritical) {
  MetricFacts facts{.version = "1", .now = at(10), .started = at(0)};
  EXPECT_EQ(metrics_text(facts).find("kuramori_alerts"), std::string::npos);  // nothing is noticed here
  facts.alerts =
      *read_alerts(R"({"schema": "kuramori/alerts/1", "undelivered": [{"to": "hook", "why": "404"}],
    "alerts": [{"id": 1, "state": "open", "event": "failure", "criticality": "high"},
               {"id": 2, "state": "acknowledged", "event": "failure", "criticality": "high", "acknowledged_by": "mori"},
               {"id": 3, "state": "open", "event": "late", "criticality": ""},
               {"id": 4, "state": "over", "event": "late", "criticality": ""}, 5]})");
  const std::string text = metrics_text(facts);
  EXPECT_TRUE(has(text, "kuramori_alerts_open{event=\"failure\",criticality=\"high\"} 2")) << text;
  EXPECT_TRUE(has(text, "kuramori_alerts_open{event=\"late\",criticality=\"\"} 1")) << text;
  EXPECT_TRUE(has(text, "kuramori_alerts_unacknowledged 2")) << text;
  EXPECT_TRUE(has(text, "kuramori_notify_undelivered 1")) << text;
  facts.alerts = ShownAlerts{};
  EXPECT_TRUE(has(metrics_text(facts), "kuramori_alerts_unacknowledged 0"));  // known: it is nothing
  EXPECT_FALSE(read_alerts(R"({"schema": "kuramori/jobs/1", "alerts": []})"));
}

TEST(Metrics, M2_ScriptsThatCall) {
  MetricFacts facts{.version = "1", .now = at(10), .started = at(0)};
  facts.status = *read_status(
      R"({"schema": "kuramori/status/1", "time": "1970-01-01T00:00:09Z", "resources": [], "pings": [
    {"name": "a", "state": "good", "late": false, "done": "1970-01-01T00:00:05Z"},
    {"name": "b", "state": "failed", "late": true, "done": null}]})");
  const std::string text = metrics_text(facts);
  EXPECT_TRUE(has(text, "kuramori_ping_late{ping=\"a\"} 0")) << text;
  EXPECT_TRUE(has(text, "kuramori_ping_late{ping=\"b\"} 1")) << text;
  EXPECT_TRUE(has(text, "kuramori_ping_failed{ping=\"b\"} 1")) << text;
  EXPECT_TRUE(has(text, "kuramori_ping_last_done_timestamp_seconds{ping=\"a\"} 5")) << text;
  EXPECT_EQ(text.find("last_done_timestamp_seconds{ping=\"b\"}"), std::string::npos);
}

class Tally : public Test {
 protected:
  static JobRun run(int64_t id, RunState state, const std::string& job = "backup p/a") {
    JobRun out;
    out.id = id;
    out.job = job;
    out.due = out.since = out.created = at(id);
    out.state = state;
    if (state >= RunState::kRunning) out.started = at(id + 1);
    if (is_over(state)) out.ended = at(id + 1 + 10);
    return out;
  }
  void write(const std::vector<JobRun>& runs) {
    Step step;
    step.changed = runs;
    ASSERT_TRUE(journal_->write(step));
    ASSERT_TRUE(tally_.take(*journal_));
  }
  std::unique_ptr<JobJournal> journal_ = *JobJournal::open(":memory:");
  RunTally tally_;
};

TEST_F(Tally, EachRunIsCountedOnceWhenItIsOver) {
  write({run(1, RunState::kCompleted), run(2, RunState::kRunning),
         run(3, RunState::kPending, "copy p/a to b")});
  EXPECT_EQ(tally_.open().size(), 2u);
  EXPECT_EQ(tally_.jobs().at("backup p/a").ended.at(RunState::kCompleted), 1u);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(tally_.take(*journal_));  // nothing happened
  write({run(2, RunState::kFailed), run(4, RunState::kCompleted)});
  EXPECT_EQ(tally_.open().size(), 1u);
  const JobTally& job = tally_.jobs().at("backup p/a");
  EXPECT_EQ(job.ended.at(RunState::kCompleted), 2u);
  EXPECT_EQ(job.ended.at(RunState::kFailed), 1u);
  EXPECT_EQ(job.last->id, 4);
  EXPECT_EQ(tally_.kinds().at("backup").count, 3u);
  EXPECT_EQ(tally_.kinds().at("backup").seconds, 30);
  EXPECT_EQ(tally_.kinds().at("backup").within[2], 3u);  // of 15 s
  EXPECT_EQ(tally_.kinds().at("backup").within[1], 0u);  // of 5 s
}

TEST_F(Tally, M1_JobsByStateAndLatenessOfTheScheduler) {
  JobRun late = run(3, RunState::kPending, "drill p/a");
  write({run(1, RunState::kPartial), run(2, RunState::kRunning), late});
  MetricFacts facts{.version = "1", .now = at(63), .started = at(0)};
  facts.runs = &tally_;
  facts.streams = {{"wal stream db", false}};
  facts.heartbeat_seconds = 0.25;
  const std::string text = metrics_text(facts);
  EXPECT_TRUE(has(text, "kuramori_jobs{state=\"RUNNING\"} 1")) << text;
  EXPECT_TRUE(has(text, "kuramori_jobs{state=\"PENDING\"} 1"));
  EXPECT_TRUE(has(text, "kuramori_jobs{state=\"CREATED\"} 0"));
  EXPECT_TRUE(has(text, "kuramori_scheduler_lateness_seconds 60"));
  EXPECT_TRUE(has(text, "kuramori_scheduler_heartbeat_age_seconds 0.25"));
  EXPECT_TRUE(has(text, "kuramori_job_last_failed{job_id=\"backup p/a\"} 1"));  // PARTIAL is no success (S20)
  EXPECT_TRUE(has(text, "kuramori_job_last_success_timestamp_seconds{job_id=\"backup p/a\"} 12"));
  EXPECT_TRUE(has(text, "kuramori_job_duration_seconds_bucket{kind=\"backup\",le=\"+Inf\"} 1"));
  EXPECT_TRUE(has(text, "kuramori_stream_running{stream=\"wal stream db\"} 0"));
}

}  // namespace
}  // namespace kuramori
