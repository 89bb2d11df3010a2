// Any bytes as an RDB, in pieces of any size: an answer or an error in words, never a crash, and the same
// whatever the pieces. The first byte says how large they are.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/check.h"
#include "source/redis/rdb.h"

namespace {

using namespace kuramori;

struct Outcome {
  std::optional<ErrorKind> failed;
  bool whole = false;
  uint64_t keys = 0, used = 0;
  bool operator==(const Outcome&) const = default;
};

Outcome read(ByteView bytes, size_t step) {
  redis::RdbReader reader(1'000'000);
  Outcome outcome;
  for (size_t at = 0; at < bytes.size() && !reader.at_end(); at += step) {
    const ByteView piece = bytes.subspan(at, std::min(step, bytes.size() - at));
    const Result<size_t> used = reader.push(piece);
    if (!used) {
      CHECK(!used.error().what.empty());
      outcome.failed = used.error().kind;
      outcome.keys = reader.summary().keys();
      return outcome;
    }
    outcome.used += *used;
    CHECK(*used == piece.size() || reader.at_end());
  }
  outcome.whole = reader.at_end();
  CHECK(outcome.whole == reader.finish().has_value());
  CHECK(outcome.used == reader.summary().bytes);
  outcome.keys = reader.summary().keys();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ByteView bytes(data + 1, size - 1);
  Outcome whole = read(bytes, size);
  Outcome pieces = read(bytes, size_t{1} + data[0]);
  whole.used = pieces.used = 0;  // where a failure is met depends on the piece
  CHECK(whole == pieces);
  return 0;
}
