#include "engine/reading.h"

#include <fmt/core.h>

#include "engine/open_vault.h"

namespace kuramori {

ReaderOptions reader_of(const ResourceId& resource, std::vector<std::string> commits) {
  return {.resource = resource,
          .commits = std::move(commits),
          .host = host_name(),
          .without_right = ReaderOptions::WithoutRight::kReadUnprotected};
}

Result<RenewedReading> read_for_long(const Protocol& protocol, const Snapshot& snapshot, Reporter& reporter) {
  return RenewedReading::begin(
      protocol, reader_of(snapshot.commit.resource, {snapshot.commit_name}), [&reporter](const Error& error) {
        reporter.warning(fmt::format("the snapshot may be collected while it is read: {}", error.what));
      });
}

}  // namespace kuramori
