// A server of our own: started on a folder, reached through a Unix socket alone, gone when we are.
#pragma once
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "os/process.h"
#include "source/redis/connection.h"

namespace kuramori::redis {

constexpr Duration kStartLimit = std::chrono::seconds(20);  // until it answers at all
constexpr Duration kLoadLimit = std::chrono::hours(4);      // until it has read its data

// A program of this machine.
struct ServerProgram {
  std::string path;
  ServerVersion version;
  int rdb_version() const { return rdb_version_of(version); }
  std::string describe() const;  // "redis-server 7.0.15"
};

// redis-server and valkey-server, in `folders` and then in PATH; what does not run is left out.
std::vector<ServerProgram> find_server_programs(const std::vector<std::string>& folders);
// The one to load an RDB of this version with: the same flavour before the other, and of those that can the
// least new: what it writes is read by as many as possible. kNotFound says what to install.
Result<ServerProgram> choose_program(const std::vector<ServerProgram>& programs, Flavour flavour,
                                     int rdb_version);

struct PrivateServerOptions {
  ServerProgram program;
  std::string folder;             // its data: dump.rdb, appendonlydir
  bool append_only = false;       // it loads the append-only files and goes on writing them
  std::vector<std::string> more;  // "--port", "7000": after our own, so that they win
  std::stop_token stop;
};

// Destroyed while running: killed and awaited.
class PrivateServer {
 public:
  // Returns when it has loaded all. kFailed with the end of its log when it does not start; kDamaged when it
  // does not take its data.
  static Result<PrivateServer> start(PrivateServerOptions options);

  Connection& connection() { return *connection_; }
  const Endpoint& endpoint() const { return endpoint_; }
  const ServerProgram& program() const { return options_.program; }
  pid_t pid() const { return child_.pid(); }
  // Ends it in order: what is to be written is, and nothing is saved that was not asked for.
  Result<void> stop();

 private:
  PrivateServer(PrivateServerOptions options, TemporaryFolder run, Child child)
      : options_(std::move(options)), run_(std::move(run)), child_(std::move(child)) {}
  Result<void> await_answer();
  Result<void> await_loaded();
  Error did_not_start(ErrorKind kind) const;

  PrivateServerOptions options_;
  TemporaryFolder run_;  // its socket and log: a path short enough for a socket
  Child child_;
  Endpoint endpoint_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace kuramori::redis
