#include "daemon/run_log.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace kuramori {
namespace {

using JobRun = Run;  // a test has a Run() of its own

JobRun run_of(int64_t id, RunState state, std::string why = "") {
  JobRun run;
  run.id = id;
  run.job = "backup p/a";
  run.due = from_unix_ns(1'800'000'000'000'000'000);
  run.state = state;
  run.vault = "here";
  run.attempt = 1;
  run.started = run.due + std::chrono::seconds(1);
  if (is_over(state)) run.ended = run.due + std::chrono::milliseconds(3500);
  run.why = std::move(why);
  return run;
}

class RunLogTest : public testing::Test {
 protected:
  std::string text_of(const std::string& name) {
    const auto content = read_file(folder_ / name);
    return content ? std::string(as_text(*content)) : "";
  }
  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-run-log-");
};

TEST_F(RunLogTest, ALineForEachChangeWithWhatAPersonAsksFor_M6) {
  RunLog log(folder_.path());
  const std::vector<JobRun> runs{run_of(1, RunState::kRunning),
                                 run_of(2, RunState::kFailed, "no \"space\"\nleft")};
  ASSERT_TRUE(log.write(runs, from_unix_ns(1'800'000'004'000'000'000)));
  EXPECT_EQ(
      text_of("runs.log"),
      "{\"schema\":\"kuramori/run/1\",\"time\":\"2027-01-15T08:00:04Z\",\"run\":1,\"job\":\"backup p/a\","
      "\"state\":\"RUNNING\",\"due\":\"2027-01-15T08:00:00Z\",\"vault\":\"here\",\"attempt\":1}\n"
      "{\"schema\":\"kuramori/run/1\",\"time\":\"2027-01-15T08:00:04Z\",\"run\":2,\"job\":\"backup p/a\","
      "\"state\":\"FAILED\",\"due\":\"2027-01-15T08:00:00Z\",\"vault\":\"here\",\"attempt\":1,"
      "\"seconds\":2.5,\"why\":\"no \\\"space\\\"\\nleft\"}\n");
  ASSERT_TRUE(log.write({}, from_unix_ns(0)));
}

TEST_F(RunLogTest, ItIsBoundedAndWhatIsOldestGoes_M6) {
  RunLog log(folder_.path(), 1000);
  const std::vector<JobRun> one{run_of(1, RunState::kCompleted)};
  for (int64_t id = 1; id <= 500; ++id) {
    const std::vector<JobRun> runs{run_of(id, RunState::kCompleted)};
    ASSERT_TRUE(log.write(runs, from_unix_ns(0)));
  }
  size_t files = 0;
  const auto entries = list_folder(folder_.path());
  ASSERT_TRUE(entries);
  for (const FolderEntry& entry : *entries) {
    EXPECT_LE(text_of(entry.name).size(), 1000u) << entry.name;
    EXPECT_TRUE(text_of(entry.name).ends_with("}\n")) << "whole lines";
    ++files;
  }
  EXPECT_EQ(files, 1u + kRunLogsKept);
  EXPECT_NE(text_of("runs.log").find("\"run\":500,"), std::string::npos);
}

TEST_F(RunLogTest, AFolderThatIsGoneIsToldAndNothingElse_M6) {
  RunLog log(folder_ / "gone");
  const std::vector<JobRun> one{run_of(1, RunState::kCompleted)};
  EXPECT_FALSE(log.write(one, from_unix_ns(0)));
}

}  // namespace
}  // namespace kuramori
