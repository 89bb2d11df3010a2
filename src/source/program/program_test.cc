// Real programs that fail in every way a dump can fail (S14).
#include "source/program/program.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "os/file.h"

namespace kuramori {
namespace {

using std::chrono::milliseconds;

struct Ran {
  Result<void> result;
  std::string output;
};
Ran run_it(ProgramRequest request) {
  Ran ran;
  request.on_output = [&](ByteView bytes) -> Result<void> {
    ran.output += as_text(bytes);
    return {};
  };
  ran.result = run_program(request);
  return ran;
}
Ran run_line(const std::string& line) {
  return run_it({.argv = shell_argv(line)});
}

TEST(Program, S14_those_started_at_once_do_not_hold_each_others_output) {
  std::atomic<int> wrong = 0;
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 6; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 60; ++i) {
        std::string said;
        const auto ran = run_program(
            {.argv = {"/bin/echo", "all of it"}, .on_output = [&](ByteView bytes) -> Result<void> {
               said += as_text(bytes);
               return {};
             }});
        if (!ran || said != "all of it\n") ++wrong;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

TEST(Program, output_comes_whole_when_it_ends_well) {
  const Ran ran = run_line("printf one; sleep 0.1; printf two; seq 1 100000 | tail -1");
  ASSERT_TRUE(ran.result) << ran.result.error().what;
  EXPECT_EQ(ran.output, "onetwo100000\n");
}

TEST(Program, a_status_other_than_zero_is_a_failure_with_what_it_said_last_S14) {
  const Ran ran = run_line("seq 1 1000 >&2; echo half; echo 'connection lost' >&2; exit 3");
  ASSERT_FALSE(ran.result);
  EXPECT_EQ(ran.result.error().kind, ErrorKind::kFailed);
  EXPECT_NE(ran.result.error().what.find("exit status 3"), std::string::npos);
  EXPECT_TRUE(ran.result.error().why.ends_with("1000\nconnection lost")) << ran.result.error().why;
  EXPECT_EQ(ran.result.error().why.find("\n990\n"), std::string::npos) << "its last lines alone";
  EXPECT_FALSE(ran.result.error().next.empty());
}

TEST(Program, what_it_said_is_not_told_where_it_may_be_secret) {
  const Ran ran = run_it(
      {.argv = shell_argv("echo token=abc123 >&2; exit 1"), .errors = ProgramRequest::Errors::kHidden});
  ASSERT_FALSE(ran.result);
  const Error& error = ran.result.error();
  EXPECT_EQ((error.what + error.why + error.next).find("abc123"), std::string::npos);
}

TEST(Program, a_signal_is_a_failure_S14) {
  const Ran ran = run_line("echo half; kill -9 $$");
  ASSERT_FALSE(ran.result);
  EXPECT_NE(ran.result.error().what.find("signal 9"), std::string::npos) << ran.result.error().what;
}

TEST(Program, a_pipe_whose_first_part_fails_is_a_failure_S14) {
  EXPECT_FALSE(run_line("false | cat").result);
  EXPECT_FALSE(run_line("{ echo half; exit 1; } | gzip -c").result);
  EXPECT_FALSE(run_line("false; echo done").result) << "and a line whose first command does";
  EXPECT_TRUE(run_line("true | cat").result);
  EXPECT_TRUE(run_line("false || echo chosen").result);
  EXPECT_TRUE(run_it({.argv = {"sh", "-c", "false | cat"}}).result) << "which a plain shell hides";
}

// A part that nobody waits for: how it ends is not in the program's status.
TEST(Program, a_part_that_still_writes_when_the_program_ends_is_a_failure_S14) {
  for (const char* line : {"(sleep 0.5; echo late) & echo early", "seq 1 10 > >(sleep 0.5; cat)"}) {
    const Ran ran = run_line(line);
    ASSERT_FALSE(ran.result) << line;
    EXPECT_NE(ran.result.error().what.find("still held its output"), std::string::npos)
        << ran.result.error().what;
  }
  EXPECT_TRUE(run_program({.argv = shell_argv("sleep 0.5 & true"), .may_leave_children = true}));
}

TEST(Program, output_that_ends_before_the_program_is_a_failure_S14) {
  const Ran ran =
      run_it({.argv = shell_argv("echo all; exec >&-; sleep 60"), .goes_on_after_output = milliseconds(200)});
  ASSERT_FALSE(ran.result);
  EXPECT_NE(ran.result.error().what.find("closed its output"), std::string::npos) << ran.result.error().what;
  EXPECT_TRUE(run_line("echo all; exec >&-; sleep 0.2").result) << "shortly before is how programs end";
}

TEST(Program, one_that_takes_too_long_or_is_stopped_goes_with_all_it_started) {
  const TemporaryFolder folder = *TemporaryFolder::make("program");
  const std::string line = "echo begun; (sleep 1; touch " + folder / "mark" + ") & wait";
  Ran ran = run_it({.argv = shell_argv(line), .timeout = milliseconds(200)});
  ASSERT_FALSE(ran.result);
  EXPECT_EQ(ran.result.error().kind, ErrorKind::kUnknown);
  std::stop_source stop;
  ProgramRequest request{.argv = shell_argv(line), .stop = stop.get_token()};
  request.on_output = [&](ByteView) -> Result<void> {
    stop.request_stop();
    return {};
  };
  auto stopped = run_program(request);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kInterrupted);
  ::usleep(1'300'000);
  EXPECT_FALSE(*status_if_there(folder / "mark"));
}

TEST(Program, whoever_takes_the_output_may_end_it) {
  uint64_t taken = 0;
  auto ended = run_program({.argv = {"yes"}, .on_output = [&](ByteView bytes) -> Result<void> {
                              taken += bytes.size();
                              if (taken < 1'000'000) return {};
                              return fail(ErrorKind::kNoSpace, "the vault is full");
                            }});
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::kNoSpace);
}

TEST(Program, a_program_that_is_not_there_is_a_failure_in_words) {
  const Ran ran = run_it({.argv = {"no-such-program-anywhere"}});
  ASSERT_FALSE(ran.result);
  EXPECT_EQ(ran.result.error().kind, ErrorKind::kFailed) << "not found would mean a file that was deleted";
  EXPECT_NE(ran.result.error().what.find("no-such-program-anywhere"), std::string::npos);
}

TEST(Program, its_environment_is_ours_without_what_is_for_this_program_alone) {
  ::setenv("KURAMORI_PASSPHRASE", "open sesame", 1);
  ::setenv("PROGRAM_TEST", "seen", 1);
  const Ran ran = run_it({.argv = {"env"}, .environment = {{"GIVEN", "1"}, {"KURAMORI_FOLDER", "/x"}}});
  ::unsetenv("KURAMORI_PASSPHRASE");
  ::unsetenv("PROGRAM_TEST");
  ASSERT_TRUE(ran.result);
  EXPECT_EQ(ran.output.find("sesame"), std::string::npos);
  for (const char* entry : {"PROGRAM_TEST=seen\n", "GIVEN=1\n", "KURAMORI_FOLDER=/x\n"})
    EXPECT_NE(ran.output.find(entry), std::string::npos) << entry;
}

TEST(Program, its_input_is_given_as_it_reads) {
  const TemporaryFolder folder = *TemporaryFolder::make("program");
  const Bytes piece(300'000, 'x');
  const auto give = [&](ContentSink& sink) -> Result<void> {
    for (int i = 0; i < 20; ++i) TRY(sink.add(piece));
    return sink.add_hole(100'000);
  };
  ASSERT_TRUE(run_program({.argv = shell_argv("cat > " + folder / "got"), .give_input = give}));
  EXPECT_EQ(status_of(folder / "got")->size, 20u * 300'000u + 100'000u);
  EXPECT_FALSE(run_program({.argv = {"head", "-c", "10"}, .give_input = give}))
      << "status 0, and it read a part";
  EXPECT_FALSE(run_program(
      {.argv = shell_argv("sleep 30 <&0 & true"), .give_input = give, .may_leave_children = true}))
      << "something it left holds its input: nobody waits for that";
}

// The end of an input means that it was all. A program that is given half must be ended before it believes
// so.
TEST(Program, input_that_breaks_off_never_looks_like_its_end) {
  const TemporaryFolder folder = *TemporaryFolder::make("program");
  auto broken =
      run_program({.argv = shell_argv("cat > " + folder / "got" + "; touch " + folder / "committed"),
                   .give_input = [](ContentSink& sink) -> Result<void> {
                     TRY(sink.add(as_bytes("half")));
                     return fail(ErrorKind::kDamaged, "a frame does not open");
                   }});
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().kind, ErrorKind::kDamaged);
  EXPECT_FALSE(*status_if_there(folder / "committed"));
}

TEST(Program, a_shell_line_that_hides_failures_is_told_S14) {
  EXPECT_TRUE(hides_failures({"sh", "-c", "pg_dump a | gzip"}));
  EXPECT_TRUE(hides_failures({"/bin/bash", "-c", "a; b"}));
  EXPECT_TRUE(hides_failures({"bash", "-ec", "a | b"}));
  EXPECT_FALSE(hides_failures(shell_argv("a | b; c")));
  EXPECT_FALSE(hides_failures({"bash", "-c", "set -e -o pipefail; a | b"}));
  EXPECT_FALSE(hides_failures({"sh", "-c", "a || b"}));
  EXPECT_FALSE(hides_failures({"pg_dump", "-Fc", "a;b|c"}));
}

TEST(Program, one_that_cannot_be_run_is_found_before_it_is_needed) {
  const TemporaryFolder folder = *TemporaryFolder::make("program");
  ASSERT_TRUE(write_new_file(folder / "plain", as_bytes("#!/bin/sh\n"), 0644));
  EXPECT_NE(look_at_program({folder / "plain"}, "run")->what.find("may not be executed"), std::string::npos);
  EXPECT_NE(look_at_program({folder / "absent"}, "run")->what.find("is not there"), std::string::npos);
  EXPECT_NE(look_at_program({"no-such-program-anywhere"}, "run")->what.find("PATH"), std::string::npos);
  EXPECT_TRUE(look_at_program({}, "run"));
  EXPECT_EQ(look_at_program({"sh", "-c", "a | b"}, "run")->severity, SourceFinding::Severity::kRisk);
  EXPECT_FALSE(look_at_program({"true"}, "run"));
  for (const auto& finding : {look_at_program({folder / "plain"}, "run"), look_at_program({}, "run")})
    EXPECT_FALSE(finding->fix.empty());
}

}  // namespace
}  // namespace kuramori
