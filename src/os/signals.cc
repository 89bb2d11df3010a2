#include "os/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "base/check.h"

namespace kuramori {
namespace {

constexpr int kInterruptedStatus = 130;

std::atomic<int> first_signal = 0;
std::atomic<bool> hung_up = false;
int wake_pipe[2] = {-1, -1};

void on_hangup(int) {
  hung_up = true;
}

// request_stop() takes a lock and runs callbacks, which a handler must not (P72): the handler only writes a
// byte, a thread does the rest.
void on_signal(int number) {
  int none = 0;
  if (!first_signal.compare_exchange_strong(none, number)) ::_exit(kInterruptedStatus);
  int code = errno;
  (void)!::write(wake_pipe[1], "", 1);
  errno = code;
}

void on_sighup(void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGHUP, &action, nullptr);
}

std::stop_source& source() {
  static auto* leaked = new std::stop_source;  // outlives every thread that still polls it at exit
  return *leaked;
}

}  // namespace

std::stop_token stop_on_signals() {
  static const bool installed = [] {
    (void)source();
    CHECK(::pipe2(wake_pipe, O_CLOEXEC) == 0);
    std::thread([] {
      char byte;
      while (::read(wake_pipe[0], &byte, 1) < 0 && errno == EINTR) {
      }
      source().request_stop();
    }).detach();
    struct sigaction action{};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;  // who wants to stop polls the token; no call fails half-way with EINTR
    for (int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
    action.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &action, nullptr);
    return true;
  }();
  (void)installed;
  return source().get_token();
}

void hangups_do_not_stop() {
  on_sighup(on_hangup);
}

bool take_hangup() {
  return hung_up.exchange(false);
}

void hangups_stop() {
  on_sighup(on_signal);
  if (take_hangup()) (void)::raise(SIGHUP);
}

int stop_signal() {
  return first_signal.load();
}

}  // namespace kuramori
