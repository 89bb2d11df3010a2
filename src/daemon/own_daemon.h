// Recovery without a daemon: the first `wal get` leaves one of its own beside the folder of its segments,
// which fetches ahead for those that follow, and ends when nobody has asked for a while. It keeps what it
// fetched in files without a name (fetcher.h): when it ends, or is killed, nothing of it is left but a lock
// file.
#pragma once
#include <chrono>
#include <optional>
#include <string>

#include "base/world.h"
#include "daemon/wal_client.h"

namespace kuramori {

constexpr std::chrono::seconds kOwnDaemonIdleMax = std::chrono::seconds(30);

// Where it listens for who wants a segment at `path`: in the server's pg_wal. "": none for this path, or the
// words name a daemon or "off".
std::string own_daemon_socket(const DaemonWords& words, const std::string& path);
// Best effort, and returns at once. `words`: what it is to serve.
void start_own_daemon(const DaemonWords& words, const std::string& socket);
// What start_own_daemon() told this process, if it was started so.
std::optional<Duration> own_daemon_idle();

}  // namespace kuramori
