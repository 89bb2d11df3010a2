#include "source/redis/replication.h"

#include <fmt/core.h>

#include <charconv>
#include <optional>

namespace kuramori::redis {
namespace {

constexpr size_t kMarkBytes = 40;
constexpr Duration kBusyPause = std::chrono::seconds(1);
constexpr Duration kSayAgain = std::chrono::seconds(30);  // that we are still waiting
constexpr size_t kHeaderBytesMax = 256;

class Transfer {
 public:
  Transfer(Connection& connection, RdbReader& reader, const std::function<Result<void>(ByteView)>& take,
           Reporter& reporter, std::stop_token stop)
      : connection_(connection), reader_(reader), take_(take), reporter_(reporter), stop_(std::move(stop)) {}

  Result<RdbTransfer> run() {
    TRY(introduce());
    TRY(ask_until_ready());
    TRY(await_header());
    TRY(receive());
    return transfer_;
  }

 private:
  // "rdb-only": the server keeps no stream of later changes for us, which we would throw away; from Redis 7
  // on. "eof": we understand an RDB whose length is not known before.
  Result<void> introduce() {
    for (const Arguments& option :
         {Arguments{"REPLCONF", "rdb-only", "1"}, Arguments{"REPLCONF", "capa", "eof"}}) {
      TRY_ASSIGN(const Reply reply, connection_.ask(option));
      const std::string_view code = reply.error_code();
      if (code == "NOPERM" || code == "NOAUTH" || code == "DENIED") return may_not(reply, option);
      // Any other refusal is that of a server too old for the option: it does without.
    }
    return {};
  }

  Error may_not(const Reply& reply, const Arguments& command) {
    Error error = connection_.error_of(reply, command);
    if (reply.error_code() == "NOPERM")
      error.next = fmt::format("ACL SETUSER {} +psync +replconf", connection_.endpoint().user_name());
    return error;
  }

  Result<void> ask_until_ready() {
    const Arguments command{"PSYNC", "?", "-1"};
    const Duration begun = system_clock().steady();
    for (;;) {
      TRY(connection_.send(command));
      TRY(connection_.flush());
      TRY_ASSIGN(const std::string line, read_line());
      if (line.starts_with("+FULLRESYNC ")) return read_position(line);
      if (!line.starts_with('-')) return not_understood(line);
      Reply refusal{.type = Reply::Type::kError, .text = line.substr(1)};
      const std::string_view code = refusal.error_code();
      const bool later = code == "LOADING" || code == "NOMASTERLINK" || code == "MASTERDOWN" ||
                         code == "BUSY" || code == "TRYAGAIN";
      if (!later) return refused(refusal, command);
      if (system_clock().steady() - begun > kReadyLimit) return connection_.error_of(refusal, command);
      say_waiting(refusal.text);
      TRY(pause());
    }
  }

  // Managed services know no PSYNC, or hide it: "-ERR unknown command".
  Error refused(const Reply& refusal, const Arguments& command) {
    if (refusal.error_code() == "NOPERM") return may_not(refusal, command);
    if (refusal.text.find("unknown command") != std::string::npos) {
      return fail(ErrorKind::kDenied, fmt::format("{} has no PSYNC", connection_.endpoint().describe()),
                  refusal.text,
                  "on its own machine: capture: save and data_dir: /var/lib/redis; else use the service's "
                  "own snapshots");
    }
    return connection_.error_of(refusal, command);
  }

  Error not_understood(const std::string& line) {
    return fail(ErrorKind::kFailed,
                fmt::format("{} answered PSYNC with \"{}\"", connection_.endpoint().describe(), line),
                "that is no full synchronisation");
  }

  Result<void> read_position(std::string_view line) {
    line.remove_prefix(std::string_view("+FULLRESYNC ").size());
    const size_t space = line.find(' ');
    if (space != 40) return not_understood(std::string(line));
    transfer_.replication_id = line.substr(0, space);
    const std::string_view number = line.substr(space + 1);
    auto [end, failed] = std::from_chars(number.data(), number.data() + number.size(), transfer_.offset);
    if (failed != std::errc() || end != number.data() + number.size())
      return not_understood(std::string(line));
    return {};
  }

  // "$1234" or "$EOF:" and the mark; before it come empty lines while the server forks or waits for others.
  Result<void> await_header() {
    TRY_ASSIGN(std::string line, read_line());
    if (line.starts_with('-')) {
      return fail(ErrorKind::kFailed,
                  fmt::format("{} could not make the RDB", connection_.endpoint().describe()), line.substr(1),
                  "its log says why: often memory for the fork (vm.overcommit_memory = 1) or a full disk");
    }
    if (line.starts_with("$EOF:") && line.size() == 5 + kMarkBytes) {
      mark_ = line.substr(5);
      transfer_.diskless = true;
      return {};
    }
    uint64_t length = 0;
    auto [end, failed] = std::from_chars(line.data() + 1, line.data() + line.size(), length);
    if (!line.starts_with('$') || failed != std::errc() || end != line.data() + line.size())
      return not_understood(line);
    length_ = length;
    return {};
  }

  Result<void> receive() {
    reporter_.phase("receiving", length_.value_or(0));
    while (!reader_.at_end()) {
      TRY_ASSIGN(const ByteView here, next_bytes(kReadBufferBytes));
      if (here.empty()) return gone();
      // Judged before it is handed on; a piece is stored a moment later than it could be, and a damaged one
      // not.
      TRY_ASSIGN(const size_t used, reader_.push(here));
      if (used > 0) TRY(take_(here.first(used)));
      reporter_.advance(used);
      after_ = as_text(here.subspan(used));
    }
    return length_ ? check_length() : check_mark();
  }

  Result<void> check_length() {
    if (reader_.summary().bytes == *length_) return {};
    return fail(ErrorKind::kDamaged, "the RDB is not as long as the server said",
                fmt::format("it ends after {} of {} bytes", reader_.summary().bytes, *length_));
  }

  Result<void> check_mark() {
    while (after_.size() < kMarkBytes) {
      TRY_ASSIGN(const ByteView here, next_bytes(kMarkBytes - after_.size()));
      if (here.empty()) return gone();
      after_ += as_text(here);
    }
    if (std::string_view(after_).substr(0, kMarkBytes) == mark_) return {};
    return fail(ErrorKind::kDamaged, "what follows the RDB is not the server's mark of its end",
                "the RDB is shorter or longer than was read");
  }

  Error gone() {
    return fail(
        ErrorKind::kFailed,
        fmt::format("{} closed the connection after {} bytes of the RDB", connection_.endpoint().describe(),
                    reader_.summary().bytes),
        "its child failed, or it takes us for too slow (repl-timeout, client-output-buffer-limit replica)",
        "look at the server's log");
  }

  // --- bytes and lines --------------------------------------------------------------------------------

  // Waits in short steps, to say meanwhile that we are there.
  Result<ByteView> next_bytes(size_t max) {
    const Duration begun = system_clock().steady();
    for (;;) {
      TRY(acknowledge());
      Result<ByteView> here = connection_.read_some(max, kAcknowledgeEvery);
      if (here) return here;
      if (here.error().kind != ErrorKind::kUnknown || system_clock().steady() - begun > kSilenceLimit)
        return here;
    }
  }

  // The next line that is not empty.
  Result<std::string> read_line() {
    const Duration begun = system_clock().steady();
    std::string line;
    for (;;) {
      TRY_ASSIGN(const ByteView one, next_bytes(1));
      if (one.empty()) return gone();
      const char c = static_cast<char>(one[0]);
      if (c == '\n') {
        if (line.ends_with('\r')) line.pop_back();
        if (!line.empty()) return line;
        say_waiting("the server is getting the RDB ready");
        if (system_clock().steady() - begun > kReadyLimit) {
          return fail(ErrorKind::kUnknown,
                      fmt::format("{} did not begin to send its RDB", connection_.endpoint().describe()),
                      "it says that it is at it", "look at repl-diskless-sync-delay, and at its log");
        }
        continue;
      }
      line.push_back(c);
      if (line.size() > kHeaderBytesMax) return not_understood(line);
    }
  }

  // What a replica tells its master every second. Also keeps what stands between us from taking us for idle.
  Result<void> acknowledge() {
    const Duration now = system_clock().steady();
    if (transfer_.replication_id.empty() || now - acknowledged_ < kAcknowledgeEvery) return {};
    acknowledged_ = now;
    TRY(connection_.send(Arguments{"REPLCONF", "ACK", "0"}));
    return connection_.flush();
  }

  Result<void> pause() {
    for (Duration waited{}; waited < kBusyPause; waited += kBusyPause / 10) {
      if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "asked to stop");
      system_clock().sleep(kBusyPause / 10);
    }
    return {};
  }

  void say_waiting(std::string_view why) {
    const Duration now = system_clock().steady();
    if (said_ && now - *said_ < kSayAgain) return;
    // The first empty line is the rule, not news.
    if (said_ || why.starts_with("LOADING") || why.starts_with("NOMASTERLINK"))
      reporter_.note(fmt::format("waiting for {}: {}", connection_.endpoint().describe(), why));
    said_ = now;
  }

  Connection& connection_;
  RdbReader& reader_;
  const std::function<Result<void>(ByteView)>& take_;
  Reporter& reporter_;
  std::stop_token stop_;
  RdbTransfer transfer_;
  std::optional<uint64_t> length_;
  std::string mark_, after_;
  Duration acknowledged_{};
  std::optional<Duration> said_;
};

}  // namespace

Result<RdbTransfer> stream_rdb(Connection& connection, RdbReader& reader,
                               const std::function<Result<void>(ByteView)>& take, Reporter& reporter,
                               std::stop_token stop) {
  return Transfer(connection, reader, take, reporter, std::move(stop)).run();
}

}  // namespace kuramori::redis
