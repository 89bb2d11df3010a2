#include "daemon/job_process.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <sstream>

namespace kuramori {
namespace {

using Json = nlohmann::json;

constexpr size_t kReadAtOnce = size_t{64} << 10;
constexpr std::string_view kProgress = R"({"schema":"kuramori/progress/)";
constexpr size_t kErrorBytesMax = 2000;  // of a text that is kept

Result<void> do_not_wait(const Fd& fd) {
  if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) return system_error("read a job's output", errno);
  return {};
}

// What can be read now; false at the end.
template <class Take>
bool read_all(Fd& fd, Take&& take) {
  static thread_local std::vector<char> buffer(kReadAtOnce);
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got > 0) {
      take(std::string_view(buffer.data(), static_cast<size_t>(got)));
    } else if (got < 0 && errno == EINTR) {
      continue;
    } else {
      return got < 0 && errno == EAGAIN;
    }
  }
}

std::string text_of(const Json& object, const char* key) {
  auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

std::map<std::string, std::string> texts_of(const Json& object, const char* key) {
  std::map<std::string, std::string> texts;
  const auto at = object.find(key);
  if (at == object.end() || !at->is_object()) return texts;
  for (const auto& [name, text] : at->items())
    if (text.is_string()) texts.emplace(name, text.get<std::string>());
  return texts;
}

}  // namespace

Result<JobProcess> JobProcess::start(const std::vector<std::string>& argv,
                                     std::vector<std::pair<std::string, std::string>> set) {
  const auto lock = starting_lock();
  TRY_ASSIGN(Pipe output, make_pipe());
  TRY_ASSIGN(Pipe errors, make_pipe());
  TRY(do_not_wait(output.read));
  TRY(do_not_wait(errors.read));
  Command command{.argv = argv};
  command.set = without_service_manager();
  for (auto& variable : set) command.set.push_back(std::move(variable));
  command.die_with_us = true;
  TRY_ASSIGN(Child child, Child::start(command, {.input = {},
                                                 .output = std::move(output.write),
                                                 .errors = std::move(errors.write)}));
  return JobProcess(std::move(child), std::move(output.read), std::move(errors.read));
}

void JobProcess::add_to(std::vector<pollfd>& polled) const {
  polled.push_back({child_.handle().get(), POLLIN, 0});
  if (output_fd_.valid()) polled.push_back({output_fd_.get(), POLLIN, 0});
  if (errors_fd_.valid()) polled.push_back({errors_fd_.get(), POLLIN, 0});
}

bool JobProcess::poll_once() {
  // First whether it has ended: what it said before is then there to be read.
  auto ended = child_.wait_for(Duration(0));
  if (output_fd_.valid() && !read_all(output_fd_, [&](std::string_view text) {
        output_lines_.add(text, [&](std::string line) { output_ = std::move(line); });
      }))
    output_fd_ = Fd();
  if (errors_fd_.valid() && !read_all(errors_fd_, [&](std::string_view text) {
        error_lines_.add(text, [&](std::string line) { take_words(std::move(line)); });
      })) {
    errors_fd_ = Fd();
    take_words(error_lines_.take_rest());
  }
  if (ended && !*ended) return false;
  exit_ = ended ? **ended : Exit{.code = 1};
  return true;
}

void JobProcess::take_words(std::string line) {
  if (line.empty()) return;
  (line.starts_with(kProgress) ? progress_ : last_words_) = std::move(line);
}

JobResult read_job_result(const std::string& document) {
  JobResult result;
  const Json root = Json::parse(document, nullptr, false);
  if (!root.is_object()) return result;
  if (auto error = root.find("error"); error != root.end() && error->is_object()) {
    result.error = text_of(*error, "what");
    if (const std::string why = text_of(*error, "why"); !why.empty()) result.error += ": " + why;
    result.error = result.error.substr(0, kErrorBytesMax);
  }
  if (text_of(root, "action") == "skip") result.skipped = text_of(root, "object");
  if (auto listed = root.find("snapshots"); listed != root.end() && listed->is_array()) {
    result.listed.emplace();
    for (const Json& one : *listed) result.listed->push_back({text_of(one, "id"), texts_of(one, "tags")});
  }
  auto snapshot = root.find("snapshot");
  if (snapshot == root.end() || !snapshot->is_object()) return result;
  result.snapshot = text_of(*snapshot, "id");
  result.plan = text_of(*snapshot, "plan");
  result.time = text_of(*snapshot, "time");
  if (auto proof = snapshot->find("proof"); proof != snapshot->end() && proof->is_object()) {
    result.proof_time = text_of(*proof, "time");
    result.proof_vault = text_of(*proof, "vault");
  }
  return result;
}

std::optional<JobProgress> read_job_progress(const std::string& line) {
  const Json root = Json::parse(line, nullptr, false);
  if (!root.is_object()) return std::nullopt;
  auto number = [&](const char* key) {
    auto at = root.find(key);
    return at != root.end() && at->is_number_unsigned() ? at->get<uint64_t>() : 0;
  };
  return JobProgress{text_of(root, "phase"), number("done_bytes"), number("total_bytes")};
}

std::string words_of_line(const std::string& line) {
  const Json root = Json::parse(line, nullptr, false);
  return (root.is_object() ? text_of(root, "text") : line).substr(0, kErrorBytesMax);
}

std::vector<std::pair<std::string, std::string>> without_service_manager() {
  return {{"NOTIFY_SOCKET", ""}, {"WATCHDOG_USEC", ""}, {"WATCHDOG_PID", ""}};
}

std::optional<int64_t> process_began(int64_t pid) {
  auto text = read_file(fmt::format("/proc/{}/stat", pid), size_t{4} << 10);
  if (!text) return std::nullopt;
  // Behind the program's name, which may hold anything: the 20th word is when it began.
  const std::string stat(text->begin(), text->end());
  std::istringstream words(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));
  std::string word;
  for (int i = 0; i < 20; ++i)
    if (!(words >> word)) return std::nullopt;
  return std::atoll(word.c_str());
}

}  // namespace kuramori
