#include "policy/resource_config.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "policy/config_reader.h"

namespace kuramori {
namespace {

constexpr int kProcessesMax = 256;

constexpr double kGrowthMax = 100;

// A share of at most `most`.
Result<double> parse_share_to(std::string_view text, double most, std::string_view example) {
  const bool percent = text.ends_with('%');
  const std::string number(percent ? text.substr(0, text.size() - 1) : text);
  char* end = nullptr;
  const double value = std::strtod(number.c_str(), &end) / (percent ? 100 : 1);
  if (number.empty() || *end != '\0' || !(value >= 0 && value <= most))
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no share", text.substr(0, 20)), "",
                fmt::format("write {}", example));
  return value;
}

std::vector<std::string> read_paths(MapReader& map) {
  std::vector<std::string> paths;
  for (const std::string& path : map.words("paths")) paths.push_back(map.state().absolute(path));
  return paths;
}

// environment: { NAME: value, OTHER_file: path }.
std::vector<EnvironmentVariable> read_environment(MapReader& map) {
  std::vector<EnvironmentVariable> out;
  auto environment = map.map("environment");
  if (!environment) return out;
  environment->take_any_key();
  for (const std::string& name : environment->setting_names())
    out.push_back({name, environment->setting(name)});
  environment->done();
  return out;
}

// --- what each kind has of its own -------------------------------------------------------------------

void read_postgres(MapReader& map, ResourceConfig& resource) {
  using Capture = PostgresConfig::Capture;
  resource.connect = map.setting("connect");
  const std::string word = map.choice("capture", {"auto", "host", "replication"});
  if (word == "host") resource.postgres.capture = Capture::kHost;
  if (word == "replication") resource.postgres.capture = Capture::kReplication;
}

void read_redis(MapReader& map, ResourceConfig& resource) {
  using Capture = RedisConfig::Capture;
  resource.connect = map.setting("connect");
  RedisConfig& redis = resource.redis;
  const std::string word = map.choice("capture", {"auto", "replication", "save"});
  if (word == "replication") redis.capture = Capture::kReplication;
  if (word == "save") redis.capture = Capture::kSave;
  redis.password = map.setting("password");
  redis.ca_file = map.path("ca_file");
  redis.cert_file = map.path("cert_file");
  redis.tls_key_file = map.path("tls_key_file");
  redis.data_dir = map.path("data_dir");
  redis.append_only = map.is_yes("aof");
}

void read_files(MapReader& map, ResourceConfig& resource) {
  FilesConfig& files = resource.files;
  files.paths = read_paths(map);
  files.include = map.words("include");
  files.exclude = map.words("exclude");
  files.one_filesystem = map.is_yes("one_filesystem");
  const std::string snapshot = map.choice("snapshot", {"auto", "btrfs", "off"});
  if (snapshot == "btrfs") files.snapshot = FilesConfig::Snapshot::kBtrfs;
  if (snapshot == "off") files.snapshot = FilesConfig::Snapshot::kOff;
  if (auto hooks = map.map("hooks")) {
    files.hooks_before = hooks->words("before");
    files.hooks_after = hooks->words("after");
    hooks->done();
  }
}

void read_dump(MapReader& map, ResourceConfig& resource) {
  resource.connect = map.setting("connect");
  DumpConfig& dump = resource.dump;
  dump.tables = map.words("tables");
  dump.password = map.setting("password");
  dump.programs = map.path("programs");
  dump.timeout = map.period("timeout");
}

void read_command(MapReader& map, ResourceConfig& resource) {
  CommandConfig& command = resource.command;
  command.run = map.words("run");
  command.folder = map.path("folder");
  command.restore = map.words("restore");
  command.shrink_max = map.read_as("shrink_max", parse_share);
  command.environment = read_environment(map);
  command.timeout = map.period("timeout");
}

void read_secret(MapReader& map, ResourceConfig& resource) {
  SecretConfig& secret = resource.secret;
  secret.paths = read_paths(map);
  secret.run = map.words("run");
  secret.environment = read_environment(map);
  secret.timeout = map.period("timeout");
}

void read_bucket(MapReader& map, ResourceConfig& resource) {
  using Versions = BucketConfig::Versions;
  BucketConfig& bucket = resource.bucket;
  bucket.at = map.text("at");
  if (bucket.at.empty() && !map.state().error)
    map.state().fail_at(map.line(), fmt::format("{} does not say where it is", map.where()), {},
                        "add at: s3://bucket/prefix");
  bucket.access = read_store_access(map);
  const std::string word = map.choice("versions", {"all", "current"});
  if (word == "all") bucket.versions = Versions::kAll;
  if (word == "current") bucket.versions = Versions::kCurrent;
  bucket.keep_versions = map.period("keep_versions");
  auto replicate = map.map("replicate");
  if (!replicate) return;
  ReplicateConfig& to = bucket.replicate.emplace();
  to.to = replicate->text("to");
  if (to.to.empty() && !map.state().error)
    map.state().fail_at(replicate->line(), fmt::format("{} does not say where to", replicate->where()), {},
                        "add to: s3://bucket/prefix");
  to.access = read_store_access(*replicate);
  to.storage_class = replicate->text("class");
  if (auto sse = replicate->map("sse")) {
    to.sse_kms_key = sse->text("kms");
    sse->done();
  }
  to.mirror = replicate->choice("delete", {"mirror", "keep"}) != "keep";
  to.delete_share = replicate->read_as("delete_budget", parse_share);
  to.every = replicate->period("every");
  replicate->done();
}

void read_image(MapReader& map, ResourceConfig& resource) {
  ImageConfig& image = resource.image;
  image.registry = map.text("registry");
  image.images = map.words("images");
  image.platforms = map.words("platforms");
  image.user = map.setting("user");
  image.password = map.setting("password");
  image.ca_file = map.path("ca_file");
  image.insecure = map.is_yes("insecure");
  if (auto replica = map.map("replicate")) {
    image.replicate.to = replica->text("to");
    image.replicate.user = replica->setting("user");
    image.replicate.password = replica->setting("password");
    image.replicate.ca_file = replica->path("ca_file");
    image.replicate.insecure = replica->is_yes("insecure");
    if (image.replicate.to.empty())
      map.state().fail_at(replica->line(), fmt::format("{} replicates to nowhere", map.where()), {},
                          "add to: docker://HOST:PORT/PREFIX");
    replica->done();
  }
}

void read_git(MapReader& map, ResourceConfig& resource) {
  GitConfig& git = resource.git;
  if (map.given_as("url").empty() && !map.state().error)
    map.state().fail_at(map.line(), fmt::format("{} does not say where it is", map.where()), {},
                        "add url: https://host/path.git");
  git.url = map.setting("url");
  git.user = map.text("user");
  git.password = map.setting("password");
  git.ssh_key_file = map.path("ssh_key_file");
  git.known_hosts_file = map.path("known_hosts_file");
  git.ca_file = map.path("ca_file");
  git.lfs_url = map.text("lfs_url");
  git.timeout = map.period("timeout");
  const std::string lfs = map.choice("lfs", {"auto", "true", "false"});
  if (lfs == "true") git.lfs = GitConfig::Lfs::kOn;
  if (lfs == "false") git.lfs = GitConfig::Lfs::kOff;
  auto webhook = map.map("webhook");
  if (!webhook) return;
  GitConfig::Webhook& hook = git.webhook.emplace();
  hook.listen = webhook->text("listen");
  hook.path = webhook->text("path");
  hook.secret = webhook->setting("secret");
  hook.cert_file = webhook->path("cert_file");
  hook.tls_key_file = webhook->path("tls_key_file");
  if (hook.listen.empty() && !map.state().error)
    map.state().fail_at(webhook->line(), fmt::format("{} does not say where it listens", webhook->where()),
                        {}, "add listen: \"127.0.0.1:8787\"");
  if (!hook.secret.is_set() && !map.state().error)
    map.state().fail_at(webhook->line(), fmt::format("{} has no secret", webhook->where()),
                        "anybody who reaches it could call it", "add secret_file: /etc/kuramori/hook.secret");
  webhook->done();
}

struct KindReader {
  ResourceKind kind;
  std::string_view word;
  // The keys of its own. Listed so that a resource of another kind that has one is told so.
  std::vector<std::string_view> keys;
  void (*read)(MapReader&, ResourceConfig&) = nullptr;  // null: this program cannot protect it yet
};

const std::vector<KindReader>& kinds() {
  using enum ResourceKind;
  static const std::vector<KindReader> all = {
      {kPostgres, "postgres", {"connect", "capture"}, read_postgres},
      {kRedis,
       "redis",
       {"connect", "capture", "password", "ca_file", "cert_file", "tls_key_file", "data_dir", "aof"},
       read_redis},
      {kFiles, "files", {"paths", "include", "exclude", "one_filesystem", "snapshot", "hooks"}, read_files},
      {kBucket,
       "bucket",
       {"at", "endpoint", "region", "ca_file", "credentials", "versions", "keep_versions", "replicate"},
       read_bucket},
      {kDump, "dump", {"connect", "tables", "password", "programs", "timeout"}, read_dump},
      {kCommand,
       "command",
       {"run", "folder", "restore", "shrink_max", "environment", "timeout"},
       read_command},
      {kSecret, "secret", {"paths", "run", "environment", "timeout"}, read_secret},
      {kImage,
       "image",
       {"registry", "images", "platforms", "user", "password", "ca_file", "insecure", "replicate"},
       read_image},
      {kGit,
       "git",
       {"url", "user", "password", "ssh_key_file", "known_hosts_file", "ca_file", "lfs", "lfs_url", "timeout",
        "webhook"},
       read_git},
      {kAws, "aws", {}},
  };
  return all;
}

const KindReader& reader_of(ResourceKind kind) {
  for (const KindReader& one : kinds())
    if (one.kind == kind) return one;
  return kinds().front();
}

ResourceKind read_kind(MapReader& map) {
  if (!map.find("kind")) {
    map.state().fail_at(map.line(), fmt::format("{} has no kind", map.where()), {}, "add kind: postgres");
    return ResourceKind::kPostgres;
  }
  std::vector<std::string_view> words;
  for (const KindReader& kind : kinds()) words.push_back(kind.word);
  const std::string word = map.choice("kind", words);
  for (const KindReader& kind : kinds())
    if (kind.word == word) return kind.kind;
  return ResourceKind::kPostgres;
}

// Elsewhere such a key would be taken and have no effect.
void refuse_keys_of_others(MapReader& map, const KindReader& own) {
  for (const KindReader& other : kinds()) {
    for (const std::string_view key : other.keys) {
      if (std::ranges::count(own.keys, key) != 0) continue;
      const std::string given = map.given_as(key);
      if (given.empty()) continue;
      map.state().fail_at(map.line(),
                          fmt::format("{} is of kind {} and has {}", map.where(), own.word, given),
                          fmt::format("it belongs to kind {}", other.word), fmt::format("remove {}", given));
      return;
    }
  }
}

// What every kind has.
void read_common(MapReader& map, ResourceConfig& resource) {
  resource.site = map.text("site");
  resource.owner = map.text("owner");
  resource.criticality = map.choice("criticality", criticality_words());
  resource.stage = map.text("stage");
  resource.depends_on = map.words("depends_on");
  if (auto objectives = map.map("objectives")) {
    resource.rpo = objectives->period("rpo");
    resource.rto = objectives->period("rto");
    resource.mttr = objectives->period("mttr");
    objectives->done();
  }
  map.each("maintenance", "a window", "{ schedule: \"0 17 * * SUN\", lasts: 1h }", [&](MapReader& window) {
    const auto schedule = window.read_as("schedule", parse_schedule);
    const std::string zone = window.zone("timezone");
    const auto lasts = window.period("lasts");
    resource.maintenance.push_back({schedule.value_or(Schedule{}), zone, lasts.value_or(Period{})});
    if (!schedule || !lasts || !lasts->is_exact())
      map.state().fail_at(window.line(), fmt::format("{} needs schedule and lasts", window.where()),
                          "lasts has a fixed length", "write - { schedule: \"0 17 * * SUN\", lasts: 1h }");
  });
  if (auto limits = map.map("limits")) {
    resource.limits.read = limits->rate("read");
    resource.limits.network = limits->read_as("network", parse_network_rate);
    resource.limits.cpu = limits->read_as("cpu", parse_cpu_share);
    resource.limits.nice = limits->read_as("nice", parse_nice);
    resource.limits.io = limits->read_as("io", parse_io_priority);
    resource.processes = limits->count("processes", 1, kProcessesMax);
    resource.delete_budget = limits->read_as("delete", parse_delete_budget);
    limits->done();
  }
}

// The keys of every kind, each kind by itself.
void describe_kinds(MapReader& map) {
  for (const KindReader& kind : kinds()) {
    MapReader variant = map.variant("kind", kind.word);
    ResourceConfig ignored;
    variant.choice("kind", {kind.word});
    read_common(variant, ignored);
    if (kind.read)
      kind.read(variant, ignored);
    else
      variant.take_any_key();
  }
}

}  // namespace

std::string_view name_of(ResourceKind kind) {
  return reader_of(kind).word;
}

Result<ResourceKind> kind_named(std::string_view word) {
  for (const KindReader& kind : kinds())
    if (kind.word == word) return kind.kind;
  return fail(ErrorKind::kUsage, fmt::format("kind {} is not known to this program", word),
              "a newer one made this snapshot", "use the program that made it");
}

std::vector<std::string_view> criticality_words() {
  return {"critical", "high", "medium", "low"};
}

int rank_of_criticality(std::string_view word) {
  const auto words = criticality_words();
  const auto found = std::ranges::find(words, word);
  return static_cast<int>(words.end() - found);
}

bool tells_of_changes(const ResourceConfig& resource) {
  if (resource.kind == ResourceKind::kSecret) return !resource.secret.paths.empty();
  return resource.kind == ResourceKind::kFiles || resource.kind == ResourceKind::kGit;
}

Result<double> parse_share(std::string_view text) {
  return parse_share_to(text, 1, "50%");
}

Result<double> parse_growth(std::string_view text) {
  return parse_share_to(text, kGrowthMax, "50%, or 200% for three times as much");
}

ResourceConfig read_resource(const std::string& name, MapReader& map) {
  ResourceConfig resource;
  resource.name = name;
  resource.line = map.line();
  resource.lines = map.lines();
  if (map.describing()) return describe_kinds(map), resource;
  resource.kind = read_kind(map);
  const KindReader& kind = reader_of(resource.kind);
  refuse_keys_of_others(map, kind);
  read_common(map, resource);
  if (!kind.read) return resource;  // its keys are not known here: nothing is said of them
  kind.read(map, resource);
  map.done();
  return resource;
}

int criticality_rank(const ResourceConfig& resource) {
  return static_cast<int>(criticality_words().size()) - rank_of_criticality(resource.criticality);
}

Result<void> check_supported(const ResourceConfig& resource) {
  std::string known;
  for (const KindReader& kind : kinds()) {
    if (!kind.read) continue;
    if (kind.kind == resource.kind) return {};
    known += fmt::format("{}{}", known.empty() ? "" : ", ", kind.word);
  }
  return fail(
      ErrorKind::kUsage,
      fmt::format("resource \"{}\": kind {} is not supported yet", resource.name, name_of(resource.kind)),
      fmt::format("this version protects {}", known));
}

}  // namespace kuramori
