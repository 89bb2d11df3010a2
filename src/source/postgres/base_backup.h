// BASE_BACKUP over the replication protocol, PostgreSQL 13 to 18: what the server sends, taken apart into
// archives, the manifest and where the backup begins and ends. From 15 on all of it comes in one stream of
// typed messages; before, in one stream a tablespace and one for the manifest. One connection, one thread.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

struct BaseBackupOptions {
  std::string label;
  uint64_t bytes_per_second = 0;  // 0: no limit
  bool fast_checkpoint = true;
  // With tablespace_map as a file, and nothing of pg_tblspc in the data directory's archive; without, the
  // links are there instead, and so is a tablespace in place, which before 16 has no archive of its own.
  bool tablespace_map = true;
  // From 17 on: gives `send` the manifest of what to build on, in order, for an incremental backup. Not set:
  // everything is sent.
  using Send = std::function<Result<void>(std::string_view text)>;
  std::function<Result<void>(const Send& send)> older_manifest;
};

struct BackupTablespace {
  uint32_t oid = 0;  // 0: the data directory itself
  std::string path;
  uint64_t bytes = 0;  // as the server estimates it
};

// What came. `bytes` lives until the next receive().
struct BackupMessage {
  enum class Kind : uint8_t {
    kArchive,   // of `tablespace` begins; the one before has ended
    kData,      // of that archive
    kManifest,  // of the manifest; the last archive has ended
    kEnd,       // all has come; `end` holds
  };
  Kind kind = Kind::kEnd;
  uint32_t tablespace = 0;
  ByteView bytes;
};

struct BackupBounds {
  uint64_t system_id = 0;
  Lsn start = 0, stop = 0;
  Timeline timeline = 0, stop_timeline = 0;
  bool checksums_failed = false;  // the server found damaged pages, and sent them
};

class BaseBackup {
 public:
  // Returns when the checkpoint is made from which recovery will begin. kInterrupted when `stop` is asked
  // for.
  static Result<BaseBackup> begin(const std::string& connect, uint32_t server_version,
                                  const BaseBackupOptions& options, std::stop_token stop);
  BaseBackup(BaseBackup&&) noexcept;
  ~BaseBackup();

  const BackupBounds& bounds() const;  // stop and stop_timeline after kEnd
  const std::vector<BackupTablespace>& tablespaces() const;
  Result<BackupMessage> receive(const std::stop_token& stop);

 private:
  struct State;
  explicit BaseBackup(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The command, for a server of this version.
std::string base_backup_command(uint32_t server_version, const BaseBackupOptions& options);

}  // namespace kuramori::postgres
