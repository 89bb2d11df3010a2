#include "engine/sources.h"

#include <fmt/core.h>

#include "crypto/digest.h"
#include "engine/local_state.h"
#include "engine/open_vault.h"
#include "engine/vault_location.h"
#include "os/file.h"
#include "source/bucket/bucket_source.h"
#include "source/command/command.h"
#include "source/dump/conninfo.h"
#include "source/dump/dump.h"
#include "source/files/files_source.h"
#include "source/git/git_source.h"
#include "source/redis/redis_source.h"
#include "source/secret/secret.h"

namespace kuramori {
namespace {

std::string lines(std::string_view name, const std::vector<std::string>& values) {
  std::string out;
  for (const std::string& value : values) out += fmt::format("{}={}\n", name, value);
  return out;
}

OpenedSource open_files(const ResourceConfig& resource) {
  const FilesConfig& files = resource.files;
  files::FilesSettings settings{.paths = files.paths,
                                .include = files.include,
                                .exclude = files.exclude,
                                .one_filesystem = files.one_filesystem,
                                .hooks_before = files.hooks_before,
                                .hooks_after = files.hooks_after};
  if (files.snapshot == FilesConfig::Snapshot::kBtrfs) settings.snapshot = files::Snapshot::kBtrfs;
  if (files.snapshot == FilesConfig::Snapshot::kOff) settings.snapshot = files::Snapshot::kOff;
  return OpenedSource{.source = files::make_files_source(std::move(settings)),
                      .origin = fmt::format("host={}\n{}", host_name(), lines("path", files.paths))};
}

std::optional<Duration> length_of(const std::optional<Period>& period) {
  if (!period) return std::nullopt;
  const Time now = system_clock().now();
  return later(now, *period) - now;
}

using Environment = std::vector<std::pair<std::string, std::string>>;
Result<Environment> fetch_environment(const std::vector<EnvironmentVariable>& variables,
                                      const ConfigWorld& world) {
  Environment out;
  for (const EnvironmentVariable& variable : variables) {
    TRY_ASSIGN(std::string value, variable.value.fetch(world));
    out.emplace_back(variable.name, std::move(value));
  }
  return out;
}

Result<OpenedSource> open_command(const ResourceConfig& resource, const ConfigWorld& world,
                                  std::optional<uint64_t> bytes_before) {
  const CommandConfig& config = resource.command;
  command::CommandSettings settings{.run = config.run,
                                    .folder = config.folder,
                                    .restore = config.restore,
                                    .timeout = length_of(config.timeout),
                                    .bytes_before = bytes_before};
  TRY_ASSIGN(settings.environment, fetch_environment(config.environment, world));
  if (config.shrink_max) settings.shrink_max = *config.shrink_max;
  return OpenedSource{.source = command::make_source(std::move(settings)),
                      .origin = fmt::format("host={}\n{}", host_name(), lines("run", config.run))};
}

// Of a program that prints secrets not even its arguments are told.
Result<OpenedSource> open_secret(const ResourceConfig& resource, const ConfigWorld& world) {
  const SecretConfig& config = resource.secret;
  secret::SecretSettings settings{
      .paths = config.paths, .run = config.run, .environment = {}, .timeout = length_of(config.timeout)};
  TRY_ASSIGN(settings.environment, fetch_environment(config.environment, world));
  return OpenedSource{.source = secret::make_source(std::move(settings)),
                      .origin = fmt::format("host={}\n{}", host_name(), lines("path", config.paths))};
}

Result<OpenedSource> open_dump(const ResourceConfig& resource, const ConfigWorld& world) {
  const DumpConfig& config = resource.dump;
  dump::DumpSettings settings{.tables = config.tables};
  TRY_ASSIGN(settings.connect, resource.connect.fetch(world));
  TRY_ASSIGN(settings.password, config.password.fetch(world));
  if (!config.programs.empty()) settings.program_folders = {config.programs};
  if (config.timeout) settings.timeout = length_of(config.timeout);
  OpenedSource opened{.source = nullptr, .origin = fmt::format("host={}\n", host_name())};
  if (const auto conninfo = dump::Conninfo::parse(settings.connect))
    opened.origin += fmt::format("database={}\n", conninfo->describe());
  opened.origin += lines("table", config.tables);
  TRY_ASSIGN(opened.source, dump::open_dump(std::move(settings)));
  return opened;
}

Result<OpenedSource> open_redis(const ResourceConfig& resource, const ConfigWorld& world) {
  const RedisConfig& config = resource.redis;
  redis::RedisSettings settings{.ca_file = config.ca_file,
                                .cert_file = config.cert_file,
                                .key_file = config.tls_key_file,
                                .data_dir = config.data_dir,
                                .aof = config.append_only};
  TRY_ASSIGN(settings.connect, resource.connect.fetch(world));
  // Without a configuration a snapshot is restored or proven, and no server is asked for one.
  const bool is_bare = resource.line == 0 && settings.connect.empty();
  if (is_bare) settings.connect = "redis://127.0.0.1";
  TRY_ASSIGN(settings.password, config.password.fetch(world));
  if (config.capture == RedisConfig::Capture::kReplication) settings.way = redis::Way::kReplication;
  if (config.capture == RedisConfig::Capture::kSave) settings.way = redis::Way::kSave;
  OpenedSource opened{.source = nullptr, .origin = fmt::format("host={}\n", host_name())};
  if (const auto endpoint = redis::endpoint_of(settings))
    opened.origin += fmt::format("server={}\n", endpoint->describe());
  TRY_ASSIGN(opened.source, redis::open_redis(std::move(settings)));
  return opened;
}

Result<OpenedSource> open_bucket(const ResourceConfig& resource, const ConfigWorld& world) {
  // Without a configuration a snapshot is restored or proven, and no bucket is asked for one.
  const bool is_bare = resource.line == 0 && resource.bucket.at.empty();
  bucket::BucketSettings settings;
  if (!is_bare) {
    TRY_ASSIGN(settings, bucket_settings_of(resource, world));
  }
  return OpenedSource{.source = bucket::make_source(settings),
                      .origin = is_bare ? ""
                                        : fmt::format("host={}\nbucket={}\nendpoint={}\n", host_name(),
                                                      resource.bucket.at, settings.place.location.endpoint)};
}

Result<bucket::Place> place_of(const std::string& at, const StoreAccess& access, const std::string& whose,
                               const ConfigWorld& world) {
  bucket::Place place;
  TRY_ASSIGN(place.location, parse_s3_location(at));
  std::shared_ptr<const StoreKeys> keys;
  TRY_ASSIGN(place.location, reached_by(std::move(place.location), access, whose, world, keys));
  if (keys)
    place.keys =
        std::make_shared<bucket::AccessKeys>(bucket::AccessKeys{keys->access_key, keys->secret_key.clone()});
  // Values of the configuration are checked like typed ones.
  TRY(parse_s3_location(format_s3_location(place.location)));
  return place;
}

Result<OpenedSource> open_image(const ResourceConfig& resource, const ConfigWorld& world) {
  TRY_ASSIGN(image::ImageSettings settings, image_settings(resource, world));
  std::string origin =
      fmt::format("registry={}\n{}", resource.image.registry, lines("image", settings.images));
  TRY_ASSIGN(auto source, image::make_source(std::move(settings)));
  return OpenedSource{.source = std::move(source), .origin = std::move(origin)};
}

// A mirror is of one resource and one address: what is configured otherwise is mirrored anew, from the
// snapshot before.
std::string mirror_of(const ResourceConfig& resource, std::string_view url) {
  const Digest digest = sha256(as_bytes(fmt::format("{}\n{}", resource.name, url)));
  return join_path(join_path(state_folder(), "git"), digest.hex().substr(0, 24));
}

Result<OpenedSource> open_git(const ResourceConfig& resource, const ConfigWorld& world) {
  const GitConfig& config = resource.git;
  git::GitSettings settings{.user = config.user,
                            .ssh_key_file = config.ssh_key_file,
                            .known_hosts_file = config.known_hosts_file,
                            .ca_file = config.ca_file,
                            .lfs_url = config.lfs_url};
  if (config.lfs == GitConfig::Lfs::kOn) settings.lfs = git::LfsMode::kOn;
  if (config.lfs == GitConfig::Lfs::kOff) settings.lfs = git::LfsMode::kOff;
  if (const auto timeout = length_of(config.timeout)) settings.timeout = *timeout;
  TRY_ASSIGN(settings.url, config.url.fetch(world));
  TRY_ASSIGN(settings.password, config.password.fetch(world));
  if (config.webhook) {
    git::WebhookSettings& hook = settings.webhook.emplace();
    hook.listen = config.webhook->listen;
    if (!config.webhook->path.empty()) hook.path = config.webhook->path;
    TRY_ASSIGN(hook.secret, config.webhook->secret.fetch(world));
    hook.certificate_file = config.webhook->cert_file;
    hook.key_file = config.webhook->tls_key_file;
  }
  OpenedSource opened{.source = nullptr, .origin = fmt::format("host={}\n", host_name())};
  settings.mirror = mirror_of(resource, "");
  // Without a configuration a snapshot is restored or proven, and no remote is asked for one.
  if (resource.line != 0 || !settings.url.empty()) {
    TRY_ASSIGN(const git::Place place, git::place_of(settings));
    settings.mirror = mirror_of(resource, place.remote.url);
    opened.origin += fmt::format("remote={}\n", place.remote.url);
  }
  TRY_ASSIGN(opened.source, git::open_git(std::move(settings)));
  return opened;
}

}  // namespace

Result<bucket::BucketSettings> bucket_settings_of(const ResourceConfig& resource, const ConfigWorld& world) {
  const BucketConfig& config = resource.bucket;
  bucket::BucketSettings settings;
  TRY_ASSIGN(settings.place,
             place_of(config.at, config.access, fmt::format("resource \"{}\"", resource.name), world));
  if (config.versions == BucketConfig::Versions::kAll) settings.versions = bucket::Versions::kAll;
  if (config.versions == BucketConfig::Versions::kCurrent) settings.versions = bucket::Versions::kCurrent;
  settings.keep_versions = length_of(config.keep_versions);
  return settings;
}

Result<image::ImageSettings> image_settings(const ResourceConfig& resource, const ConfigWorld& world) {
  const ImageConfig& config = resource.image;
  image::ImageSettings settings{
      .registry = {.url = config.registry, .ca_file = config.ca_file, .insecure = config.insecure},
      .images = config.images,
      .platforms = config.platforms};
  TRY_ASSIGN(settings.registry.user, config.user.fetch(world));
  TRY_ASSIGN(settings.registry.password, config.password.fetch(world));
  // By name and place: two configurations on one machine may call different things the same.
  const Digest place = sha256(as_bytes(resource.name + "\n" + config.registry));
  if (!config.registry.empty()) {
    settings.cache_folder =
        join_path(join_path(state_folder(), "images"), to_hex(ByteView(place.raw).first(8)));
  }
  if (!config.replicate.to.empty()) {
    image::ReplicaSettings replica{.to = config.replicate.to,
                                   .ca_file = config.replicate.ca_file,
                                   .insecure = config.replicate.insecure};
    TRY_ASSIGN(replica.user, config.replicate.user.fetch(world));
    TRY_ASSIGN(replica.password, config.replicate.password.fetch(world));
    settings.replicate = std::move(replica);
  }
  settings.target_user = world.environment("KURAMORI_REGISTRY_USER").value_or("");
  settings.target_password = world.environment("KURAMORI_REGISTRY_PASSWORD").value_or("");
  return settings;
}

Result<bucket::ReplicateSettings> replicate_settings_of(const ResourceConfig& resource,
                                                        const ConfigWorld& world) {
  const std::string whose = fmt::format("resource \"{}\"", resource.name);
  if (!resource.bucket.replicate) {
    return fail(ErrorKind::kUsage, fmt::format("{} does not say where it is replicated to", whose), "",
                "add replicate: { to: s3://bucket/prefix, endpoint: https://… }");
  }
  const ReplicateConfig& config = *resource.bucket.replicate;
  bucket::ReplicateSettings settings{.mirror = config.mirror};
  TRY_ASSIGN(settings.from, place_of(resource.bucket.at, resource.bucket.access, whose, world));
  TRY_ASSIGN(settings.to, place_of(config.to, config.access, fmt::format("replicate of {}", whose), world));
  if (!config.storage_class.empty()) settings.to.location.storage_class = config.storage_class;
  if (!config.sse_kms_key.empty()) settings.to.location.sse_kms_key = config.sse_kms_key;
  if (config.delete_share) settings.delete_share = *config.delete_share;
  if (const auto every = length_of(config.every)) settings.every = *every;
  if (resource.processes) settings.workers = static_cast<unsigned>(*resource.processes);
  return settings;
}

Result<OpenedSource> open_source(const ResourceConfig& resource, const ConfigWorld& world,
                                 std::optional<uint64_t> bytes_before) {
  TRY(check_supported(resource));
  switch (resource.kind) {
    case ResourceKind::kFiles:
      return open_files(resource);
    case ResourceKind::kCommand:
      return open_command(resource, world, bytes_before);
    case ResourceKind::kDump:
      return open_dump(resource, world);
    case ResourceKind::kRedis:
      return open_redis(resource, world);
    case ResourceKind::kBucket:
      return open_bucket(resource, world);
    case ResourceKind::kSecret:
      return open_secret(resource, world);
    case ResourceKind::kImage:
      return open_image(resource, world);
    case ResourceKind::kGit:
      return open_git(resource, world);
    default:
      return fail(ErrorKind::kUsage, fmt::format("kind {} is no tree", name_of(resource.kind)));
  }
}

}  // namespace kuramori
