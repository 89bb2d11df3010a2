#include "daemon/wal_client.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/own_daemon.h"
#include "os/local_socket.h"
#include "source/postgres/control_file.h"
#include "source/postgres/segment_changes.h"
#include "source/postgres/timeline_history.h"

namespace kuramori {
namespace {

constexpr const char* kUsualSocket = "/run/kuramori/kuramori.sock";
constexpr std::string_view kNoDaemon = "off";
constexpr Duration kSendTimeMax = std::chrono::seconds(5);

constexpr const char* kConfigs[] = {"kuramori.yaml", "/etc/kuramori/kuramori.yaml"};

// As the command line's own code would have it (cli/context.cc); what differs only costs the daemon's help.
std::string location_of(std::string text) {
  if (text.starts_with("file://")) return text.substr(7);
  const bool is_folder = text.find('/') != std::string::npos && text.find(':') == std::string::npos;
  return is_folder && !text.starts_with('/') ? real_path(text) : text;
}

WalRequest request_of(WalVerb verb, const DaemonWords& words, std::string name) {
  WalRequest request{.verb = verb,
                     .name = std::move(name),
                     .resource = words.resource,
                     .vault = location_of(words.vault),
                     .key_file = {},
                     .config = {},
                     .control = {},
                     .ahead = {},
                     .promise = words.promise};
  if (!words.key_file.empty()) request.key_file = real_path(words.key_file);
  if (!words.config.empty()) request.config = real_path(words.config);
  // What the command would read if it worked alone.
  for (const char* usual : kConfigs) {
    const bool is_read = request.config.empty() && words.vault.find('/') == std::string::npos;
    if (is_read && ::access(usual, F_OK) == 0) request.config = real_path(usual);
  }
  return request;
}

// Whoever may stand at that path decides whether WAL is safe: the daemon is root's, ours, or of the user
// whose folder the socket stands in.
Result<void> must_be_trusted(const Fd& socket, const std::string& path) {
  TRY_ASSIGN(Peer peer, peer_of(socket));
  if (peer.uid == 0 || peer.uid == ::geteuid()) return {};
  TRY_ASSIGN(FileStatus folder, status_of(folder_of(path)));
  if (folder.uid == peer.uid) return {};
  return fail(ErrorKind::kRefused,
              fmt::format("the process that listens on {} is of user number {}", path, peer.uid),
              "that is neither root, nor this user, nor the owner of the folder it stands in");
}

struct Said {
  WalAnswer answer;
  std::vector<Fd> fds;
};
Result<Said> ask(const std::string& path, const WalRequest& request, std::span<const int> fds) {
  TRY_ASSIGN(Fd socket, connect_local(path));
  TRY(must_be_trusted(socket, path));
  TRY(send_message(socket, encode(request), fds, kSendTimeMax));
  for (;;) {
    TRY_ASSIGN(auto message, receive_message(socket, kDaemonSilenceMax));
    if (!message) return fail(ErrorKind::kUnknown, "the daemon ended before it was done");
    TRY_ASSIGN(WalAnswer answer, decode_wal_answer(message->bytes));
    if (answer.kind == WalAnswer::Kind::kNotMine) return std::move(answer.error);
    if (answer.kind != WalAnswer::Kind::kWorking) return Said{std::move(answer), std::move(message->fds)};
  }
}

// Nothing to tell where nobody said that there is a daemon.
std::string trouble_of(const DaemonWords& words, const Error& error) {
  const bool expected = !words.socket.empty() || ::getenv("KURAMORI_SOCKET") != nullptr;
  if (!expected && error.kind == ErrorKind::kNotFound) return {};
  return fmt::format("the daemon was not of use: {}{}{}", error.what, error.why.empty() ? "" : ": ",
                     error.why);
}

bool is_ready(const std::string& folder, const std::string& name) {
  return ::access(fmt::format("{}/archive_status/{}.ready", folder, name).c_str(), F_OK) == 0;
}

// The segments after `name` that the server waits to have archived too, opened: the daemon needs no right to
// the data directory.
void open_ahead(const std::string& folder, const std::string& name, uint32_t segment_bytes,
                WalRequest& request, std::vector<Fd>& files) {
  auto parsed = postgres::parse_wal_file_name(name, segment_bytes);
  if (!parsed || parsed->kind != postgres::WalFileKind::kSegment || !is_ready(folder, name)) return;
  for (size_t i = 1; i <= kAheadFilesMax; ++i) {
    std::string next =
        postgres::segment_name(parsed->timeline, parsed->start + i * segment_bytes, segment_bytes);
    if (!is_ready(folder, next)) return;
    auto file = open_file(join_path(folder, next));
    if (!file) return;
    request.ahead.push_back(std::move(next));
    files.push_back(std::move(*file));
  }
}

// Those just before it, which are there as long as the server has not reused them: a record that ends in this
// segment may have begun there. Before a timeline's first segment lie its ancestors'.
void open_earlier(const std::string& folder, const std::string& name, uint32_t segment_bytes,
                  WalRequest& request, std::vector<Fd>& files) {
  auto parsed = postgres::parse_segment_name(name, segment_bytes);
  if (!parsed) return;
  // What was kept of one that is gone.
  if (auto tail = open_file(join_path(folder, std::string(postgres::kTailFile)))) {
    request.earlier.emplace_back(postgres::kTailFile);
    files.push_back(std::move(*tail));
  }
  std::optional<postgres::TimelineHistory> history;
  const size_t max = std::min<size_t>(kEarlierFilesMax - request.earlier.size(),
                                      postgres::kLookBackBytesMax / segment_bytes + 1);
  for (size_t i = 1; i <= max && parsed->start >= i * segment_bytes; ++i) {
    const postgres::Lsn start = parsed->start - i * segment_bytes;
    std::string earlier = postgres::segment_name(parsed->timeline, start, segment_bytes);
    auto file = open_file(join_path(folder, earlier));
    if (!file && parsed->timeline > 1) {
      if (!history) {
        auto text = read_file(join_path(folder, postgres::history_name(parsed->timeline)),
                              postgres::kTimelineHistoryBytesMax);
        if (!text) return;
        auto read = postgres::parse_timeline_history(as_text(*text), parsed->timeline);
        if (!read) return;
        history = std::move(*read);
      }
      earlier = postgres::segment_name(history->timeline_at(start + segment_bytes - 1), start, segment_bytes);
      file = open_file(join_path(folder, earlier));
    }
    if (!file) return;
    request.earlier.push_back(std::move(earlier));
    files.push_back(std::move(*file));
  }
}

// Gives a file without a name this one, in place of the file that has it.
bool name_file(const Fd& file, const std::string& path) {
  const std::string open_one = fmt::format("/proc/self/fd/{}", file.get());
  ::unlink(path.c_str());
  return ::linkat(AT_FDCWD, open_one.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0;
}

}  // namespace

std::string real_path(const std::string& path) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) != nullptr) return resolved;
  if (path.starts_with('/') || ::getcwd(resolved, sizeof resolved) == nullptr) return path;
  return join_path(resolved, path);
}

std::string socket_path(const std::string& given) {
  if (!given.empty()) return given;
  const char* named = ::getenv("KURAMORI_SOCKET");
  return named != nullptr && *named != 0 ? named : kUsualSocket;
}

DaemonSaid<Result<WalPushOutcome>> push_through_daemon(const DaemonWords& words, const std::string& path) {
  const std::string socket = socket_path(words.socket);
  if (socket == kNoDaemon) return {};
  if (::access(socket.c_str(), F_OK) != 0)
    return {{}, trouble_of(words, fail(ErrorKind::kNotFound, fmt::format("there is no {}", socket)))};
  const size_t slash = path.rfind('/');
  WalRequest request = request_of(WalVerb::kPush, words, path.substr(slash + 1));
  // What is wrong with these is told by the push that follows.
  auto control = read_file("global/pg_control", kControlBytesMax);
  if (!control) return {};
  auto parsed = postgres::parse_control_file(*control);
  if (!parsed) return {};
  std::vector<Fd> files;
  auto file = open_file(path);
  if (!file) return {};
  files.push_back(std::move(*file));
  request.control = std::move(*control);
  open_ahead(folder_of(path), request.name, parsed->segment_bytes, request, files);
  open_earlier(folder_of(path), request.name, parsed->segment_bytes, request, files);
  std::vector<int> raw;
  for (const Fd& one : files) raw.push_back(one.get());

  auto said = ask(socket, request, raw);
  if (!said) return {{}, trouble_of(words, said.error())};
  WalAnswer* answer = &said->answer;
  if (answer->kind == WalAnswer::Kind::kFailed) return {Result<WalPushOutcome>(std::move(answer->error)), {}};
  if (answer->kind != WalAnswer::Kind::kPushed) return {{}, "the daemon answered something else"};
  keep_tail_of(path, *parsed);
  return {Result<WalPushOutcome>(
              WalPushOutcome{.resource = answer->resource, .put = answer->put, .bytes = answer->bytes}),
          {}};
}

DaemonSaid<postgres::GetDecision> get_through_daemon(const DaemonWords& words, const std::string& name,
                                                     const std::string& path) {
  std::string socket = socket_path(words.socket);
  if (socket == kNoDaemon) return {};
  WalRequest request = request_of(WalVerb::kGet, words, name);
  if (::access(socket.c_str(), F_OK) != 0) {
    const std::string own = own_daemon_socket(words, path);
    if (own.empty())
      return {{}, trouble_of(words, fail(ErrorKind::kNotFound, fmt::format("there is no {}", socket)))};
    if (!connect_local(own)) {
      // This segment is fetched here; those that follow by that one.
      DaemonWords served = words;
      served.vault = request.vault;
      served.key_file = request.key_file;
      served.config = request.config;
      start_own_daemon(served, own);
      return {};
    }
    socket = own;
  }
  const std::string temporary = path + ".kuramori";
  auto file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (!file) return {};  // told by the get that follows
  std::vector<int> raw{file->get()};
  // Files without a name, beside it: the daemon writes the segments that come next into them.
  std::vector<Fd> spares;
  for (size_t i = 0; i < kSpareFilesMax; ++i) {
    auto spare = open_file(folder_of(path), O_WRONLY | O_TMPFILE, 0600);
    if (!spare) break;  // a filesystem that has none: then the daemon copies
    raw.push_back(spare->get());
    spares.push_back(std::move(*spare));
  }
  auto said = ask(socket, request, raw);
  auto without = [&](DaemonSaid<postgres::GetDecision> result) {
    ::unlink(temporary.c_str());
    return result;
  };
  if (!said) return without({{}, trouble_of(words, said.error())});
  WalAnswer* answer = &said->answer;
  if (answer->kind == WalAnswer::Kind::kFailed) return without({postgres::stop_server(answer->error), {}});
  if (answer->kind != WalAnswer::Kind::kGot) return without({{}, "the daemon answered something else"});
  if (answer->decision.answer != postgres::Get::kFound) return without({std::move(answer->decision), {}});
  // A file that is not as long as was said is none; a daemon that still writes to it, after we gave up on it,
  // writes to a file without a name.
  const bool is_elsewhere = !said->fds.empty();
  if (is_elsewhere) *file = std::move(said->fds.front());
  auto status = status_of(*file, temporary);
  if (!status || status->size != answer->bytes) return without({{}, "the daemon's file is not whole"});
  if (is_elsewhere && !name_file(*file, temporary))
    return without({{}, "the daemon's file could not be given a name"});
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return without(
        {postgres::stop_server(system_error(fmt::format("{} cannot be put in place", path), errno)), {}});
  return {std::move(answer->decision), {}};
}

}  // namespace kuramori
