// What anybody who may connect to the daemon's socket can send: what is accepted is written as it was read.
#include "daemon/wal_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kuramori;
  const ByteView bytes{data, size};
  if (auto request = decode_wal_request(bytes)) {
    auto again = decode_wal_request(encode(*request));
    if (!again || encode(*again) != encode(*request)) __builtin_trap();
  }
  if (auto answer = decode_wal_answer(bytes)) {
    auto again = decode_wal_answer(encode(*answer));
    if (!again || encode(*again) != encode(*answer)) __builtin_trap();
  }
  return 0;
}
