// A snapshot over the replication protocol: we ask as a new replica would, and keep what the server sends it
// first, an RDB of one moment. Needs no file of the server and leaves nothing behind there.
//
// The server forks and writes from the fork, so the RDB is the data set at the replication offset it names.
// While it gets ready it sends empty lines, so silence means that it is gone. It sends the RDB with its
// length before it, or (repl-diskless-sync) between two copies of a mark. We do not look for the mark: the
// RDB says itself where it ends.
#pragma once
#include <functional>
#include <stop_token>
#include <string>

#include "base/reporter.h"
#include "source/redis/connection.h"
#include "source/redis/rdb.h"

namespace kuramori::redis {

constexpr Duration kSilenceLimit = std::chrono::seconds(60);     // without a byte, a server is taken for gone
constexpr Duration kReadyLimit = std::chrono::hours(1);          // until it starts to send
constexpr Duration kAcknowledgeEvery = std::chrono::seconds(1);  // we say that we are there

struct RdbTransfer {
  std::string replication_id;  // 40 characters
  uint64_t offset = 0;         // the data set is that of this position
  bool diskless = false;
};

// Takes the RDB as it comes; `take` is given its bytes, and `reader` has judged them before. On success the
// reader is at_end(). kDenied: the server or its ACL forbids it; `next` is the line to type. kUnknown: it was
// not ready in time, or went silent. The connection is of no further use.
Result<RdbTransfer> stream_rdb(Connection& connection, RdbReader& reader,
                               const std::function<Result<void>(ByteView)>& take, Reporter& reporter,
                               std::stop_token stop);

}  // namespace kuramori::redis
