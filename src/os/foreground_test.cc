#include "os/foreground.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

namespace kuramori {
namespace {

TEST(Foreground, says_how_it_ended_and_stays_in_our_process_group) {
  EXPECT_EQ(run_in_foreground({"sh", "-c", "exit 7"})->code, 7);
  EXPECT_EQ(run_in_foreground({"sh", "-c", "kill -9 $$"})->signal, 9);
  // The program's own idea of its group, against ours: a terminal lets only the foreground group read.
  const std::string group = std::to_string(::getpgrp());
  EXPECT_EQ(run_in_foreground({"sh", "-c", "test \"$(ps -o pgid= -p $$ | tr -d ' ')\" = " + group})->code, 0);
}

TEST(Foreground, its_output_can_go_elsewhere) {
  Result<Pipe> pipe = make_pipe();
  ASSERT_TRUE(pipe);
  EXPECT_EQ(run_in_foreground({"echo", "there"}, std::move(pipe->write))->code, 0);
  char text[16];
  EXPECT_EQ(::read(pipe->read.get(), text, sizeof text), 6);
}

TEST(Foreground, what_is_no_program_says_so) {
  EXPECT_EQ(run_in_foreground({"no-such-program-here"}).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(run_in_foreground({"/no/such/program"}).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(run_in_foreground({"/etc/passwd"}).error().kind, ErrorKind::kDenied);
}

TEST(Foreground, signals_sent_to_us_are_for_it_alone_P72) {
  struct sigaction ours{}, after{};
  ours.sa_handler = SIG_IGN;
  ASSERT_EQ(::sigaction(SIGTERM, &ours, nullptr), 0);
  struct sigaction kept{};
  kept.sa_handler = SIG_IGN;
  ASSERT_EQ(::sigaction(SIGUSR1, &kept, nullptr), 0);
  std::jthread asks([](std::stop_token stop) {
    // Again and again: the first may come before the shell has its trap.
    while (!stop.stop_requested()) {
      ::kill(::getpid(), SIGUSR1);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  const Result<Exit> ended =
      run_in_foreground({"sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.02; done"});
  ASSERT_TRUE(ended);
  // 9 by its trap, or killed by a signal that came before it: either way it got there, and we live.
  EXPECT_TRUE(ended->code == 9 || ended->signal == SIGUSR1) << ended->describe();
  asks.request_stop();
  asks.join();
  ASSERT_EQ(::sigaction(SIGTERM, nullptr, &after), 0);
  EXPECT_EQ(after.sa_handler, SIG_IGN);  // ours are back
  ours.sa_handler = SIG_DFL;
  ::sigaction(SIGTERM, &ours, nullptr);
  ::sigaction(SIGUSR1, &ours, nullptr);
}

}  // namespace
}  // namespace kuramori
