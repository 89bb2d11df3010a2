// A restored cluster, started where it can reach nothing: a unix socket of its own and no network, archiving
// off, the original server's directories hidden, dead when we are, swept away when we were killed.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/world.h"
#include "source/postgres/binaries.h"
#include "source/postgres/recovery.h"
#include "source/postgres/sandbox_process.h"

namespace kuramori::postgres {

constexpr Duration kSandboxOpenLimit = std::chrono::minutes(30);  // recovery may replay much WAL
constexpr Duration kSandboxStopLimit = std::chrono::seconds(60);
constexpr size_t kSandboxSocketPathMax = 90;   // bytes; the system's limit is 107 with ".s.PGSQL.5432"
constexpr size_t kSandboxLogTailBytes = 4096;  // of the server's log, in an error

// The folder of one sandbox, with a marker that tells a later run what to clean if this one is killed. Make
// it before the restore, and restore into data_directory(): then a kill at any moment leaves nothing for
// ever.
class SandboxFolder {
 public:
  // `parent`: where the restored copy has room; empty: $TMPDIR or /tmp. It belongs to `account`.
  static Result<SandboxFolder> make(const std::string& parent, Account account);
  SandboxFolder(SandboxFolder&& other) noexcept;
  SandboxFolder& operator=(SandboxFolder&&) = delete;
  ~SandboxFolder();  // removes everything it was told of

  const std::string& path() const { return path_; }
  std::string data_directory() const { return path_ + "/data"; }  // does not exist yet
  const std::string& socket_folder() const { return socket_folder_; }
  Account account() const { return account_; }
  // Also to be removed at the end (tablespaces that were put elsewhere).
  Result<void> also_remove(const std::string& path);
  Result<void> note_server(pid_t pid);

 private:
  SandboxFolder() = default;
  Result<void> write_marker() const;
  std::string path_, socket_folder_;
  Account account_;
  pid_t server_ = 0;
  std::vector<std::string> removals_;
};

struct SandboxOptions {
  Programs programs;
  std::string data_directory;            // restored and configured (configure_recovery)
  bool throw_away = true;                // nobody needs it after the sandbox: it need not be synced to disk
  std::string superuser = "postgres";    // of the cluster; known from the capture
  std::vector<std::string> tablespaces;  // their restored places
  std::vector<std::string> originals;    // the source's data directory and tablespaces: must not be reachable
  AtTarget action = AtTarget::kPromote;  // what "open" means: out of recovery, or paused at the target
  std::map<std::string, std::string> settings;  // more settings
  Duration open_limit = kSandboxOpenLimit;
};

class Sandbox {
 public:
  // Returns when the server takes queries in the state that `action` asks for. An error holds the tail of its
  // log.
  static Result<std::unique_ptr<Sandbox>> start(SandboxFolder folder, const SandboxOptions& options,
                                                Clock& clock);
  ~Sandbox();  // stops it at once and removes what is to be removed

  std::string connect(const std::string& database = "postgres") const;  // for libpq; the superuser
  pid_t pid() const { return pid_; }
  std::string log_tail() const;
  double seconds_to_open() const { return seconds_to_open_; }
  // Extensions' libraries that this machine lacks and the copy was therefore started without.
  const std::vector<std::string>& missing_libraries() const { return missing_libraries_; }
  // How it is kept apart, in words for the proof: "no network; /var/lib/postgresql/15/main hidden; …".
  const std::vector<std::string>& isolation() const { return isolation_; }
  Result<void> stop();  // a clean shutdown

 private:
  explicit Sandbox(SandboxFolder folder) : folder_(std::move(folder)) {}
  Result<void> wait_until_open(const SandboxOptions& options, Clock& clock);
  bool has_ended();  // reaps it
  void end();

  SandboxFolder folder_;
  std::string superuser_;
  pid_t pid_ = -1;
  double seconds_to_open_ = 0;
  std::vector<std::string> missing_libraries_, isolation_;
};

// Finds what killed runs left under `parent` — by their markers, and only if the process that made them is
// gone — ends their servers and removes their folders. Returns what was cleaned, for people. Call before a
// start.
Result<std::vector<std::string>> sweep_sandboxes(const std::string& parent = {});

}  // namespace kuramori::postgres
