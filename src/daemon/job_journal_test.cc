#include "daemon/job_journal.h"

#include <gtest/gtest.h>

#include <fstream>

#include "daemon/job_process.h"
#include "os/file.h"

namespace kuramori {
namespace {

using JobRun = Run;  // a test has a Run() of its own

class JournalTest : public testing::Test {
 protected:
  TemporaryFolder folder_ = *TemporaryFolder::make("journal");
  std::string path_ = folder_ / kJobJournalFile;

  std::unique_ptr<JobJournal> open() {
    auto journal = JobJournal::open(path_);
    EXPECT_TRUE(journal) << journal.error().what << journal.error().why;
    return journal ? std::move(*journal) : nullptr;
  }
  static JobRun run(int64_t id, RunState state, std::string job = "backup p/a") {
    JobRun out;
    out.id = id;
    out.job = std::move(job);
    out.due = from_unix_ns(id * 1000);
    out.since = from_unix_ns(id * 1000 - 1);
    out.state = state;
    out.vault = "here";
    out.created = from_unix_ns(id * 1000 + 1);
    if (state >= RunState::kRunning) out.started = from_unix_ns(id * 1000 + 2), out.attempt = 1;
    if (is_over(state)) out.ended = from_unix_ns(id * 1000 + 3);
    return out;
  }
};

TEST_F(JournalTest, B11_WhatWasWrittenIsThereForTheNextDaemon) {
  std::string name;
  {
    auto journal = open();
    EXPECT_TRUE(journal->is_new());
    name = journal->name();
    Step step;
    step.changed = {run(1, RunState::kCompleted), run(2, RunState::kPending),
                    run(3, RunState::kRunning, "drill p/a")};
    step.remembered["backup p/a"] = {
        .watched_until = from_unix_ns(77), .had_run = {}, .last_vault = "osaka", .when = "0 * * * *||"};
    ASSERT_TRUE(journal->write(step));
    ASSERT_TRUE(journal->set_process(3, {.pid = 11, .began = 12}));
    // The same run again: what it became.
    step.changed = {run(2, RunState::kFailed)};
    step.changed[0].why = "the server said 'no'";
    ASSERT_TRUE(journal->write(step));
  }
  auto journal = open();
  EXPECT_FALSE(journal->is_new());
  EXPECT_EQ(journal->name(), name);
  auto kept = journal->read();
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->next_run, 4);
  ASSERT_EQ(kept->open.size(), 1U);
  EXPECT_EQ(kept->open[0].id, 3);
  EXPECT_EQ(kept->open[0].state, RunState::kRunning);
  EXPECT_EQ(kept->open[0].attempt, 1);
  EXPECT_EQ(kept->open[0].started, from_unix_ns(3002));
  EXPECT_EQ(kept->processes[3], (ProcessMark{.pid = 11, .began = 12}));
  const JobMemory& memory = kept->jobs["backup p/a"];
  EXPECT_EQ(memory.watched_until, from_unix_ns(77));
  EXPECT_EQ(memory.last_vault, "osaka");
  EXPECT_EQ(memory.had_run, (std::vector<Time>{from_unix_ns(1000), from_unix_ns(2000)}));
}

TEST_F(JournalTest, P67_WhatItHoldsBesideItsFileStaysSmall) {
  auto journal = open();
  uint64_t most = 0;
  for (int64_t i = 1; i <= 400; ++i) {
    Step step;
    step.changed = {run(i, RunState::kFailed)};
    step.changed[0].why = std::string(20'000, 'w');
    ASSERT_TRUE(journal->write(step));
    most = std::max(most, status_if_there(path_ + "-wal")->value().size);
  }
  EXPECT_LT(most, uint64_t{2} << 20) << "two of them fill a small disk, and none is cut while that is full";
}

TEST_F(JournalTest, ListsWhatIsOpenAndThenTheNewestThatAreOver) {
  auto journal = open();
  Step step;
  for (int64_t id = 1; id <= 3000; ++id)
    step.changed.push_back(run(id, RunState::kCompleted, id == 5 ? "prune v" : "backup p/a"));
  step.changed.push_back(run(3001, RunState::kRunning));
  ASSERT_TRUE(journal->write(step));
  ASSERT_TRUE(journal->set_snapshot(3000, "0123456789abcdef"));
  auto listed = journal->list(2, [](const JobJournal::Listed&) { return true; });
  ASSERT_TRUE(listed);
  std::vector<int64_t> ids;
  for (const auto& one : *listed) ids.push_back(one.run.id);
  EXPECT_EQ(ids, (std::vector<int64_t>{3001, 3000, 2999}));
  EXPECT_EQ((*listed)[1].snapshot, "0123456789abcdef");
  ASSERT_TRUE(journal->set_progress({{3001, "copying, 2 of 3 GiB"}, {3000, "over"}}));
  listed = journal->list(1, [](const JobJournal::Listed&) { return true; });
  EXPECT_EQ((*listed)[0].progress, "copying, 2 of 3 GiB");
  EXPECT_EQ((*listed)[1].progress, "");
  // One that is seldom is found however far back it lies.
  listed = journal->list(2, [](const JobJournal::Listed& one) { return one.run.job == "prune v"; });
  ASSERT_EQ(listed->size(), 1U);
  EXPECT_EQ((*listed)[0].run.id, 5);
}

TEST_F(JournalTest, ACancellationIsToldOnce) {
  auto journal = open();
  ASSERT_TRUE(open()->ask_to_cancel(7));
  EXPECT_EQ(*journal->take_cancelled(), std::vector<int64_t>{7});
  EXPECT_EQ(*journal->take_cancelled(), std::vector<int64_t>{});
}

TEST_F(JournalTest, WhatIsNoJournalIsSetAsideAndAnotherBegun) {
  std::ofstream(path_) << std::string(5000, 'x');
  EXPECT_TRUE(open()->is_new());
  EXPECT_TRUE(*status_if_there(path_ + ".damaged"));
  EXPECT_NE(open()->name(), "");
}

TEST(JobOutput, LinesComeWholeHoweverTheyArriveAndTooLongOnesNotAtAll) {
  Lines lines(5);
  std::vector<std::string> taken;
  auto take = [&](std::string line) { taken.push_back(std::move(line)); };
  for (const char* piece : {"ab", "c\nd", "e\n", "123456", "789\n\nok", "\nrest"}) lines.add(piece, take);
  EXPECT_EQ(taken, (std::vector<std::string>{"abc", "de", "", "ok"}));
  EXPECT_EQ(lines.take_rest(), "rest");
}

TEST(JobOutput, AResultIsWhatItsDocumentSays) {
  const JobResult made = read_job_result(
      R"({"schema":"kuramori/snapshot/1","snapshot":{"id":"0a","plan":"p","time":"t","proof":{"time":"u","vault":"v"}}})");
  EXPECT_EQ(made.snapshot, "0a");
  EXPECT_EQ(made.plan, "p");
  EXPECT_EQ(made.proof_vault, "v");
  EXPECT_FALSE(made.listed);
  const JobResult listed = read_job_result(
      R"({"schema":"kuramori/snapshots/1","snapshots":[{"id":"0a","tags":{"k":"v","odd":3}},{"id":"0b"},7]})");
  ASSERT_TRUE(listed.listed);
  ASSERT_EQ(listed.listed->size(), 3U);
  EXPECT_EQ(listed.listed->front().snapshot, "0a");
  EXPECT_EQ(listed.listed->front().tags, (std::map<std::string, std::string>{{"k", "v"}}));
  EXPECT_TRUE(listed.listed->back().tags.empty());
  EXPECT_EQ(listed.snapshot, "");
  const JobResult none_listed = read_job_result(R"({"schema":"kuramori/snapshots/1","snapshots":[]})");
  EXPECT_TRUE(none_listed.listed && none_listed.listed->empty());
  const auto progress = read_job_progress(
      R"({"schema":"kuramori/progress/1","phase":"copying","done_bytes":5,"total_bytes":9,"bytes_per_second":1})");
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->phase, "copying");
  EXPECT_EQ(progress->total_bytes, 9U);
  EXPECT_EQ(words_of_line(R"({"schema":"kuramori/note/1","level":"note","text":"too much"})"), "too much");
  EXPECT_EQ(words_of_line("no JSON"), "no JSON");
  const JobResult failed = read_job_result(
      R"({"schema":"kuramori/error/1","error":{"kind":"not_found","what":"a","why":"b","next":""}})");
  EXPECT_EQ(failed.error, "a: b");
  for (const char* none : {"", "{", "[]", "{\"snapshot\":3}", "{\"error\":[]}", "\xff"})
    EXPECT_EQ(read_job_result(none).error + read_job_result(none).snapshot, "") << none;
}

TEST_F(JournalTest, WhatWasAskedForStandsUntilItsRunDoes) {
  auto journal = open();
  auto other = open();  // another process
  ASSERT_TRUE(other->ask_to_run("backup p/a"));
  ASSERT_TRUE(other->ask_to_run("backup p/a"));
  EXPECT_EQ(*journal->asked(), std::vector<std::string>{"backup p/a"});
  EXPECT_EQ(journal->asked()->size(), 1u);
  ASSERT_TRUE(journal->forget_asked("backup p/a"));
  EXPECT_TRUE(journal->asked()->empty());
}

TEST_F(JournalTest, RunsAreReadByNumber) {
  auto journal = open();
  Step step;
  step.changed = {run(1, RunState::kCompleted), run(2, RunState::kPending), run(5, RunState::kFailed)};
  ASSERT_TRUE(journal->write(step));
  const auto after = *journal->runs_after(1);
  ASSERT_EQ(after.size(), 2u);
  EXPECT_EQ(after[0].id, 2);
  EXPECT_EQ(after[1].state, RunState::kFailed);
  EXPECT_EQ((*journal->find_run(5))->id, 5);
  EXPECT_FALSE(*journal->find_run(4));
}

}  // namespace
}  // namespace kuramori
