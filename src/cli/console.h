// Where a command's words go. Results: tables or one JSON document on standard output. Everything said on the
// way — notes, warnings, progress — and errors for people: standard error. With --json the error is the
// document, and what is said on the way is one JSON object a line, still on standard error: standard output
// holds exactly one document.
#pragma once
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_writer.h"
#include "base/reporter.h"
#include "base/world.h"

namespace kuramori {

struct ConsoleOptions {
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  bool terminal = false;  // standard error is one: progress bars may be drawn
  bool colour = false;
};
// --json, --quiet, --verbose as given; terminal and colour from the machine (NO_COLOR, TERM).
ConsoleOptions console_options(bool json, bool quiet, bool verbose);

// Columns of text; numbers go to the right.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string name;
    Align align = Align::kLeft;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

class Console final : public Reporter {
 public:
  Console(ConsoleOptions options, Clock& clock) : options_(options), clock_(clock) {}
  ~Console() override { clear_progress(); }

  const ConsoleOptions& options() const { return options_; }
  bool json() const { return options_.json; }
  bool colour() const { return options_.colour; }

  void print(std::string_view text);          // to standard output, as it is
  void print_document(JsonWriter& document);  // with a line break
  void detail(std::string_view text);         // only with --verbose
  // One line that replaces itself, on a terminal only: of what has no end to count towards.
  void show_progress(std::string_view text);

  // Three lines: what, why, what to type next; or the error document.
  void report(const Error& error);

  // Reporter: from any thread.
  void phase(std::string_view name, uint64_t total_bytes) override;
  void advance(uint64_t bytes) override;
  void note(std::string_view text) override;
  void warning(std::string_view text) override;

 private:
  void say(std::string_view level, std::string_view text);
  void draw_progress(bool last);  // with mutex_ held
  void clear_progress();
  void write_error(std::string_view text);

  ConsoleOptions options_;
  Clock& clock_;
  std::mutex mutex_;
  std::string phase_;
  uint64_t total_ = 0, done_ = 0;
  Duration phase_began_{0}, drawn_{0};
  bool line_is_drawn_ = false;
};

}  // namespace kuramori
