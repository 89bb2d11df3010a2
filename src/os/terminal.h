// A terminal that is drawn on: its own screen, keys as they are pressed. However the program ends, other than
// by SIGKILL, the terminal is as it was.
//
// Plain sequences that every terminal of today understands (ECMA-48, and xterm's second screen), no curses:
// whole frames are drawn, so its bookkeeping of cells gains nothing, and its database of terminals would be
// one more thing that is missing in a container at three in the morning.
#pragma once
#include <memory>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/world.h"

namespace kuramori {

struct TerminalSize {
  size_t columns = 80, rows = 24;
};

bool is_terminal();            // standard input and output are one, and it is not "dumb"
TerminalSize terminal_size();  // of standard output; 80 × 24 where nobody knows

class Terminal {
 public:
  // kUsage: there is none.
  static Result<std::unique_ptr<Terminal>> take();
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // The next key, or the byte it begins with; nullopt: none came in time, or the terminal's size changed.
  // '\x03' is Ctrl-C, which is no signal here; '\0': the terminal is gone.
  std::optional<char> key(Duration longest);
  // Replaces what is there. Lines end with "\n" and are no wider than the terminal.
  void draw(std::string_view frame);

 private:
  Terminal() = default;
};

}  // namespace kuramori
