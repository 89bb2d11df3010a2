// `top`: how everything is, live. What it shows is what `status --json` and `jobs --json` say, asked here or
// of a daemon elsewhere; looking takes as long as it takes, so it is done by threads of its own.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "cli/top_frame.h"
#include "cli/verbs.h"
#include "conc/guarded.h"
#include "crypto/secret.h"
#include "daemon/questions.h"
#include "net/http.h"
#include "os/process.h"
#include "os/terminal.h"

namespace kuramori {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kDrawEvery = seconds(1), kNoticeStop = milliseconds(100);
constexpr Duration kStatusEvery = seconds(5), kJobsEvery = seconds(1);
constexpr int kPausePerLook = 10;  // a look that took long is made as many times less often
constexpr Duration kLookMax = std::chrono::minutes(2);
constexpr size_t kDocumentBytesMax = size_t{64} << 20;
constexpr const char* kJobsShown = "40";

// Where documents come from: runs of this program, or a daemon.
class Origin {
 public:
  virtual ~Origin() = default;
  virtual std::string name() const = 0;
  virtual Result<std::string> status(std::stop_token stop) = 0;
  virtual Result<std::string> jobs(std::stop_token stop) = 0;
};

class OwnRuns final : public Origin {
 public:
  explicit OwnRuns(const Invocation& line) {
    command_ = {this_program(), "--json"};
    for (const char* option : {"config", "vault", "key-file"})
      if (line.has(option))
        command_.insert(command_.end(), {fmt::format("--{}", option), line.value(option)});
  }
  std::string name() const override { return "on this machine"; }
  Result<std::string> status(std::stop_token stop) override { return ask({"status"}, std::move(stop)); }
  Result<std::string> jobs(std::stop_token stop) override {
    return ask({"jobs", "--last", kJobsShown}, std::move(stop));
  }

 private:
  Result<std::string> ask(const std::vector<std::string>& words, std::stop_token stop) const {
    Command command{.argv = command_};
    command.argv.insert(command.argv.end(), words.begin(), words.end());
    command.die_with_us = true;
    command.timeout = kLookMax;
    command.output_max = kDocumentBytesMax;
    command.stop = std::move(stop);
    TRY_ASSIGN(Finished done, kuramori::run(command));
    if (auto error = read_error(done.output)) return std::move(*error);
    return std::move(done.output);
  }
  std::vector<std::string> command_;
};

class OtherDaemon final : public Origin {
 public:
  OtherDaemon(std::string url, std::string token, std::unique_ptr<HttpClient> client)
      : url_(std::move(url)), token_(std::move(token)), client_(std::move(client)) {
    while (url_.ends_with('/')) url_.pop_back();
  }
  ~OtherDaemon() override { wipe({reinterpret_cast<uint8_t*>(token_.data()), token_.size()}); }
  std::string name() const override { return url_; }
  Result<std::string> status(std::stop_token stop) override { return ask("/api/1/status", std::move(stop)); }
  Result<std::string> jobs(std::stop_token stop) override {
    return ask(fmt::format("/api/1/jobs?last={}", kJobsShown), std::move(stop));
  }

 private:
  Result<std::string> ask(const std::string& path, std::stop_token stop) const {
    HttpRequest request{.url = url_ + path, .body_bytes_max = kDocumentBytesMax};
    request.headers = {{"Authorization", "Bearer " + token_}};
    request.stop = std::move(stop);
    TRY_ASSIGN(const HttpAnswer answer, client_->send(request));
    std::string document(as_text(answer.body));
    if (auto error = read_error(document)) return std::move(*error);
    if (answer.status == 200) return document;
    return fail(ErrorKind::kFailed, fmt::format("{} answered {}", url_, answer.status), "",
                "is that a Kuramori daemon?");
  }
  std::string url_, token_;
  std::unique_ptr<HttpClient> client_;
};

Result<std::unique_ptr<Origin>> origin_of(const Context& context) {
  const Invocation& line = context.line();
  if (!line.has("from")) {
    if (line.has("token-file") || line.has("ca-file"))
      return fail(ErrorKind::kUsage, "--token-file and --ca-file are for a daemon elsewhere", "",
                  "add --from https://HOST:9847");
    return std::unique_ptr<Origin>(std::make_unique<OwnRuns>(line));
  }
  const char* from_environment = std::getenv("KURAMORI_TOKEN_FILE");
  const std::string file = line.has("token-file") ? line.value("token-file")
                           : from_environment     ? from_environment
                                                  : "";
  if (file.empty())
    return fail(ErrorKind::kUsage, "there is no token for the daemon", "",
                "add --token-file FILE, or set KURAMORI_TOKEN_FILE; kuramori token new NAME makes one");
  TRY_ASSIGN(std::string token, Setting(Setting::From::kFile, file).fetch(context.world()));
  // One origin for both threads: the client's methods may be called from several.
  TRY_ASSIGN(auto client, make_http_client({.ca_file = line.value("ca-file")}));
  return std::unique_ptr<Origin>(
      std::make_unique<OtherDaemon>(line.value("from"), std::move(token), std::move(client)));
}

std::string words_of(const Error& error) {
  return error.why.empty() ? error.what : error.what + ": " + error.why;
}

// Looks again and again, until it is destroyed.
class Watch {
 public:
  explicit Watch(Origin& origin) : origin_(origin) {
    facts_.lock()->from = origin.name();
    status_ = std::jthread(
        [this](std::stop_token stop) { again_and_again(stop, kStatusEvery, [&] { look_at_status(stop); }); });
    jobs_ = std::jthread(
        [this](std::stop_token stop) { again_and_again(stop, kJobsEvery, [&] { look_at_jobs(stop); }); });
  }
  TopFacts facts() {
    return facts_.with([](const Known& known) { return static_cast<TopFacts>(known); });
  }
  // Both were looked at, or could not be.
  bool is_complete() {
    return facts_.with([](const Known& known) { return known.status_looked && known.jobs_looked; });
  }

 private:
  struct Known : TopFacts {
    bool status_looked = false, jobs_looked = false;
  };

  void look_at_status(const std::stop_token& stop) {
    auto document = origin_.status(stop);
    auto status = document ? read_status(*document) : Result<ShownStatus>(document.error());
    facts_.with([&](Known& known) {
      known.status_looked = true;
      known.status_trouble = status ? "" : words_of(status.error());
      if (status) known.status = std::move(*status);
    });
  }
  void look_at_jobs(const std::stop_token& stop) {
    auto document = origin_.jobs(stop);
    auto jobs = document ? read_jobs(*document) : Result<std::vector<ShownJob>>(document.error());
    facts_.with([&](Known& known) {
      known.jobs_looked = true;
      known.jobs_trouble = jobs                                        ? ""
                           : jobs.error().kind == ErrorKind::kNotFound ? "no daemon has run plans here"
                                                                       : words_of(jobs.error());
      if (jobs) known.jobs = std::move(*jobs);
    });
  }
  template <class Look>
  static void again_and_again(const std::stop_token& stop, Duration every, Look&& look) {
    Clock& clock = system_clock();
    while (!stop.stop_requested()) {
      const Duration begun = clock.steady();
      look();
      const Duration took = clock.steady() - begun;
      const Duration next = begun + took + std::max(every - took, took * kPausePerLook);
      while (!stop.stop_requested() && clock.steady() < next) clock.sleep(kNoticeStop);
    }
  }

  Origin& origin_;
  Guarded<Known> facts_;
  std::jthread status_, jobs_;  // last: they use the others
};

Colour colour_of_output() {
  const char* none = std::getenv("NO_COLOR");
  return ::isatty(STDOUT_FILENO) == 1 && (none == nullptr || *none == '\0') ? Colour::kYes : Colour::kNo;
}

std::string frame_of(Watch& watch, Context& context) {
  TopFacts facts = watch.facts();
  facts.now = context.clock().now();
  return top_frame(facts, terminal_size(), colour_of_output());
}

Result<int> show_once(Watch& watch, Context& context) {
  while (!watch.is_complete() && !context.stop().stop_requested()) context.clock().sleep(kNoticeStop / 10);
  context.console().print(frame_of(watch, context));
  const TopFacts facts = watch.facts();
  if (facts.status) return 0;
  return fail(ErrorKind::kFailed, "nothing could be looked at", facts.status_trouble);
}

Result<int> show_live(Watch& watch, Context& context) {
  TRY_ASSIGN(const auto terminal, Terminal::take());
  Duration drawn{-kDrawEvery};
  TerminalSize size;
  while (!context.stop().stop_requested()) {
    const Duration now = context.clock().steady();
    const TerminalSize now_size = terminal_size();
    const bool resized = now_size.columns != size.columns || now_size.rows != size.rows;
    if (resized || now - drawn >= kDrawEvery) {
      terminal->draw(frame_of(watch, context));
      drawn = now;
      size = now_size;
    }
    const std::optional<char> key = terminal->key(kNoticeStop);
    if (!key) continue;
    if (*key == 'q' || *key == 'Q' || *key == '\x03' || *key == '\0') return 0;
    drawn = now - kDrawEvery;  // any other draws anew
  }
  return 0;
}

}  // namespace

Result<int> run_top(Context& context) {
  if (context.console().json())
    return fail(ErrorKind::kUsage, "top is for people", "",
                "programs ask: kuramori status --json, kuramori jobs --json");
  const bool once = context.line().has("once");
  if (!once && !is_terminal())
    return fail(ErrorKind::kUsage, "standard input and output are no terminal", "",
                "add --once for a single frame");
  TRY_ASSIGN(const auto origin, origin_of(context));
  Watch watch(*origin);
  return once ? show_once(watch, context) : show_live(watch, context);
}

}  // namespace kuramori
