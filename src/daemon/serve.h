// The daemon's socket: who may connect has WAL archived and fetched. What else a daemon does (job_loop.h) is
// told of its beginning and end by hooks.
#pragma once
#include <functional>
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
  struct Hooks {
    std::function<void()> listening;   // nobody else listens there, from now on
    std::function<void()> hang_up;     // SIGHUP came; without this hook it asks to stop
    std::function<bool()> is_applied;  // a configuration was, since it was last asked: as if SIGHUP came
    std::function<void()> stopping;
    std::function<bool()> is_alive;  // all of the daemon, for the service manager's watchdog
  } hooks;
};
// Until `stop` asks: then nobody new is served, and who waits is answered first. A vault that cannot be
// opened is told and tried again when it is needed; kUsage where none can be, and each for what is
// configured.
Result<void> serve(ServedVaults& vaults, const ServeRequest& request, Reporter& reporter,
                   std::stop_token stop);

}  // namespace kuramori
