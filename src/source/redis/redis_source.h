// One kind of resource: a Redis or Valkey server, 6 to 8. Its snapshot is a tree of one file, dump.rdb, or
// the append-only files of its folder.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "source/redis/connection.h"
#include "source/source.h"

namespace kuramori::redis {

enum class Way : uint8_t {
  kAuto,         // over the replication protocol; where that is forbidden and data_dir is given, by BGSAVE
  kReplication,  // no file of the server is touched
  kSave,         // BGSAVE, and its dump.rdb from data_dir
};

struct RedisSettings {
  std::string connect;                       // a URL as of url.h
  std::string password;                      // instead of one in the URL
  std::string ca_file, cert_file, key_file;  // of TLS, instead of those in the URL
  Way way = Way::kAuto;
  std::string data_dir;                      // the server's folder, where it is on this machine
  bool aof = false;                          // the append-only files in data_dir instead of an RDB
  std::vector<std::string> program_folders;  // where server programs stand, looked at before PATH
};

// kUsage for settings that cannot be meant. Connects to nothing yet.
//
// The rights a snapshot needs, and no more:
//   ACL SETUSER kuramori on >… resetchannels -@all +psync +replconf +ping +info
//   … capture: save    +bgsave +info +config|get
//   … doctor       +info +config|get
Result<std::unique_ptr<Source>> open_redis(RedisSettings settings);

// --- what its parts share ------------------------------------------------------------------------------

constexpr std::string_view kDumpName = "dump.rdb";
constexpr std::string_view kAofFolder = "appendonlydir";  // in the tree, whatever the server calls it

// The address with what was given beside it.
Result<Endpoint> endpoint_of(const RedisSettings& settings);

Result<std::unique_ptr<TreeCapture>> capture_rdb(const RedisSettings& settings, Reporter& reporter,
                                                 std::stop_token stop);
Result<std::unique_ptr<TreeCapture>> capture_aof(const RedisSettings& settings, Reporter& reporter,
                                                 std::stop_token stop);
Result<SourceRestoreOutcome> restore_redis(const RedisSettings& settings, const CapturedTree& tree,
                                           const SourceRestoreRequest& request, Reporter& reporter,
                                           std::stop_token stop);
Result<std::vector<CheckResult>> drill_redis(const RedisSettings& settings, const CapturedTree& tree,
                                             const std::string& sandbox, Reporter& reporter,
                                             std::stop_token stop);
Result<std::vector<SourceFinding>> examine_redis(const RedisSettings& settings);
// The server program that drills and restores start; by the server's version, if it answers.
std::vector<SourceClient> needed_clients(const RedisSettings& settings);

}  // namespace kuramori::redis
