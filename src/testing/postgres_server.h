// A real PostgreSQL for one test: its own data directory in a folder of its own, a unix socket and no
// network, gone when the object is. PostgreSQL refuses to run as root: as root, everything here runs as user
// `postgres`.
#pragma once
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "os/file.h"

namespace kuramori {

struct PostgresServerOptions {
  int major = 15;  // other majors come through tools/test_postgres.sh
  bool checksums = true;
  unsigned wal_segment_mib = 16;
  bool group_access = false;          // initdb -g
  bool fsync = false;                 // a test seldom needs it, and it is slow
  std::vector<std::string> settings;  // lines of postgresql.conf: "wal_level = replica"
  std::vector<std::string> initdb;    // more arguments for initdb
  bool start = true;                  // false: initdb only
};

struct ProgramOutput {
  int status = 0;    // exit status; 128 + signal when killed
  std::string text;  // standard output and standard error, as they came
};

class PostgresServer {
 public:
  // initdb and start. The superuser is `postgres`, trusted on the socket; replication is allowed too.
  static Result<std::unique_ptr<PostgresServer>> create(const PostgresServerOptions& options = {});
  // A server on a data directory that is already there (a restored one). It is not removed at the end. A
  // minimal configuration is given on the command line: socket, no network; `settings` are added as -c
  // NAME=VALUE.
  static Result<std::unique_ptr<PostgresServer>> adopt(std::string data_directory, int major = 15,
                                                       std::vector<std::string> settings = {});
  ~PostgresServer();  // stops it (immediate)
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;

  Result<void> start();  // returns when it takes connections (a standby: read-only ones)
  Result<void> stop();   // fast: a clean shutdown with its checkpoint
  void kill();           // immediate: as after a power cut
  bool running() const { return pid_ > 0; }

  // The rows, fields separated by '|', rows by newline, no trailing newline. Any error of the server is an
  // error.
  Result<std::string> sql(const std::string& query, const std::string& database = "postgres");
  // A program of this server's major (or a path), as the server's user, in its folder, until it ends.
  Result<ProgramOutput> run(const std::string& program, const std::vector<std::string>& arguments);
  // The same in the background, e.g. pgbench; stop it with finish() or let the destructor end it.
  class Background;
  Result<std::unique_ptr<Background>> start_program(const std::string& program,
                                                    const std::vector<std::string>& arguments);

  Result<void> add_settings(const std::vector<std::string>& lines);  // appended to postgresql.conf

  std::string connect(const std::string& database = "postgres", const std::string& user = "postgres") const;
  const std::string& data_directory() const { return data_directory_; }
  // A folder that belongs to the server's user; everything of this server is below it.
  const std::string& folder() const { return folder_.path(); }
  const std::string& bin_folder() const { return bin_folder_; }
  std::string log() const;  // what the server wrote
  int major() const { return major_; }
  pid_t pid() const { return pid_; }

  // The programs of a major: fetched when they are not there yet.
  static Result<std::string> bin_folder_of(int major);
  static std::vector<int> majors() { return {13, 14, 15, 16, 17, 18}; }
  // Makes `path` and all below it belong to the user servers run as.
  static Result<void> give_to_server_user(const std::string& path);

 private:
  explicit PostgresServer(TemporaryFolder folder) : folder_(std::move(folder)) {}
  Result<void> wait_until_ready();

  TemporaryFolder folder_;
  std::string bin_folder_, data_directory_;
  std::vector<std::string> arguments_;  // of `postgres`
  int major_ = 15;
  pid_t pid_ = -1;
};

class PostgresServer::Background {
 public:
  explicit Background(pid_t pid) : pid_(pid) {}
  ~Background();  // kills it
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  int wait();                  // until it ends by itself; its exit status
  int finish(int signal = 2);  // asks it to end

 private:
  pid_t pid_;
};

}  // namespace kuramori
