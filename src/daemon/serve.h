// The daemon: it listens on a socket, and who may connect has WAL archived and fetched by it. Here it does no
// more than this.
#pragma once
#include <optional>
#include <stop_token>

#include "base/reporter.h"
#include "daemon/served_vaults.h"

namespace kuramori {

constexpr size_t kConnectionsMax = 64;
constexpr Duration kRequestTimeMax = std::chrono::seconds(5);  // from connecting to the whole request

struct ServeRequest {
  std::string socket;
  std::optional<gid_t> group;        // whose members may connect, besides its own user and root
  std::optional<Duration> idle_max;  // ends when nobody has asked for so long
};
// Until `stop` asks: then nobody new is served, and who waits is answered first. A vault that cannot be
// opened is told and tried again when it is needed.
Result<void> serve(ServedVaults& vaults, const ServeRequest& request, Reporter& reporter,
                   std::stop_token stop);

}  // namespace kuramori
