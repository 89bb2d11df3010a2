#include "os/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/lock.h"
#include "os/signals.h"
#include "os/user.h"

namespace kuramori {
namespace {

TEST(Run, captures_both_streams_and_the_exit_status) {
  Result<Finished> done = run({.argv = {"sh", "-c", "cat; echo err >&2; exit 3"}, .input = "hello"});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->output, "hello");
  EXPECT_EQ(done->errors, "err\n");
  EXPECT_EQ(done->exit.code, 3);
  EXPECT_EQ(run({.argv = {"sh", "-c", "kill -9 $$"}})->exit.signal, 9);
}

TEST(Run, large_input_and_output_do_not_block_each_other) {
  std::string big(3 << 20, 'x');
  Result<Finished> done = run({.argv = {"cat"}, .input = big});
  ASSERT_TRUE(done);
  EXPECT_TRUE(done->output == big);
  done = run({.argv = {"cat"}, .input = big, .output_max = 10});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->output.size(), 10u);
  EXPECT_TRUE(done->output_truncated);
  EXPECT_TRUE(run({.argv = {"true"}, .input = big}));  // does not read its input: no SIGPIPE for us
}

TEST(Run, a_program_that_is_absent_or_cannot_start_is_an_error) {
  EXPECT_EQ(run({.argv = {"no-such-program-here"}}).error().kind, ErrorKind::kNotFound);
  Result<Finished> nowhere = run({.argv = {"true"}, .folder = "/no/such/folder"});
  ASSERT_FALSE(nowhere);
  EXPECT_NE(nowhere.error().what.find("enter its folder"), std::string::npos);
  EXPECT_FALSE(run_checked({.argv = {"sh", "-c", "echo because >&2; exit 1"}}));
  EXPECT_EQ(run_checked({.argv = {"sh", "-c", "echo because >&2; exit 1"}}).error().why, "because");
}

TEST(Run, a_time_out_or_a_stop_ends_the_whole_group) {
  Duration begun = system_clock().steady();
  Result<Finished> late =
      run({.argv = {"sh", "-c", "sleep 60 & sleep 60"}, .timeout = std::chrono::milliseconds(100)});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kUnknown);
  std::stop_source source;
  source.request_stop();
  EXPECT_EQ(run({.argv = {"sleep", "60"}, .stop = source.get_token()}).error().kind, ErrorKind::kInterrupted);
  EXPECT_LT(system_clock().steady() - begun, std::chrono::seconds(4));
}

TEST(Run, does_not_wait_for_a_server_that_outlives_the_starter_and_keeps_its_streams) {
  Duration begun = system_clock().steady();
  Result<Finished> done = run({.argv = {"sh", "-c", "sleep 5 & echo $!"}});
  ASSERT_TRUE(done);
  EXPECT_LT(system_clock().steady() - begun, std::chrono::seconds(3));
  ::kill(std::stoi(done->output), SIGKILL);
}

TEST(Run, inherits_no_descriptor_and_only_the_environment_it_is_given) {
  Fd leaked(::fcntl(0, F_DUPFD, 100));  // deliberately without close-on-exec
  Result<std::string> listed =
      run_checked({.argv = {"sh", "-c", "echo /proc/self/fd/*; env"},
                   .environment = std::vector<std::string>{"PATH=/usr/bin:/bin", "A=1"},
                   .set = {{"A", "2"}}});
  ASSERT_TRUE(listed);
  EXPECT_EQ(listed->find(fmt::format("fd/{}\n", leaked.get())), std::string::npos);
  EXPECT_EQ(listed->find(fmt::format("fd/{} ", leaked.get())), std::string::npos);
  EXPECT_NE(listed->find("A=2"), std::string::npos);
  EXPECT_EQ(listed->find("A=1"), std::string::npos);
  EXPECT_EQ(listed->find("HOME="), std::string::npos);
}

TEST(Run, as_another_user_it_has_no_groups_of_ours) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  User nobody = *user_of_name("nobody");
  Result<std::string> ids = run_checked({.argv = {"id"}, .run_as = Identity{nobody.uid, nobody.gid}});
  ASSERT_TRUE(ids);
  EXPECT_NE(ids->find(fmt::format("uid={}(nobody)", nobody.uid)), std::string::npos);
  EXPECT_EQ(ids->find("root"), std::string::npos);
}

TEST(ChildTest, ends_when_told_and_is_killed_when_deaf) {
  Child polite = *Child::start({.argv = {"sleep", "60"}}, {});
  EXPECT_TRUE(polite.running());
  EXPECT_FALSE(*polite.wait_for(std::chrono::milliseconds(1)));
  EXPECT_EQ(polite.terminate()->signal, SIGTERM);
  EXPECT_FALSE(polite.running());

  Pipe ready = *make_pipe();
  Child deaf = *Child::start({.argv = {"sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"}},
                             {.output = std::move(ready.write)});
  char byte;
  ASSERT_EQ(::read(ready.read.get(), &byte, 1), 1);
  EXPECT_EQ(deaf.terminate(std::chrono::milliseconds(100))->signal, SIGKILL);
}

TEST(ChildTest, is_gone_when_its_owner_is) {
  pid_t pid;
  {
    Child child = *Child::start({.argv = {"sleep", "60"}}, {});
    pid = child.pid();
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(FileLockTest, one_exclusive_or_many_shared) {
  TemporaryFolder folder = *TemporaryFolder::make("kuramori-lock");
  std::optional<FileLock> held = *FileLock::try_acquire(folder / "l");
  ASSERT_TRUE(held);
  EXPECT_FALSE(*FileLock::try_acquire(folder / "l"));
  EXPECT_EQ(FileLock::acquire(folder / "l", std::chrono::milliseconds(1)).error().kind, ErrorKind::kRefused);
  held.reset();
  std::optional<FileLock> shared = *FileLock::try_acquire(folder / "l", LockMode::kShared);
  EXPECT_TRUE(shared);
  EXPECT_TRUE(*FileLock::try_acquire(folder / "l", LockMode::kShared));
  EXPECT_FALSE(*FileLock::try_acquire(folder / "l"));
}

TEST(Signals, the_first_asks_and_the_second_ends) {
  pid_t pid = ::fork();
  if (pid == 0) {
    std::stop_token token = stop_on_signals();
    ::raise(SIGTERM);
    while (!token.stop_requested()) std::this_thread::yield();
    if (stop_signal() != SIGTERM) ::_exit(1);
    ::raise(SIGTERM);
    ::_exit(2);
  }
  int status;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
}

TEST(UserTest, root_is_zero_and_nobody_knows_this_one) {
  EXPECT_EQ(user_of_name("root")->uid, 0u);
  EXPECT_EQ(user_of_uid(0)->name, "root");
  EXPECT_EQ(group_name_of(*gid_of_name("root")).value(), "root");
  EXPECT_EQ(user_of_name("no-such-user-here").error().kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace kuramori
