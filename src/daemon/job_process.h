// One program of ours that runs for the daemon: the same operation as on the command line, its output
// bounded, its JSON understood. It dies with the daemon, however that ends: no orphan goes on where nobody
// counts it.
#pragma once
#include <poll.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "os/process.h"

namespace kuramori {

constexpr size_t kJobOutputBytesMax = size_t{256} << 10;  // of its document; a longer one is none
constexpr size_t kJobLineBytesMax = size_t{16} << 10;     // of one line it says on the way

// Cuts what arrives in pieces into lines; one that is longer than `max` bytes is dropped.
class Lines {
 public:
  explicit Lines(size_t max) : max_(max) {}
  // `take(std::string)` for each line that ends in `text`.
  template <class Take>
  void add(std::string_view text, Take&& take) {
    for (size_t end; (end = text.find('\n')) != text.npos; text.remove_prefix(end + 1)) {
      append(text.substr(0, end));
      std::string line = std::exchange(line_, {});
      if (!std::exchange(is_too_long_, false)) take(std::move(line));
    }
    append(text);
  }
  // What came behind the last line break.
  std::string take_rest() { return is_too_long_ ? std::string() : std::exchange(line_, {}); }

 private:
  void append(std::string_view text) {
    is_too_long_ |= line_.size() + text.size() > max_;
    if (is_too_long_)
      line_.clear();
    else
      line_ += text;
  }
  size_t max_;
  std::string line_;
  bool is_too_long_ = false;
};

class JobProcess {
 public:
  // To be called by a thread that lives as long as the daemon. `set`: of its environment.
  static Result<JobProcess> start(const std::vector<std::string>& argv,
                                  std::vector<std::pair<std::string, std::string>> set = {});

  pid_t pid() const { return child_.pid(); }
  // What to wait for: its end and what it says.
  void add_to(std::vector<pollfd>& polled) const;
  // Takes what it has said. True: it has ended, and exit() says how.
  bool poll_once();
  const Exit& exit() const { return exit_; }

  void ask_to_stop() { child_.send_signal(15); }
  void kill() { child_.send_signal_group(9); }

  // The one document, or the newest of those that print one a line; "" if it was too long, or there is none.
  const std::string& output() const { return output_; }
  // The newest line of progress, and what was said last besides.
  const std::string& progress() const { return progress_; }
  const std::string& last_words() const { return last_words_; }

 private:
  JobProcess(Child child, Fd output, Fd errors)
      : child_(std::move(child)), output_fd_(std::move(output)), errors_fd_(std::move(errors)) {}
  void take_words(std::string line);

  Child child_;
  Fd output_fd_, errors_fd_;
  Lines output_lines_{kJobOutputBytesMax}, error_lines_{kJobLineBytesMax};
  std::string output_, progress_, last_words_;
  Exit exit_;
};

// What a document of a finished job says; what is not there stays empty.
struct JobResult {
  std::string snapshot;    // the id of the one it made or shows
  std::string plan, time;  // of a shown one
  std::string proof_time, proof_vault;
  struct Listed {
    std::string snapshot;
    std::map<std::string, std::string> tags;
  };
  std::optional<std::vector<Listed>> listed;  // of a list of snapshots
  std::string error;                          // "what: why"
  std::string skipped;                        // why it did nothing, and was right to
};
JobResult read_job_result(const std::string& document);

// How far a job is, as one line of its progress says.
struct JobProgress {
  std::string phase;
  uint64_t done_bytes = 0, total_bytes = 0;  // 0: unknown
};
std::optional<JobProgress> read_job_progress(const std::string& line);
// What a line that was said on the way tells a person.
std::string words_of_line(const std::string& line);

// What a service manager says to the daemon is not for its jobs.
std::vector<std::pair<std::string, std::string>> without_service_manager();

// Of a running process; nullopt if there is none of that number.
std::optional<int64_t> process_began(int64_t pid);

}  // namespace kuramori
