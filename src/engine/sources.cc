#include "engine/sources.h"

#include <fmt/core.h>

#include "engine/open_vault.h"
#include "source/command/command.h"
#include "source/files/files_source.h"
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

}  // namespace

Result<OpenedSource> open_source(const ResourceConfig& resource, const ConfigWorld& world,
                                 std::optional<uint64_t> bytes_before) {
  TRY(check_supported(resource));
  switch (resource.kind) {
    case ResourceKind::kFiles:
      return open_files(resource);
    case ResourceKind::kCommand:
      return open_command(resource, world, bytes_before);
    case ResourceKind::kRedis:
      return open_redis(resource, world);
    case ResourceKind::kSecret:
      return open_secret(resource, world);
    default:
      return fail(ErrorKind::kUsage, fmt::format("kind {} is no tree", name_of(resource.kind)));
  }
}

}  // namespace kuramori
