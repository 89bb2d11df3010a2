// What is said over the daemon's socket (docs/adr/0010): one request, then answers until one is final. A
// message is "KRMS", a version, and a protobuf; descriptors travel beside it. Pure; whoever may connect may
// send any bytes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "engine/wal.h"

namespace kuramori {

constexpr uint16_t kWalProtocolVersion = 1;
constexpr size_t kAheadFilesMax = 8;           // segments besides the one that is pushed
constexpr size_t kEarlierFilesMax = 8;         // segments before it, for records that began there
constexpr size_t kSpareFilesMax = 4;           // files for segments to come, with a get
constexpr size_t kControlBytesMax = 8192;      // pg_control
constexpr size_t kRequestTextBytesMax = 8192;  // a path, a promise

enum class WalVerb : uint8_t { kPush = 1, kGet = 2 };

// Descriptors. Push: the file, then those of `ahead`, then those of `earlier`, to be read. Get: the file to
// be written, then spare ones without a name for the segments that come next; an answer may bring one of them
// back, written.
struct WalRequest {
  WalVerb verb = WalVerb::kPush;
  std::string name;      // "00000001000000000000002A"
  std::string resource;  // "": push finds it by the system id
  // As the client was told; "": not told. A daemon that serves another vault, or another configuration, is
  // the wrong one.
  std::string vault, key_file, config;
  Bytes control;                   // push: global/pg_control of the server
  std::vector<std::string> ahead;  // push: segments that follow and are ready
  // Push: segments that come just before, under the names they have in pg_wal, and what was kept of others
  // (kTailFile).
  std::vector<std::string> earlier;
  std::string promise;  // get
};

struct WalAnswer {
  enum class Kind : uint8_t {
    kWorking = 1,  // not final: still at it
    kPushed = 2,   // durable in the vault
    kGot = 3,      // `decision` says what
    kNotMine = 4,  // another daemon's, another version's, or too busy: do it yourself
    kFailed = 5,
  };
  Kind kind = Kind::kFailed;
  Error error;  // kFailed; kNotMine: what
  std::string resource;
  uint64_t bytes = 0;
  WalPut put = WalPut::kStored;
  postgres::GetDecision decision;  // its answer and why
};

Bytes encode(const WalRequest& request);
Bytes encode(const WalAnswer& answer);
// kUsage: not a message of this version.
Result<WalRequest> decode_wal_request(ByteView bytes);
Result<WalAnswer> decode_wal_answer(ByteView bytes);

}  // namespace kuramori
