#include "os/terminal.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <string>

namespace kuramori {
namespace {

constexpr std::string_view kTake = "\033[?1049h\033[?25l";  // second screen, no cursor
constexpr std::string_view kGiveBack = "\033[0m\033[?25h\033[?1049l";
constexpr std::array<int, 5> kCrashes = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

// Of the one terminal there is; a handler of signals can use nothing else.
termios as_it_was{};
volatile sig_atomic_t is_taken = 0;

void say(std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(STDOUT_FILENO, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;  // it is gone
    text.remove_prefix(static_cast<size_t>(put));
  }
}

void give_back() {
  if (is_taken == 0) return;
  is_taken = 0;
  say(kGiveBack);
  (void)::tcsetattr(STDIN_FILENO, TCSADRAIN, &as_it_was);
}

void on_crash(int signal) {
  give_back();
  (void)::raise(signal);  // its usual end: SA_RESETHAND
}

void on_resize(int) {}  // that it came ends a poll()

}  // namespace

bool is_terminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1 &&
         !(term != nullptr && std::string_view(term) == "dumb");
}

TerminalSize terminal_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
  return {size.ws_col, size.ws_row};
}

Result<std::unique_ptr<Terminal>> Terminal::take() {
  if (!is_terminal() || ::tcgetattr(STDIN_FILENO, &as_it_was) != 0)
    return fail(ErrorKind::kUsage, "standard input and output are no terminal", "",
                "add --once for a single frame");
  termios raw = as_it_was;
  // Keys come as they are and make no signal: Ctrl-Z would leave the second screen to a shell.
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  if (::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) != 0) return system_error("use the terminal", errno);
  is_taken = 1;
  struct sigaction crash{};
  crash.sa_handler = on_crash;
  crash.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : kCrashes) (void)::sigaction(signal, &crash, nullptr);
  struct sigaction resize{};
  resize.sa_handler = on_resize;
  (void)::sigaction(SIGWINCH, &resize, nullptr);
  (void)std::atexit(give_back);
  say(kTake);
  return std::unique_ptr<Terminal>(new Terminal);
}

Terminal::~Terminal() {
  give_back();
}

std::optional<char> Terminal::key(Duration longest) {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(longest).count();
  if (::poll(&input, 1, static_cast<int>(ms)) <= 0) return std::nullopt;
  std::array<char, 16> bytes{};  // all of a key's sequence
  const ssize_t got = ::read(STDIN_FILENO, bytes.data(), bytes.size());
  if (got > 0) return bytes[0];
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return std::nullopt;
  return '\0';
}

void Terminal::draw(std::string_view frame) {
  // In one piece, each line cleared behind its end and the rest below: nothing flickers.
  std::string out = "\033[H";
  while (!frame.empty()) {
    const size_t end = frame.find('\n');
    out += frame.substr(0, end);
    out += "\033[K";
    if (end == frame.npos) break;
    frame.remove_prefix(end + 1);
    if (!frame.empty()) out += "\r\n";
  }
  say(out + "\033[J");
}

}  // namespace kuramori
