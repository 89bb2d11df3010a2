#include "testing/postgres_server.h"

#include <grp.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/world.h"

namespace kuramori {
namespace {

constexpr Duration kStartTimeout = std::chrono::seconds(90);
constexpr Duration kStopTimeout = std::chrono::seconds(60);
constexpr Duration kPollInterval = std::chrono::milliseconds(10);
constexpr int kSessionEndMillisecondsMax = 10'000;
// The file of a data directory's pid file that tells its state: "ready" or "standby".
constexpr size_t kStatusLine = 7;

struct ServerUser {
  bool switch_to = false;  // only root can, and only root must
  uid_t uid = 0;
  gid_t gid = 0;
};

Result<ServerUser> server_user() {
  if (geteuid() != 0) return ServerUser{.uid = geteuid(), .gid = getegid()};
  const passwd* entry = getpwnam("postgres");
  if (!entry) {
    return fail(ErrorKind::kUsage, "no user 'postgres'", "PostgreSQL refuses to run as root",
                "apt-get install postgresql-15");
  }
  return ServerUser{.switch_to = true, .uid = entry->pw_uid, .gid = entry->pw_gid};
}

// Runs `command` with both outputs in `output`, as the server's user, in `folder`; it dies with this process.
Result<pid_t> spawn(const std::vector<std::string>& command, const std::string& folder,
                    const std::string& output) {
  TRY_ASSIGN(ServerUser user, server_user());
  std::vector<char*> argv;
  for (const std::string& part : command) argv.push_back(const_cast<char*>(part.c_str()));
  argv.push_back(nullptr);
  TRY_ASSIGN(Fd out, open_file(output, O_WRONLY | O_CREAT | O_APPEND, 0644));
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return system_error("fork for " + command[0], errno);
  if (pid == 0) {
    dup2(out.get(), 1);
    dup2(out.get(), 2);
    if (user.switch_to && (setgroups(0, nullptr) != 0 || setgid(user.gid) != 0 || setuid(user.uid) != 0))
      _exit(126);
    // A change of user clears it, so it comes after. SIGQUIT: an immediate shutdown, no server is left
    // behind.
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
    if (getppid() != parent || chdir(folder.c_str()) != 0) _exit(126);
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("PGTZ", "UTC", 1);
    unsetenv("PGDATA");
    unsetenv("PGHOST");
    execvp(argv[0], argv.data());
    _exit(127);
  }
  return pid;
}

int exit_status(int raw) {
  return WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
}

int wait_for(pid_t pid) {
  int raw = 0;
  while (waitpid(pid, &raw, 0) < 0 && errno == EINTR) {
  }
  return exit_status(raw);
}

std::string text_of(const std::string& path) {
  auto bytes = read_file(path);
  return bytes ? std::string(as_text(*bytes)) : std::string();
}

Result<ProgramOutput> run_program(const std::vector<std::string>& command, const std::string& folder,
                                  const std::string& output) {
  TRY(remove_file(output));
  TRY_ASSIGN(const pid_t pid, spawn(command, folder, output));
  ProgramOutput result;
  result.status = wait_for(pid);
  result.text = text_of(output);
  return result;
}

// The checkout this test was built in: the nearest folder above the program with the script in it.
std::string find_script() {
  namespace fs = std::filesystem;
  std::error_code ignored;
  for (fs::path at = fs::read_symlink("/proc/self/exe", ignored); at.has_relative_path();
       at = at.parent_path()) {
    const fs::path script = at / "tools" / "test_postgres.sh";
    if (fs::exists(script, ignored)) return script.string();
  }
  return {};
}

Result<TemporaryFolder> make_folder() {
  TRY_ASSIGN(TemporaryFolder folder, TemporaryFolder::make("kuramori-pg-"));
  TRY(PostgresServer::give_to_server_user(folder.path()));
  return folder;
}

}  // namespace

Result<std::string> PostgresServer::bin_folder_of(int major) {
  const std::string debian = fmt::format("/usr/lib/postgresql/{}/bin", major);
  if (access((debian + "/postgres").c_str(), X_OK) == 0) return debian;
  const std::string script = find_script();
  if (script.empty()) {
    return fail(ErrorKind::kUsage, fmt::format("no programs of PostgreSQL {}", major),
                "tools/test_postgres.sh is not above this program");
  }
  FILE* pipe = popen(fmt::format("'{}' bin {}", script, major).c_str(), "re");
  if (!pipe) return system_error("run " + script, errno);
  std::string folder;
  for (int c; (c = fgetc(pipe)) != EOF && c != '\n';) folder.push_back(static_cast<char>(c));
  if (pclose(pipe) != 0 || folder.empty()) {
    return fail(ErrorKind::kFailed, fmt::format("no programs of PostgreSQL {}", major), "the fetch failed",
                fmt::format("tools/test_postgres.sh bin {}", major));
  }
  return folder;
}

Result<void> PostgresServer::give_to_server_user(const std::string& path) {
  TRY_ASSIGN(ServerUser user, server_user());
  if (!user.switch_to) return {};
  if (lchown(path.c_str(), user.uid, user.gid) != 0) return system_error("chown " + path, errno);
  std::error_code failed;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path, failed)) {
    if (lchown(entry.path().c_str(), user.uid, user.gid) != 0)
      return system_error("chown " + entry.path().string(), errno);
  }
  return {};
}

Result<std::unique_ptr<PostgresServer>> PostgresServer::create(const PostgresServerOptions& options) {
  TRY_ASSIGN(TemporaryFolder folder, make_folder());
  std::unique_ptr<PostgresServer> server(new PostgresServer(std::move(folder)));
  server->major_ = options.major;
  TRY_ASSIGN(server->bin_folder_, bin_folder_of(options.major));
  server->data_directory_ = server->folder_ / "data";
  std::vector<std::string> arguments = {
      "-D",        server->data_directory_,
      "-U",        "postgres",
      "-A",        "trust",
      "--no-sync", fmt::format("--wal-segsize={}", options.wal_segment_mib)};
  if (options.checksums) arguments.emplace_back("-k");
  // From 18 on checksums are the default.
  if (!options.checksums && options.major >= 18) arguments.emplace_back("--no-data-checksums");
  if (options.group_access) arguments.emplace_back("-g");
  arguments.insert(arguments.end(), options.initdb.begin(), options.initdb.end());
  TRY_ASSIGN(ProgramOutput made, server->run("initdb", arguments));
  if (made.status != 0) return fail(ErrorKind::kFailed, "initdb failed", made.text);
  std::vector<std::string> lines = {
      "listen_addresses = ''",
      fmt::format("unix_socket_directories = '{}'", server->folder()),
      fmt::format("fsync = {}", options.fsync ? "on" : "off"),
      "shared_buffers = 32MB",
      "max_connections = 40",
      "logging_collector = off",
      "timezone = 'UTC'",
  };
  lines.insert(lines.end(), options.settings.begin(), options.settings.end());
  TRY(server->add_settings(lines));
  server->arguments_ = {"-D", server->data_directory_};
  if (options.start) TRY(server->start());
  return server;
}

Result<std::unique_ptr<PostgresServer>> PostgresServer::adopt(std::string data_directory, int major,
                                                              std::vector<std::string> settings) {
  TRY_ASSIGN(TemporaryFolder folder, make_folder());
  std::unique_ptr<PostgresServer> server(new PostgresServer(std::move(folder)));
  server->major_ = major;
  TRY_ASSIGN(server->bin_folder_, bin_folder_of(major));
  server->data_directory_ = std::move(data_directory);
  server->arguments_ = {"-D", server->data_directory_,
                        "-c", "listen_addresses=",
                        "-c", "unix_socket_directories=" + server->folder(),
                        "-c", "fsync=off"};
  for (std::string& setting : settings) {
    server->arguments_.emplace_back("-c");
    server->arguments_.push_back(std::move(setting));
  }
  TRY(server->start());
  return server;
}

PostgresServer::~PostgresServer() {
  kill();
}

Result<void> PostgresServer::start() {
  std::vector<std::string> command = {bin_folder_ + "/postgres"};
  command.insert(command.end(), arguments_.begin(), arguments_.end());
  TRY_ASSIGN(pid_, spawn(command, folder(), folder_ / "log"));
  return wait_until_ready();
}

Result<void> PostgresServer::wait_until_ready() {
  for (Duration waited{}; waited < kStartTimeout; waited += kPollInterval) {
    int raw = 0;
    if (waitpid(pid_, &raw, WNOHANG) == pid_) {
      pid_ = -1;
      return fail(ErrorKind::kFailed, fmt::format("PostgreSQL did not start on {}", data_directory_), log());
    }
    const std::string pid_file = text_of(data_directory_ + "/postmaster.pid");
    size_t at = 0;
    for (size_t line = 0; line < kStatusLine && at != std::string::npos; ++line) {
      at = pid_file.find('\n', at);
      if (at != std::string::npos) ++at;
    }
    const bool ours = pid_file.starts_with(fmt::format("{}\n", pid_));
    if (ours && at != std::string::npos) {
      const std::string_view status = std::string_view(pid_file).substr(at);
      if (status.starts_with("ready") || status.starts_with("standby")) {
        // "standby" is written when hot standby connections are possible, or when recovery just began (13).
        if (sql("SELECT 1")) return {};
      }
    }
    system_clock().sleep(kPollInterval);
  }
  std::string text = log();
  kill();
  return fail(ErrorKind::kFailed, fmt::format("PostgreSQL took too long to start on {}", data_directory_),
              text);
}

Result<void> PostgresServer::stop() {
  if (pid_ <= 0) return {};
  ::kill(pid_, SIGINT);
  for (Duration waited{}; waited < kStopTimeout; waited += kPollInterval) {
    int raw = 0;
    if (waitpid(pid_, &raw, WNOHANG) == pid_) {
      pid_ = -1;
      if (exit_status(raw) != 0) return fail(ErrorKind::kFailed, "PostgreSQL did not stop cleanly", log());
      return {};
    }
    system_clock().sleep(kPollInterval);
  }
  kill();
  return fail(ErrorKind::kFailed, "PostgreSQL did not stop in time", log());
}

void PostgresServer::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGQUIT);
  for (Duration waited{}; waited < kStopTimeout; waited += kPollInterval) {
    int raw = 0;
    if (waitpid(pid_, &raw, WNOHANG) == pid_) {
      pid_ = -1;
      return;
    }
    system_clock().sleep(kPollInterval);
  }
  ::kill(pid_, SIGKILL);
  wait_for(pid_);
  pid_ = -1;
}

namespace {

// A session for one question, without a process of its own: tests ask thousands of them.
struct EndSession {
  // Returns when the server has forgotten it, so that what comes next may drop or rename its database.
  void operator()(PGconn* session) const {
    if (PQstatus(session) == CONNECTION_OK && ::shutdown(PQsocket(session), SHUT_WR) == 0) {
      pollfd end = {.fd = PQsocket(session), .events = POLLIN, .revents = 0};
      ::poll(&end, 1, kSessionEndMillisecondsMax);
    }
    PQfinish(session);
  }
};
using Session = std::unique_ptr<PGconn, EndSession>;
using Answer = std::unique_ptr<PGresult, decltype([](PGresult* answer) { PQclear(answer); })>;

void append_rows(const PGresult* answer, std::string& text) {
  for (int row = 0; row < PQntuples(answer); ++row) {
    for (int field = 0; field < PQnfields(answer); ++field) {
      if (field > 0) text += '|';
      text += PQgetvalue(answer, row, field);
    }
    text += '\n';
  }
}

}  // namespace

Result<std::string> PostgresServer::sql(const std::string& query, const std::string& database) {
  const auto failed = [&](const char* why) { return fail(ErrorKind::kFailed, "SQL failed: " + query, why); };
  const Session session(PQconnectdb((connect(database) + " options='-c TimeZone=UTC'").c_str()));
  if (PQstatus(session.get()) != CONNECTION_OK) return failed(PQerrorMessage(session.get()));
  PQsetNoticeProcessor(session.get(), [](void*, const char*) {}, nullptr);
  if (!PQsendQuery(session.get(), query.c_str())) return failed(PQerrorMessage(session.get()));
  std::string text;
  while (const Answer answer{PQgetResult(session.get())}) {
    const ExecStatusType status = PQresultStatus(answer.get());
    if (status == PGRES_TUPLES_OK) {
      append_rows(answer.get(), text);
    } else if (status != PGRES_COMMAND_OK) {
      const std::string_view why = PQresultErrorMessage(answer.get());
      return failed(why.empty() ? "an answer that only psql understands" : why.data());
    }
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

namespace {
// psql and pgbench need not be of the server's major, and the small kits do not have them.
std::string program_path(const std::string& bin_folder, const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  const std::string own = bin_folder + "/" + program;
  return access(own.c_str(), X_OK) == 0 ? own : program;
}
}  // namespace

Result<ProgramOutput> PostgresServer::run(const std::string& program,
                                          const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {program_path(bin_folder_, program)};
  command.insert(command.end(), arguments.begin(), arguments.end());
  static std::atomic<unsigned> counter = 0;
  const std::string output = folder_ / fmt::format("output-{}", counter++);
  auto result = run_program(command, folder(), output);
  unlink(output.c_str());
  return result;
}

Result<std::unique_ptr<PostgresServer::Background>> PostgresServer::start_program(
    const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {program_path(bin_folder_, program)};
  command.insert(command.end(), arguments.begin(), arguments.end());
  TRY_ASSIGN(const pid_t pid, spawn(command, folder(), folder_ / "background.log"));
  return std::make_unique<Background>(pid);
}

PostgresServer::Background::~Background() {
  if (pid_ > 0) finish(SIGKILL);
}

int PostgresServer::Background::wait() {
  const int status = wait_for(pid_);
  pid_ = -1;
  return status;
}

int PostgresServer::Background::finish(int signal) {
  ::kill(pid_, signal);
  return wait();
}

Result<void> PostgresServer::add_settings(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  TRY_ASSIGN(Fd file, open_file(data_directory_ + "/postgresql.conf", O_WRONLY | O_APPEND));
  return write_full(file, as_bytes(text), "postgresql.conf");
}

std::string PostgresServer::connect(const std::string& database, const std::string& user) const {
  return fmt::format("host={} dbname='{}' user='{}'", folder(), database, user);
}

std::string PostgresServer::log() const {
  return text_of(folder_ / "log");
}

}  // namespace kuramori
