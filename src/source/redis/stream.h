// A connection to a server as a stream of bytes: TCP, a Unix socket, or TLS over TCP. Never waits longer than
// told.
#pragma once
#include <memory>
#include <stop_token>

#include "base/bytes.h"
#include "base/error.h"
#include "base/world.h"
#include "source/redis/url.h"

namespace kuramori::redis {

// One thread at a time.
class Stream {
 public:
  virtual ~Stream() = default;
  // kFailed, kDenied: nobody listens, the certificate is not believed, in words. kUnknown: no answer within
  // `limit`. kInterrupted: `stop`, which the stream also heeds later.
  static Result<std::unique_ptr<Stream>> connect(const Endpoint& endpoint, Duration limit,
                                                 std::stop_token stop);

  // As much as is there, at least a byte; 0: the server closed. kUnknown: nothing came within `limit`.
  virtual Result<size_t> read(MutableByteView into, Duration limit) = 0;
  // All of it. kUnknown: the server did not take it within `limit`.
  virtual Result<void> write(ByteView bytes, Duration limit) = 0;
};

}  // namespace kuramori::redis
