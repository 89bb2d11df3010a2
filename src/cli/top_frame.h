// One frame of `kuramori top`. Pure: what is known and how large the terminal is go in, text comes out.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "daemon/shown_documents.h"
#include "os/terminal.h"

namespace kuramori {

struct TopFacts {
  std::string from;                   // where it comes from
  std::optional<ShownStatus> status;  // nothing: nobody has looked yet
  std::string status_trouble;         // why there is nothing newer
  std::vector<ShownJob> jobs;
  std::string jobs_trouble;
  Time now{};
};

enum class Colour { kNo, kYes };

// At most `size.rows` lines, none wider than `size.columns`. What does not fit goes in an order of its own:
// columns that matter less, then names are cut, then rows are counted instead of shown.
std::string top_frame(const TopFacts& facts, TerminalSize size, Colour colour);

}  // namespace kuramori
