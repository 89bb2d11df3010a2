// A snapshot by BGSAVE, for servers that let nobody replicate: the server writes its dump.rdb, we wait until
// that one is there, and read it from the server's own folder.
#pragma once
#include <stop_token>
#include <string>

#include "base/reporter.h"
#include "os/file.h"
#include "source/redis/connection.h"

namespace kuramori::redis {

constexpr Duration kSaveLimit = std::chrono::hours(2);  // until the server has saved

// Has the server save, and opens the file it wrote: the open file stays that one whatever replaces it later.
// `data_dir` is the server's folder on this machine. kDenied names the right that is missing. kFailed: saving
// failed, or the file that changed is not here. kUnknown: it took longer than `limit`.
Result<Fd> save_and_open(Connection& connection, const std::string& data_dir, Reporter& reporter,
                         std::stop_token stop, Duration limit = kSaveLimit);

// A setting of the server; "" when it may not be asked for, or is not known.
std::string setting_of(Connection& connection, const std::string& name);

}  // namespace kuramori::redis
