#include "store/rclone/rclone_server.h"

#include <errno.h>
#include <fmt/core.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/world.h"
#include "net/url.h"
#include "os/process.h"
#include "store/rclone/rclone_answers.h"

namespace kuramori {
namespace {

constexpr Duration kStartMax = std::chrono::seconds(60);
constexpr Duration kShortWait = std::chrono::minutes(10);
constexpr Duration kTransferWait = std::chrono::hours(6);  // rclone gives up before, when no byte moves
constexpr size_t kWordsKept = 4096;                        // bytes of what it last said
constexpr size_t kAnswerBytesMax = size_t{1} << 30;        // a list of everything
constexpr int kTriesMax = 4;
constexpr Duration kPause = std::chrono::milliseconds(100);  // before the second try; then longer
constexpr Duration kAtOnce = std::chrono::seconds(2);
constexpr std::string_view kMove = "operations/movefile";
constexpr std::string_view kReady = "Serving remote control on ";
constexpr const char* kUser = "kuramori";

Result<std::string> new_password() {
  std::array<uint8_t, 24> random;
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
    return system_error("no random bytes", errno);
  return to_hex(random);
}

// What an outside that does not exist is called: by rclone, or by the system below a local remote.
bool says_absent(std::string_view words) {
  for (std::string_view absent :
       {"object not found", "directory not found", "is a directory not a file", "not a directory"}) {
    if (words.ends_with(absent)) return true;
  }
  return false;
}

class Server final : public RcloneServer {
 public:
  ~Server() override {
    if (child_) (void)child_->terminate();
    if (listener_.joinable()) listener_.join();
  }

  Result<void> begin() {
    auto program = find_program("rclone");
    if (!program) {
      return fail(ErrorKind::kRefused, "rclone is not installed on this machine",
                  "the place is one that only rclone reaches", "apt-get install rclone");
    }
    TRY_ASSIGN(const std::string password, new_password());
    TRY_ASSIGN(Pipe words, make_pipe());
    Command command{
        .argv = {*program, "rcd", "--rc-addr", "127.0.0.1:0", "--rc-serve", "--use-server-modtime",
                 "--ignore-times", "--contimeout", "15s", "--timeout", "60s", "--low-level-retries", "5",
                 "--log-level", "NOTICE", "--ask-password=false", "--use-json-log=false"},
        .set = {{"RCLONE_RC_USER", kUser}, {"RCLONE_RC_PASS", password}, {"RCLONE_RC_NO_AUTH", "false"}},
        .die_with_us = true};
    TRY_ASSIGN(Child child,
               Child::start(command, {.input = Fd(), .output = Fd(), .errors = std::move(words.write)}));
    child_.emplace(std::move(child));
    listener_ = std::thread([this, from = std::move(words.read)] { listen(from); });
    std::unique_lock hold(mutex_);
    bool answered = heard_.wait_for(hold, kStartMax, [&] { return !url_.empty() || ended_; });
    if (url_.empty()) {
      return fail(ErrorKind::kFailed, "rclone did not start",
                  answered ? last_words() : "it said nothing for a minute",
                  "try it: rclone rcd --rc-no-auth");
    }
    hold.unlock();
    authorization_ = "Basic " + to_base64(as_bytes(fmt::format("{}:{}", kUser, password)));
    TRY_ASSIGN(http_, make_http_client());
    return {};
  }

  Result<Bytes> call(std::string_view command, const std::string& json, Wait wait) override {
    const Duration patience = wait == Wait::kShort ? kShortWait : kTransferWait;
    HttpRequest request{.method = "POST",
                        .url = fmt::format("{}{}", url_, command),
                        .headers = {{"authorization", authorization_}, {"content-type", "application/json"}},
                        .body = as_bytes(json),
                        .body_bytes_max = kAnswerBytesMax,
                        .timeouts = {.first_byte = patience, .stall = patience, .total = patience}};
    TRY_ASSIGN(HttpAnswer answer, send(request, command == kMove ? Tries::kOne : Tries::kSeveral));
    if (answer.status != 200) return refusal(answer, command);
    return std::move(answer.body);
  }

  Result<Bytes> read(std::string_view place, std::string_view name) override {
    TRY_ASSIGN(HttpAnswer answer, send(request_of(place, name), Tries::kSeveral));
    if (answer.status != 200) return refusal(answer, name);
    return std::move(answer.body);
  }

  Result<void> read(std::string_view place, std::string_view name, uint64_t offset,
                    MutableByteView into) override {
    HttpRequest request = request_of(place, name);
    request.headers.push_back({"range", fmt::format("bytes={}-{}", offset, offset + into.size() - 1)});
    request.into = into;
    TRY_ASSIGN(HttpAnswer answer, send(request, Tries::kSeveral));
    if (answer.status != 206 && answer.status != 200) return refusal(answer, name);
    // 200: the whole object, for a remote that knows no ranges; right only where it was asked for from its
    // start.
    if (answer.into_bytes == into.size() && (answer.status == 206 || offset == 0)) return {};
    return fail(ErrorKind::kDamaged, fmt::format("{} is truncated: {} bytes at {} were asked for, {} came",
                                                 name, into.size(), offset, answer.into_bytes));
  }

 private:
  HttpRequest request_of(std::string_view place, std::string_view name) const {
    return {.method = "GET",
            .url = fmt::format("{}{}/{}", url_, percent_encode(fmt::format("[{}]", place)),
                               percent_encode(name, Slash::kKeep)),
            .headers = {{"authorization", authorization_}},
            .timeouts = {.first_byte = kShortWait, .stall = kShortWait, .total = kTransferWait}};
  }

  // A connection that breaks without a word is made again: all but a move come to the same when done twice.
  // One that was silent for long is not: rclone may still be at work on what was asked.
  enum class Tries { kOne, kSeveral };
  Result<HttpAnswer> send(const HttpRequest& request, Tries tries) {
    for (int made = 1;; ++made) {
      const Duration began = system_clock().steady();
      Result<HttpAnswer> answer = http_->send(request);
      if (answer) return answer;
      {
        std::lock_guard hold(mutex_);
        const bool again = tries == Tries::kSeveral && made < kTriesMax && !ended_ &&
                           system_clock().steady() - began < kAtOnce;
        if (!again || answer.error().kind != ErrorKind::kUnknown) {
          Error error = std::move(answer).error();
          if (ended_) error.why = "rclone has ended: " + last_words();
          return error;
        }
      }
      system_clock().sleep(kPause * made);
    }
  }

  static Error refusal(const HttpAnswer& answer, std::string_view what) {
    std::string words = parse_rclone_error(answer.body);
    if (answer.status == 404 || says_absent(words))
      return fail(ErrorKind::kNotFound, fmt::format("{} is not there", what), words);
    return fail(ErrorKind::kFailed, fmt::format("rclone: {}: {}", what, words),
                fmt::format("its answer was {}", answer.status));
  }

  // Takes what it says on standard error, until it ends.
  void listen(const Fd& from) {
    char chunk[1024];
    for (;;) {
      ssize_t got = ::read(from.get(), chunk, sizeof chunk);
      if (got < 0 && errno == EINTR) continue;
      std::lock_guard hold(mutex_);
      if (got <= 0) {
        ended_ = true;
        heard_.notify_all();
        return;
      }
      words_.append(chunk, static_cast<size_t>(got));
      if (url_.empty()) find_url();
      if (words_.size() > kWordsKept) words_.erase(0, words_.size() - kWordsKept);
    }
  }

  void find_url() {
    size_t at = words_.find(kReady);
    size_t end = at == words_.npos ? at : words_.find('\n', at);
    if (end == words_.npos) return;
    url_ = words_.substr(at + kReady.size(), end - at - kReady.size());
    if (!url_.ends_with('/')) url_ += '/';
    heard_.notify_all();
  }

  std::string last_words() const {  // under the mutex
    std::string_view words = words_;
    while (words.ends_with('\n')) words.remove_suffix(1);
    size_t line = words.rfind('\n');
    return std::string(line == words.npos ? words : words.substr(line + 1));
  }

  std::optional<Child> child_;
  std::thread listener_;
  std::mutex mutex_;
  std::condition_variable heard_;
  std::string words_;
  bool ended_ = false;
  std::string url_;  // "http://127.0.0.1:46353/"; does not change once it is known
  std::string authorization_;
  std::unique_ptr<HttpClient> http_;
};

}  // namespace

Result<std::unique_ptr<RcloneServer>> RcloneServer::start() {
  auto server = std::make_unique<Server>();
  TRY(server->begin());
  return server;
}

}  // namespace kuramori
