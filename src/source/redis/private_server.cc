#include "source/redis/private_server.h"

#include <fmt/core.h>

#include <algorithm>

namespace kuramori::redis {
namespace {

constexpr Duration kVersionLimit = std::chrono::seconds(10);
constexpr Duration kPollStep = std::chrono::milliseconds(20);
constexpr Duration kStopGrace = std::chrono::minutes(2);  // it writes and syncs its append-only file
constexpr size_t kLogBytesMax = 4 << 20;
constexpr size_t kLogTailBytes = 600;
constexpr int kDatabases = 1 << 14;  // a snapshot may hold more than the sixteen of the default

struct KnownProgram {
  const char* name;
  Flavour flavour;
};
constexpr KnownProgram kPrograms[] = {{"redis-server", Flavour::kRedis}, {"valkey-server", Flavour::kValkey}};

// "Redis server v=7.0.15 sha=…"; a redis-server may be Valkey under its old name.
std::optional<ServerProgram> look_at(const std::string& path) {
  const Result<Finished> finished = run({.argv = {path, "--version"}, .timeout = kVersionLimit});
  if (!finished || !finished->exit.ok()) return std::nullopt;
  const std::string_view text = finished->output;
  const size_t at = text.find(" v=");
  if (at == std::string_view::npos) return std::nullopt;
  const Flavour flavour = text.starts_with("Valkey") ? Flavour::kValkey : Flavour::kRedis;
  const std::string_view rest = text.substr(at + 3);
  return ServerProgram{path, parse_version(flavour, rest.substr(0, rest.find_first_of(" \n")))};
}

}  // namespace

std::string ServerProgram::describe() const {
  return fmt::format("{}-server {}", name_of(version.flavour), version.text);
}

std::vector<ServerProgram> find_server_programs(const std::vector<std::string>& folders) {
  std::vector<std::string> paths;
  for (const std::string& folder : folders) {
    for (const KnownProgram& known : kPrograms) paths.push_back(join_path(folder, known.name));
  }
  for (const KnownProgram& known : kPrograms) {
    if (Result<std::string> path = find_program(known.name)) paths.push_back(*path);
  }
  std::vector<ServerProgram> found;
  for (const std::string& path : paths) {
    std::optional<ServerProgram> program = look_at(path);
    if (program) found.push_back(std::move(*program));
  }
  return found;
}

Result<ServerProgram> choose_program(const std::vector<ServerProgram>& programs, Flavour flavour,
                                     int rdb_version) {
  const ServerProgram* best = nullptr;
  const auto key = [&](const ServerProgram& program) {
    return std::pair(program.version.flavour != flavour, program.rdb_version());
  };
  for (const ServerProgram& program : programs) {
    if (program.rdb_version() < rdb_version) continue;
    // From 12 on Redis and Valkey count apart: neither reads the other's.
    if (rdb_version > 11 && program.version.flavour != flavour) continue;
    if (best == nullptr || key(program) < key(*best)) best = &program;
  }
  if (best != nullptr) return *best;
  std::string here;
  for (const ServerProgram& program : programs) here += (here.empty() ? "" : ", ") + program.describe();
  return fail(ErrorKind::kNotFound,
              fmt::format("no server program of this machine reads RDB version {} of {}", rdb_version,
                          name_of(flavour)),
              here.empty() ? "there is no redis-server and no valkey-server in PATH" : "there is: " + here,
              fmt::format("apt-get install {}-server", name_of(flavour)));
}

Result<PrivateServer> PrivateServer::start(PrivateServerOptions options) {
  TRY_ASSIGN(TemporaryFolder run, TemporaryFolder::make("kuramori-redis"));
  const std::string socket = run / "sock";
  TRY_ASSIGN(Fd log, open_file(run / "log", O_WRONLY | O_CREAT | O_APPEND));
  TRY_ASSIGN(Fd errors, open_file(run / "log", O_WRONLY | O_APPEND));
  // Nothing of the machine's configuration is read, and no port is open. The port of a cluster's bus goes
  // with it.
  Command command{.argv = {options.program.path,
                           "--port",
                           "0",
                           "--unixsocket",
                           socket,
                           "--unixsocketperm",
                           "700",
                           "--dir",
                           options.folder,
                           "--dbfilename",
                           "dump.rdb",
                           "--save",
                           "",
                           "--appendonly",
                           options.append_only ? "yes" : "no",
                           "--daemonize",
                           "no",
                           "--databases",
                           std::to_string(kDatabases),
                           "--maxmemory",
                           "0",
                           "--loglevel",
                           "notice",
                           "--logfile",
                           ""},
                  .folder = run.path(),
                  .die_with_us = true};
  command.argv.insert(command.argv.end(), options.more.begin(), options.more.end());
  TRY_ASSIGN(Child child, Child::start(command, {.output = std::move(log), .errors = std::move(errors)}));
  PrivateServer server(std::move(options), std::move(run), std::move(child));
  server.endpoint_.socket = socket;
  TRY(server.await_answer());
  TRY(server.await_loaded());
  return server;
}

Error PrivateServer::did_not_start(ErrorKind kind) const {
  std::string log;
  if (Result<Bytes> bytes = read_file(run_ / "log", kLogBytesMax)) log = as_text(*bytes);
  while (!log.empty() && log.back() == '\n') log.pop_back();
  if (log.size() > kLogTailBytes) log = "…" + log.substr(log.size() - kLogTailBytes);
  return fail(kind, fmt::format("{} did not start on {}", options_.program.describe(), options_.folder), log);
}

Result<void> PrivateServer::await_answer() {
  const Duration begun = system_clock().steady();
  for (;;) {
    if (options_.stop.stop_requested()) return fail(ErrorKind::kInterrupted, "asked to stop");
    TRY_ASSIGN(const std::optional<Exit> ended, child_.wait_for(kPollStep));
    if (ended) return did_not_start(ErrorKind::kFailed);
    if (Result<Connection> opened = Connection::open(endpoint_, options_.stop)) {
      connection_ = std::make_unique<Connection>(std::move(*opened));
      return {};
    }
    if (system_clock().steady() - begun > kStartLimit) return did_not_start(ErrorKind::kFailed);
  }
}

Result<void> PrivateServer::await_loaded() {
  const Duration begun = system_clock().steady();
  for (;;) {
    if (options_.stop.stop_requested()) return fail(ErrorKind::kInterrupted, "asked to stop");
    // It ends by itself when it cannot read its data; the connection breaks then.
    const Result<Info> info = read_info(*connection_, "persistence");
    if (!info || !child_.running()) {
      (void)child_.wait_for(kPollStep);
      return did_not_start(ErrorKind::kDamaged);
    }
    if (number_in(*info, "loading") == 0) return {};
    if (system_clock().steady() - begun > kLoadLimit) return did_not_start(ErrorKind::kUnknown);
    system_clock().sleep(kPollStep);
  }
}

Result<void> PrivateServer::stop() {
  connection_.reset();
  TRY_ASSIGN(const Exit exit, child_.terminate(kStopGrace));
  if (!exit.ok())
    return fail(ErrorKind::kFailed,
                fmt::format("{} ended with {}", options_.program.describe(), exit.describe()));
  return {};
}

}  // namespace kuramori::redis
