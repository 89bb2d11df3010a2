// `kuramori wal stream`: a server's WAL into a vault as it is written, acknowledged when it is durable there.
#pragma once
#include <functional>
#include <stop_token>
#include <string>

#include "base/reporter.h"
#include "engine/wal_sink.h"
#include "vault/vault.h"

namespace kuramori {

constexpr Duration kStreamFlush = std::chrono::seconds(1);
constexpr uint64_t kSlotWarnBytes = 10ull << 30;

// How it stands, about once a second.
struct WalStreamState {
  bool connected = false;
  std::string server;  // "db1:5432"
  postgres::Timeline timeline = 0;
  postgres::Lsn received = 0, durable = 0, server_end = 0;
  uint64_t lag_bytes = 0;     // of the server's WAL, not durable
  std::optional<double> rpo;  // seconds: all that the server had flushed this long ago is durable
  bool synchronous = false;   // commits wait for this stream
  uint64_t slot_bytes = 0;    // of WAL that the slot keeps on the server
  SinkCounts stored;
};

struct WalStreamRequest {
  std::string resource;
  std::string connect;
  std::string slot;              // "": kuramori_RESOURCE
  std::string application_name;  // "": kuramori_RESOURCE
  Duration flush = kStreamFlush;
  uint64_t slot_warn_bytes = kSlotWarnBytes;
  bool once = false;       // up to where the server is now
  bool from_here = false;  // begin where the server is, whatever hole that leaves
  std::function<void(const WalStreamState&)> progress;
};

// "kuramori_orders_db": what is allowed in a slot's name.
std::string stream_name(std::string_view resource);

// Until asked to stop (then all that was received is durable and acknowledged), or something stands in the
// way that waiting does not change. A lost connection and a vault that does not answer are waited out.
Result<WalStreamState> stream_wal(Vault& vault, const WalStreamRequest& request, Reporter& reporter,
                                  std::stop_token stop);

}  // namespace kuramori
