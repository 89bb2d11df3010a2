#include "daemon/job_loop.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "daemon/job_journal.h"
#include "os/file.h"
#include "policy/setting.h"

namespace kuramori {
namespace {

using namespace std::chrono_literals;
using JobRun = Run;  // a test has a Run() of its own

constexpr const char* kJob = "backup p/a";
constexpr Duration kMostAwaited = 60s;  // on a machine at work

// Instead of this program a script: which job it is its words say, what becomes of it the files do that stand
// beside it. Each is written down.
constexpr const char* kProgram = R"(#!/bin/sh
cd {0} || exit 1
case " $* " in
  *" snapshots "*)
    echo question >> calls
    test -e hangs && exec sleep 600
    test -e stands || exec cat says
    for last; do :; done
    echo '{{"snapshots":[{{"id":"00112233aabbccdd","tags":{{"kuramori-run":"'"${{last#*=}}"'"}}}}]}}'
    ;;
  *" backup "*)
    echo backup >> calls
    test -e is-lost && kill -9 $$
    echo '{{"snapshot":{{"id":"0123456789abcdef"}}}}'
    ;;
esac
)";

class JobLoopTest : public testing::Test {
 protected:
  void SetUp() override {
    put("program", fmt::format(kProgram, folder_.path()));
    ASSERT_EQ(::chmod((folder_ / "program").c_str(), 0700), 0);
    put("says", "{\"snapshots\":[]}\n");
    put("is-lost", "");
    auto config = parse_config(
        "vaults:\n  here: { at: /v, key_file: /k, upkeep: { prune: off, collect: off, scrub: off } }\n"
        "resources:\n  a: { kind: files, paths: [/a] }\n"
        "plans:\n  p: { resources: [a], vault: here, schedule: \"0 3 1 1 *\" }\n",
        folder_ / "kuramori.yaml", machine_world());
    ASSERT_TRUE(config) << config.error().what;
    loop_ = std::make_unique<JobLoop>(JobLoopSettings{.program = folder_ / "program",
                                                      .config_path = folder_ / "kuramori.yaml",
                                                      .key_file = {},
                                                      .state_folder = folder_ / "state",
                                                      .load_config = [config] { return config; },
                                                      .open_vault = {},
                                                      .stop_within = 0s,
                                                      .answer_within = 5s},
                                      *config, silent_reporter());
    ASSERT_TRUE(await([&] { return loop_->facts().has_journal; }));
    auto journal = JobJournal::open(folder_ / "state/" + std::string(kJobJournalFile));
    ASSERT_TRUE(journal) << journal.error().what;
    journal_ = std::move(*journal);
    start();
    ASSERT_EQ(ended(1).state, RunState::kCreated);
    EXPECT_EQ(calls(), "backup\n");
    ASSERT_TRUE(remove_file(folder_ / "is-lost"));
  }

  void put(const std::string& name, const std::string& text) {
    ASSERT_TRUE(write_file_durably(folder_ / name, as_bytes(text), 0600));
  }
  std::string calls() const {
    auto text = read_file(folder_ / "calls", size_t{1} << 20);
    return text ? std::string(as_text(*text)) : std::string();
  }
  bool await(const std::function<bool()>& condition) const {
    const Duration deadline = system_clock().steady() + kMostAwaited;
    while (!condition()) {
      if (system_clock().steady() > deadline) return false;
      system_clock().sleep(10ms);
    }
    return true;
  }
  // Also one that pauses after a failure is tried at once then.
  void start() {
    ASSERT_TRUE(journal_->ask_to_run(kJob));
    loop_->reload();  // it looks round
  }
  // What became of the first run's try of that number.
  JobRun ended(int attempt) {
    JobRun run;
    EXPECT_TRUE(await([&] {
      auto found = journal_->find_run(1);
      if (found && *found) run = **found;
      return run.attempt == attempt && run.state != RunState::kRunning && run.state != RunState::kPending;
    })) << name_of(run.state)
        << run.attempt << run.why << calls();
    return run;
  }

  TemporaryFolder folder_ = *TemporaryFolder::make("job-loop");
  std::unique_ptr<JobLoop> loop_;
  std::unique_ptr<JobJournal> journal_;
};

TEST_F(JobLoopTest, B11_WhatTheVaultHasIsNotMadeAgain) {
  put("stands", "");
  start();
  EXPECT_EQ(ended(2).state, RunState::kCompleted);
  EXPECT_EQ(calls(), "backup\nquestion\n");
}

TEST_F(JobLoopTest, B11_WhatTheVaultHasNotIsMadeByTheSameTry) {
  start();
  EXPECT_EQ(ended(2).state, RunState::kCompleted);
  EXPECT_EQ(calls(), "backup\nquestion\nbackup\n");
}

TEST_F(JobLoopTest, P71_AQuestionWithoutAnswerEndsAsATryThatFailed) {
  put("hangs", "");
  start();
  const JobRun run = ended(2);
  EXPECT_EQ(run.state, RunState::kCreated);
  EXPECT_EQ(run.why, "the vault did not say within 5.0 s whether its snapshot stands");
  ASSERT_TRUE(remove_file(folder_ / "hangs"));
  start();
  EXPECT_EQ(ended(3).state, RunState::kCompleted);
  EXPECT_EQ(calls(), "backup\nquestion\nquestion\nbackup\n");
}

TEST_F(JobLoopTest, B11_AnErrorIsNeitherAYesNorANo) {
  std::string expected = "backup\n";
  int attempt = 1;
  for (const char* kind : {"usage", "not_found", "failed", "refused", "interrupted", "damaged"}) {
    put("says", fmt::format(R"({{"error":{{"kind":"{}","what":"it is so","why":"","next":""}}}})"
                            "\n",
                            kind));
    start();
    const JobRun run = ended(++attempt);
    EXPECT_EQ(run.state, RunState::kCreated) << kind;
    EXPECT_EQ(calls(), expected += "question\n") << kind;
  }
  put("says", "nothing that can be read\n");
  start();
  EXPECT_EQ(ended(8).state, RunState::kFailed);
  EXPECT_EQ(calls(), expected + "question\n");
}

}  // namespace
}  // namespace kuramori
