// What kuramori.yaml says of one resource: what every kind has, and one struct with what each kind has of its
// own. A key of another kind is refused: it would be taken and have no effect.
//
// A new kind: its struct here, its reader and its line in the table of resource_config.cc, its case in
// engine/sources.cc.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "policy/delete_budget.h"
#include "policy/key_lines.h"
#include "policy/limits.h"
#include "policy/schedule.h"
#include "policy/setting.h"
#include "policy/store_access.h"

namespace kuramori {

class MapReader;

enum class ResourceKind { kPostgres, kRedis, kFiles, kBucket, kDump, kCommand, kSecret, kGit, kImage, kAws };
std::string_view name_of(ResourceKind kind);
// kUsage: this program knows no such kind.
Result<ResourceKind> kind_named(std::string_view word);

struct PostgresConfig {
  // From its host's files, over the replication protocol, or whichever goes.
  enum class Capture : uint8_t { kAuto, kHost, kReplication } capture = Capture::kAuto;
};

struct FilesConfig {
  std::vector<std::string> paths;             // absolute
  std::vector<std::string> include, exclude;  // as in .gitignore
  bool one_filesystem = false;                // what is mounted below a path is not captured
  // From a snapshot of the filesystem where there can be one; of btrfs, or not at all; as it is read.
  enum class Snapshot : uint8_t { kAuto, kBtrfs, kOff } snapshot = Snapshot::kAuto;
  std::vector<std::string> hooks_before, hooks_after;
};

struct RedisConfig {
  Setting password;
  // Over the replication protocol, by BGSAVE, or whichever goes.
  enum class Capture : uint8_t { kAuto, kReplication, kSave } capture = Capture::kAuto;
  std::string ca_file, cert_file, tls_key_file;
  std::string data_dir;      // of the server, where it is on this machine
  bool append_only = false;  // its append-only files instead of an RDB
};

// One variable of a program's environment. Its value may be a secret.
struct EnvironmentVariable {
  std::string name;
  Setting value;
};

struct DumpConfig {
  std::vector<std::string> tables;  // none: the whole database
  Setting password;
  std::string programs;  // absolute: the folder of pg_dump and the others; "": wherever they are found
  std::optional<Period> timeout;
};

struct CommandConfig {
  std::vector<std::string> run;
  std::string folder;                // that `run` fills; "": its output counts
  std::vector<std::string> restore;  // the mirrored program
  std::optional<double> shrink_max;  // what share it may shrink by
  std::vector<EnvironmentVariable> environment;
  std::optional<Period> timeout;
};

struct SecretConfig {
  std::vector<std::string> paths;  // absolute
  std::vector<std::string> run;    // prints secrets
  std::vector<EnvironmentVariable> environment;
  std::optional<Period> timeout;
};

// Where a bucket is copied to, all the time.
struct ReplicateConfig {
  std::string to;  // s3://bucket/prefix
  StoreAccess access;
  std::string storage_class, sse_kms_key;
  bool mirror = true;                  // deletions are followed, within the budget
  std::optional<double> delete_share;  // of the target's objects, that may be deleted in a day
  std::optional<Period> every;         // between two looks
};

struct BucketConfig {
  std::string at;  // s3://bucket/prefix
  StoreAccess access;
  // Older versions too, where the bucket keeps them; all, or it is a failure; none.
  enum class Versions : uint8_t { kWhereKept, kAll, kCurrent } versions = Versions::kWhereKept;
  std::optional<Period> keep_versions;  // what is overwritten or deleted stays in the bucket for so long
  std::optional<ReplicateConfig> replicate;
};

struct ImageConfig {
  std::string registry;                // "https://registry.example"
  std::vector<std::string> images;     // "team/app", "team/api:v1", "base@sha256:…", "team/*"
  std::vector<std::string> platforms;  // "linux/amd64"; empty: all
  Setting user, password;
  std::string ca_file;
  bool insecure = false;  // plain HTTP to another machine
  // A second registry; `to` is "" where there is none.
  struct Replica {
    std::string to;
    Setting user, password;
    std::string ca_file;
    bool insecure = false;
  } replicate;
};

struct GitConfig {
  Setting url;  // it may hold a password
  std::string user;
  Setting password;
  std::string ssh_key_file, known_hosts_file, ca_file;
  enum class Lfs : uint8_t { kAuto, kOn, kOff } lfs = Lfs::kAuto;
  std::string lfs_url;
  std::optional<Period> timeout;
  // Where servers of git call when something was pushed.
  struct Webhook {
    std::string listen, path;
    Setting secret;
    std::string cert_file, tls_key_file;
  };
  std::optional<Webhook> webhook;
};

// When the resource's own host is at work on it: no backup begins or goes on then (S29).
struct MaintenanceConfig {
  Schedule schedule;  // when it begins
  std::string timezone;
  Period lasts;
};

struct ResourceConfig {
  std::string name;
  int line = 0;  // 0: no configuration speaks of it
  KeyLines lines;
  ResourceKind kind = ResourceKind::kPostgres;
  std::string site;  // where the original stands; "": where its plan's vault does
  std::string owner;
  std::string criticality;  // of criticality_words(); "" when it is not said
  std::string stage;        // "production", "staging": alike, but not the same
  // Objectives. mttr: what repairs take in the mean, where rto is the most one may.
  std::optional<Period> rpo, rto, mttr;
  std::vector<std::string> depends_on;  // resources that are restored before
  std::vector<MaintenanceConfig> maintenance;
  Limits limits;
  std::optional<int> processes;               // of limits: how many threads read
  std::optional<DeleteBudget> delete_budget;  // of limits: how many snapshots one prune may let go
  Setting connect;                            // to a server, of the kinds that have one

  PostgresConfig postgres;
  FilesConfig files;
  RedisConfig redis;
  DumpConfig dump;
  CommandConfig command;
  SecretConfig secret;
  BucketConfig bucket;
  ImageConfig image;
  GitConfig git;
};

constexpr int kCriticalities = 4;
// The lower, the earlier it is looked after: critical, high, medium, low, none.
int criticality_rank(const ResourceConfig& resource);
// "critical", "high", "medium", "low": the first is the most.
std::vector<std::string_view> criticality_words();
// 4 for critical down to 1 for low; 0 for what is not said.
int rank_of_criticality(std::string_view word);
// False: this program cannot tell when a resource of this kind changes (`every: change`).
bool tells_of_changes(const ResourceConfig& resource);

// "50%" or "0.5": from nothing to all.
Result<double> parse_share(std::string_view text);
// "50%", "2": also more than all, to a hundredfold.
Result<double> parse_growth(std::string_view text);

ResourceConfig read_resource(const std::string& name, MapReader& map);

// kUsage "kind aws is not supported yet" for what this program cannot back up or restore.
Result<void> check_supported(const ResourceConfig& resource);

}  // namespace kuramori
