// The client's half: what `wal push` and `wal get` do before they do the work themselves. The small static
// program links this: no configuration is read.
#pragma once
#include <optional>
#include <string>

#include "daemon/wal_protocol.h"

namespace kuramori {

// Silence for so long means that the daemon stands still: the client does the work itself.
constexpr Duration kDaemonSilenceMax = std::chrono::seconds(30);

struct DaemonWords {
  std::string socket;  // "": the usual places; "off": none
  // As typed; "" where they were not.
  std::string vault, key_file, config, resource, promise;
};

// An answer, or why there is none: then the caller does it himself.
template <class T>
struct DaemonSaid {
  std::optional<T> answer;
  std::string trouble;  // worth telling; "" when there is no daemon to be asked
};

// `path` as PostgreSQL gives it: relative to the working folder, the data directory.
DaemonSaid<Result<WalPushOutcome>> push_through_daemon(const DaemonWords& words, const std::string& path);
// The file stands at `path` when the decision says kFound.
DaemonSaid<postgres::GetDecision> get_through_daemon(const DaemonWords& words, const std::string& name,
                                                     const std::string& path);
// --socket, else KURAMORI_SOCKET, else /run/kuramori/kuramori.sock.
std::string socket_path(const std::string& given);
// By which client and daemon name one file alike: links followed; what cannot be looked at only made
// absolute.
std::string real_path(const std::string& path);

}  // namespace kuramori
