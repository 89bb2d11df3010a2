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
  files::FilesSettings settings{.paths = resource.paths,
                                .include = resource.include,
                                .exclude = resource.exclude,
                                .one_filesystem = resource.one_filesystem,
                                .hooks_before = resource.hooks_before,
                                .hooks_after = resource.hooks_after};
  return OpenedSource{.source = files::make_files_source(std::move(settings)),
                      .origin = fmt::format("host={}\n{}", host_name(), lines("path", resource.paths))};
}

std::optional<Duration> timeout_of(const ResourceConfig& resource, Time now) {
  if (!resource.timeout) return std::nullopt;
  return later(now, *resource.timeout) - now;
}

OpenedSource open_command(const ResourceConfig& resource, std::optional<uint64_t> bytes_before) {
  command::CommandSettings settings{.run = resource.run,
                                    .folder = resource.folder,
                                    .restore = resource.restore,
                                    .timeout = timeout_of(resource, system_clock().now()),
                                    .bytes_before = bytes_before};
  if (resource.shrink_max) settings.shrink_max = *resource.shrink_max;
  return {.source = command::make_source(std::move(settings)),
          .origin = fmt::format("host={}\n{}", host_name(), lines("run", resource.run))};
}

// Of a program that prints secrets not even its arguments are told.
OpenedSource open_secret(const ResourceConfig& resource) {
  return {.source = secret::make_source({.paths = resource.paths,
                                         .run = resource.run,
                                         .environment = {},
                                         .timeout = timeout_of(resource, system_clock().now())}),
          .origin = fmt::format("host={}\n{}", host_name(), lines("path", resource.paths))};
}

Result<OpenedSource> open_redis(const ResourceConfig& resource, const ConfigWorld& world) {
  redis::RedisSettings settings{.ca_file = resource.ca_file,
                                .cert_file = resource.cert_file,
                                .key_file = resource.tls_key_file,
                                .data_dir = resource.data_dir,
                                .aof = resource.append_only};
  TRY_ASSIGN(settings.connect, resource.connect.fetch(world));
  // Without a configuration a snapshot is restored or proven, and no server is asked for one.
  const bool is_bare = resource.line == 0 && settings.connect.empty();
  if (is_bare) settings.connect = "redis://127.0.0.1";
  TRY_ASSIGN(settings.password, resource.password.fetch(world));
  if (resource.capture == ResourceConfig::Capture::kReplication) settings.way = redis::Way::kReplication;
  if (resource.capture == ResourceConfig::Capture::kSave) settings.way = redis::Way::kSave;
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
      return open_command(resource, bytes_before);
    case ResourceKind::kRedis:
      return open_redis(resource, world);
    case ResourceKind::kSecret:
      return open_secret(resource);
    default:
      return fail(ErrorKind::kUsage, fmt::format("kind {} is no tree", name_of(resource.kind)));
  }
}

}  // namespace kuramori
