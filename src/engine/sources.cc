#include "engine/sources.h"

#include <fmt/core.h>

#include "engine/open_vault.h"
#include "source/files/files_source.h"

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

}  // namespace

Result<OpenedSource> open_source(const ResourceConfig& resource, const ConfigWorld&) {
  TRY(check_supported(resource));
  switch (resource.kind) {
    case ResourceKind::kFiles:
      return open_files(resource);
    default:
      return fail(ErrorKind::kUsage, fmt::format("kind {} is no tree", name_of(resource.kind)));
  }
}

}  // namespace kuramori
