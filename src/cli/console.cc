#include "cli/console.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/text_width.h"
#include "base/units.h"

namespace kuramori {
namespace {

constexpr Duration kDrawEvery = std::chrono::milliseconds(200);  // on a terminal
constexpr Duration kJsonEvery = std::chrono::seconds(1);         // a progress object
constexpr Duration kGuessAfter = std::chrono::seconds(2);        // before that, "time left" would only jump
constexpr size_t kBarWidth = 24;                                 // characters

void put(std::FILE* to, std::string_view text) {
  // A closed pipe is the reader's wish to see no more; there is nobody left to tell.
  std::fwrite(text.data(), 1, text.size(), to);
}

}  // namespace

ConsoleOptions console_options(bool json, bool quiet, bool verbose) {
  const char* term = std::getenv("TERM");
  const char* no_colour = std::getenv("NO_COLOR");
  bool terminal = isatty(STDERR_FILENO) == 1 && !(term && std::string_view(term) == "dumb");
  return {.json = json,
          .quiet = quiet,
          .verbose = verbose,
          .terminal = terminal,
          .colour = terminal && !(no_colour && *no_colour)};
}

void Table::add(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(shown_width(column.name));
  for (const auto& row : rows_)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], shown_width(row[i]));
  std::string out;
  auto line = [&](auto&& cell_of) {
    std::string text;
    for (size_t i = 0; i < columns_.size(); ++i) {
      std::string_view cell = cell_of(i);
      std::string gap(widths[i] - shown_width(cell), ' ');
      text += columns_[i].align == Align::kRight ? gap + std::string(cell) : std::string(cell) + gap;
      if (i + 1 < columns_.size()) text += "  ";
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line([&](size_t i) { return std::string_view(columns_[i].name); });
  for (const auto& row : rows_) line([&](size_t i) { return std::string_view(row[i]); });
  return out;
}

void Console::print(std::string_view text) {
  std::lock_guard lock(mutex_);
  clear_progress();
  put(stdout, text);
  std::fflush(stdout);
}

void Console::print_document(JsonWriter& document) {
  print(document.take() + "\n");
}

void Console::detail(std::string_view text) {
  if (options_.verbose) say("detail", text);
}

void Console::show_progress(std::string_view text) {
  if (options_.quiet || options_.json || !options_.terminal) return;
  std::lock_guard lock(mutex_);
  clear_progress();
  put(stderr, text);
  line_is_drawn_ = true;
}

void Console::write_error(std::string_view text) {
  clear_progress();
  put(stderr, text);
}

void Console::report(const Error& error) {
  if (options_.json) {
    JsonWriter json;
    json.begin_object().field("schema", "kuramori/error/1").key("error").begin_object();
    json.field("kind", name_of(error.kind))
        .field("what", error.what)
        .field("why", error.why)
        .field("next", error.next);
    json.end_object().end_object();
    print_document(json);
    return;
  }
  std::string text = options_.colour ? "\033[1;31merror:\033[0m " : "error: ";
  text += error.what + "\n";
  if (!error.why.empty()) text += "why:   " + error.why + "\n";
  if (!error.next.empty()) text += "next:  " + error.next + "\n";
  std::lock_guard lock(mutex_);
  write_error(text);
}

void Console::say(std::string_view level, std::string_view text) {
  std::string line;
  if (options_.json) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "kuramori/note/1")
        .field("level", level)
        .field("text", text)
        .end_object();
    line = json.take() + "\n";
  } else {
    if (level == "warning") line = options_.colour ? "\033[1;33mwarning:\033[0m " : "warning: ";
    line += std::string(text) + "\n";
  }
  std::lock_guard lock(mutex_);
  write_error(line);
}

void Console::note(std::string_view text) {
  if (!options_.quiet) say("note", text);
}

void Console::warning(std::string_view text) {
  say("warning", text);
}

void Console::phase(std::string_view name, uint64_t total_bytes) {
  std::lock_guard lock(mutex_);
  if (!phase_.empty()) draw_progress(true);
  phase_ = name;
  total_ = total_bytes;
  done_ = 0;
  phase_began_ = drawn_ = clock_.steady();
}

void Console::advance(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  done_ += bytes;
  if (options_.quiet || (!options_.json && !options_.terminal)) return;
  Duration now = clock_.steady();
  if (now - drawn_ < (options_.json ? kJsonEvery : kDrawEvery)) return;
  drawn_ = now;
  draw_progress(false);
}

void Console::draw_progress(bool last) {
  if (options_.quiet || (!options_.json && !options_.terminal)) return;
  Duration took = clock_.steady() - phase_began_;
  double seconds = static_cast<double>(took.count()) / 1e9;
  double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  bool can_guess = total_ > done_ && rate > 0 && took >= kGuessAfter;
  double left = can_guess ? static_cast<double>(total_ - done_) / rate : 0;
  if (options_.json) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "kuramori/progress/1")
        .field("phase", phase_)
        .field("done_bytes", done_);
    json.field("total_bytes", total_)
        .field("bytes_per_second", static_cast<uint64_t>(rate))
        .key("seconds_left");
    if (can_guess)
      json.value(static_cast<uint64_t>(left));
    else
      json.null();
    json.end_object();
    put(stderr, json.take() + "\n");
    return;
  }
  std::string line = phase_;
  if (total_ > 0) {
    size_t filled =
        static_cast<size_t>(static_cast<double>(kBarWidth) *
                            std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)));
    line += fmt::format("  [{}{}] {} of {}", std::string(filled, '#'), std::string(kBarWidth - filled, '.'),
                        format_size(done_), format_size(total_));
  } else if (done_ > 0) {
    line += "  " + format_size(done_);
  }
  if (done_ > 0) line += "  " + format_rate(rate);
  if (can_guess)
    line += fmt::format("  {} left", format_duration(std::chrono::seconds(static_cast<int64_t>(left))));
  clear_progress();
  if (last) return;  // what the phase did is in the result; the bar was only for waiting
  put(stderr, line);
  line_is_drawn_ = true;
}

void Console::clear_progress() {
  if (!line_is_drawn_) return;
  put(stderr, "\r\033[K");
  line_is_drawn_ = false;
}

}  // namespace kuramori
