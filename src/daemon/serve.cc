#include "daemon/serve.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <thread>

#include "daemon/archiver.h"
#include "daemon/fetcher.h"
#include "os/heap.h"
#include "os/local_socket.h"
#include "os/signals.h"

namespace kuramori {
namespace {

constexpr Duration kLookAroundEvery = std::chrono::milliseconds(200);
constexpr Duration kAnswerTimeMax = std::chrono::seconds(5);  // for the peer to take an answer
constexpr size_t kWorkersMin = 2, kWorkersMax = 8;

size_t workers() {
  return std::clamp<size_t>(std::thread::hardware_concurrency(), kWorkersMin, kWorkersMax);
}

WalAnswer failed(Error error) {
  return {.kind = WalAnswer::Kind::kFailed, .error = std::move(error)};
}
WalAnswer not_mine(Error error) {
  return {.kind = WalAnswer::Kind::kNotMine, .error = std::move(error)};
}

class Daemon {
 public:
  Daemon(ServedVaults& vaults, gid_t group, Reporter& reporter)
      : vaults_(vaults),
        group_(group),
        reporter_(reporter),
        // One more than compress: where one waits for the disk, another has work for its processor.
        archiver_(vaults, reporter, workers() + 1),
        fetcher_(vaults, workers()) {}

  // One connection, from its first message to its end.
  void attend(Fd socket);
  void stop_ahead() { archiver_.stop_ahead(); }

 private:
  bool may_connect(const Peer& peer) const;
  WalAnswer answer(const Fd& socket, std::optional<Fd>& file);
  WalAnswer push(const WalRequest& request, std::vector<Fd> fds, const std::function<void()>& working);
  WalAnswer get(const WalRequest& request, std::vector<Fd> fds, uid_t asker,
                const std::function<void()>& working, std::optional<Fd>& file);

  ServedVaults& vaults_;
  const gid_t group_;
  Reporter& reporter_;
  Archiver archiver_;
  Fetcher fetcher_;
};

// The socket's mode says the same; this holds also when somebody loosened that.
bool Daemon::may_connect(const Peer& peer) const {
  return peer.uid == 0 || peer.uid == ::geteuid() || peer.gid == group_ ||
         std::ranges::find(peer.groups, group_) != peer.groups.end();
}

void Daemon::attend(Fd socket) {
  std::optional<Fd> file;  // that goes with the answer
  WalAnswer said = answer(socket, file);
  const int raw = file ? file->get() : -1;
  // Whoever has gone meanwhile, or does not listen, asks again; what was stored for it is stored.
  (void)send_message(socket, encode(said), file ? std::span(&raw, 1) : std::span<const int>(),
                     kAnswerTimeMax);
}

WalAnswer Daemon::answer(const Fd& socket, std::optional<Fd>& file) {
  auto peer = peer_of(socket);
  if (!peer) return not_mine(peer.error());
  if (!may_connect(*peer)) {
    reporter_.warning(
        fmt::format("user number {} was refused: it is neither this daemon's user nor in the "
                    "socket's group",
                    peer->uid));
    return not_mine(fail(ErrorKind::kDenied, fmt::format("user number {} may not use this socket", peer->uid),
                         "it is for the daemon's user and the socket's group"));
  }
  auto message = receive_message(socket, kRequestTimeMax);
  if (!message) return not_mine(message.error());
  if (!*message) return not_mine(fail(ErrorKind::kUsage, "nothing was asked"));
  auto request = decode_wal_request((*message)->bytes);
  if (!request) return not_mine(request.error());
  auto working = [&] {
    (void)send_message(socket, encode(WalAnswer{.kind = WalAnswer::Kind::kWorking}), {}, Duration(0));
  };
  return request->verb == WalVerb::kPush
             ? push(*request, std::move((*message)->fds), working)
             : get(*request, std::move((*message)->fds), peer->uid, working, file);
}

WalAnswer Daemon::push(const WalRequest& request, std::vector<Fd> fds, const std::function<void()>& working) {
  if (fds.size() != 1 + request.ahead.size() + request.earlier.size())
    return not_mine(fail(ErrorKind::kUsage, "the request's files are not all there"));
  auto control = postgres::parse_control_file(request.control);
  if (!control) return failed(control.error());
  std::vector<size_t> candidates = vaults_.candidates(request);
  if (candidates.empty())
    return not_mine(fail(ErrorKind::kNotFound, "this daemon does not serve that vault"));

  WalPushRequest push{.path = request.name, .resource = request.resource};
  push.may_register = !push.resource.empty();
  size_t chosen = candidates.front();
  // Another vault may hold copies of the same server's WAL: the one is whose plan it is.
  for (size_t i = 0; candidates.size() > 1 && i < candidates.size(); ++i) {
    auto vault = vaults_.open(candidates[i]);
    if (!vault) return failed(vault.error());  // one that is away may be the one
    auto name = resource_of_system(**vault, control->system_id, vaults_.vault(candidates[i]).archives);
    if (!name) {
      vaults_.let_go(candidates[i], *vault);
      return failed(name.error());
    }
    if (name->empty()) continue;
    chosen = candidates[i];
    push.resource = *name;
    break;
  }
  if (candidates.size() > 1 && push.resource.empty())
    return not_mine(fail(ErrorKind::kRefused, "no vault that plans archive into knows this server"));
  if (push.resource.empty()) push.configured = vaults_.vault(chosen).archives;

  size_t at = 0;
  auto next_file = [&](const std::string& name) {
    return PushFile{name, std::make_shared<const Fd>(std::move(fds[at++]))};
  };
  PushFiles files;
  files.wanted = next_file(request.name);
  for (const std::string& name : request.ahead) {
    // Only whole segments are taken ahead: a history goes before what depends on it, and a rest of a timeline
    // after its history (P32), in the order PostgreSQL asks.
    PushFile file = next_file(name);
    if (postgres::parse_segment_name(name, control->segment_bytes)) files.ahead.push_back(std::move(file));
  }
  for (const std::string& name : request.earlier) {
    PushFile file = next_file(name);
    auto status = status_of(*file.file, name);
    if (status && status->type == FileType::kFile) files.earlier.push_back(std::move(file));
  }
  auto pushed = archiver_.push(chosen, *control, push, std::move(files), working);
  if (!pushed) {
    reporter_.warning(fmt::format("{} was not archived: {}", request.name, pushed.error().what));
    return failed(pushed.error());
  }
  return {.kind = WalAnswer::Kind::kPushed,
          .error = {},
          .resource = pushed->resource,
          .bytes = pushed->bytes,
          .put = pushed->put};
}

WalAnswer Daemon::get(const WalRequest& request, std::vector<Fd> fds, uid_t asker,
                      const std::function<void()>& working, std::optional<Fd>& file) {
  if (fds.empty()) return not_mine(fail(ErrorKind::kUsage, "the request's file is not there"));
  auto status = status_of(fds.front(), request.name);
  if (!status || status->type != FileType::kFile)
    return failed(fail(ErrorKind::kUsage, fmt::format("{} cannot be put there", request.name),
                       "what was handed over is no file"));
  std::vector<size_t> candidates = vaults_.candidates(request);
  if (candidates.size() != 1 || request.resource.empty())
    return not_mine(fail(ErrorKind::kNotFound, "this daemon does not serve that vault"));
  WalGetRequest get{.resource = request.resource, .name = request.name};
  if (!request.promise.empty()) {
    auto promise = postgres::parse_promise(request.promise);
    if (!promise) return failed(promise.error());
    get.promise = *promise;
  }
  WalAnswer said{.kind = WalAnswer::Kind::kGot};
  const Place place{.device = status->device, .uid = asker};
  for (size_t i = 1; i < fds.size(); ++i) fetcher_.take_spare(place, std::move(fds[i]));
  Fetched fetched;
  said.decision = fetcher_.get(candidates.front(), get, place, fetched, working);
  if (said.decision.answer == postgres::Get::kStopServer)
    reporter_.warning(fmt::format("{}: {}", request.name, said.decision.why));
  if (said.decision.answer != postgres::Get::kFound) return said;
  said.bytes = fetched.bytes;
  if (fetched.file) {
    file = std::move(fetched.file);
  } else if (auto written = pwrite_full(fds.front(), 0, fetched.content, request.name); !written) {
    return failed(written.error());
  }
  return said;
}

// Each request holds up to 17 files; the usual 1,024 would not be enough for all connections.
void allow_files() {
  constexpr rlim_t kFilesMax = 4096;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kFilesMax) return;
  limit.rlim_cur = std::min(limit.rlim_max, kFilesMax);
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

// Tells the service manager twice in the time it allows that all is well, if it wants to know.
class Watchdog {
 public:
  Watchdog() {
    const char* microseconds = ::getenv("WATCHDOG_USEC");
    if (microseconds != nullptr) every_ = std::chrono::microseconds(std::atoll(microseconds)) / 2;
  }
  void feed(Duration now) {
    if (every_ <= Duration(0) || now - fed_ < every_) return;
    notify_service_manager("WATCHDOG=1");
    fed_ = now;
  }

 private:
  Duration every_{0}, fed_{0};
};

// The threads of connections: joined as they end, all at the end.
class Attendants {
 public:
  size_t count() {
    std::erase_if(running_, [](const One& one) { return one.done->load(); });
    return running_.size();
  }
  void start(Daemon& daemon, Fd socket) {
    auto done = std::make_shared<std::atomic<bool>>(false);
    running_.push_back({done, std::jthread([&daemon, done, socket = std::move(socket)]() mutable {
                          daemon.attend(std::move(socket));
                          done->store(true);
                        })});
  }

 private:
  struct One {
    std::shared_ptr<std::atomic<bool>> done;
    std::jthread thread;
  };
  std::list<One> running_;
};

// A place that is away comes back, a certificate is renewed, a clock is set: one vault that cannot be opened
// keeps nobody from the others. Where each of them is wrong as it is configured, who starts the daemon is to
// hear it.
Result<void> try_vaults(ServedVaults& vaults, Reporter& reporter) {
  std::vector<Error> wrong;
  for (size_t i = 0; i < vaults.count(); ++i) {
    auto vault = vaults.open(i);
    if (vault) continue;
    if (vault.error().kind == ErrorKind::kUsage) wrong.push_back(vault.error());
    const Error& error = vault.error();
    reporter.warning(fmt::format("{}{}{}; it is tried again when it is needed", error.what,
                                 error.why.empty() ? "" : ": ", error.why));
  }
  if (!wrong.empty() && wrong.size() == vaults.count()) return std::move(wrong.front());
  return {};
}

}  // namespace

Result<void> serve(ServedVaults& vaults, const ServeRequest& request, Reporter& reporter,
                   std::stop_token stop) {
  keep_freed_memory();
  // Before the vaults: to open them may take long.
  if (request.hooks.hang_up)
    hangups_do_not_stop();
  else
    hangups_stop();
  TRY_ASSIGN(LocalListener opened, LocalListener::open(request.socket, request.group));
  std::optional<LocalListener> listener(std::move(opened));
  TRY(try_vaults(vaults, reporter));
  allow_files();
  Daemon daemon(vaults, listener->group(), reporter);
  {
    Attendants attendants;
    const ServeRequest::Hooks& hooks = request.hooks;
    if (hooks.listening) hooks.listening();
    reporter.note(fmt::format("listening on {}", request.socket));
    notify_service_manager("READY=1");
    Watchdog watchdog;
    Duration last_asked = system_clock().steady();
    while (!stop.stop_requested()) {
      TRY_ASSIGN(std::optional<Fd> socket, listener->accept(kLookAroundEvery));
      const Duration now = system_clock().steady();
      const bool is_applied = hooks.is_applied && hooks.is_applied();
      if (hooks.hang_up && (take_hangup() || is_applied)) hooks.hang_up();
      if (!hooks.is_alive || hooks.is_alive()) watchdog.feed(now);
      if (socket || (request.idle_max && attendants.count() > 0)) last_asked = now;
      if (request.idle_max && now - last_asked > *request.idle_max) break;
      if (!socket) continue;
      // One more than can be served does its work itself: an ended connection says so.
      if (attendants.count() < kConnectionsMax) attendants.start(daemon, std::move(*socket));
    }
    notify_service_manager("STOPPING=1");
    if (hooks.stopping) hooks.stopping();
    listener.reset();
    daemon.stop_ahead();
  }
  reporter.note("stopped");
  return {};
}

}  // namespace kuramori
