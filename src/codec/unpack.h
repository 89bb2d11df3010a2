// Undoes a compression that others made, as the bytes come: gzip (RFC 1952, zlib) and zstd (RFC 8878).
//
// Neither side is ever held: what is given is turned into pieces for `out` at once. Several gzip members or
// zstd frames, one behind the other, are one stream, as their programs have it.
#pragma once
#include <functional>
#include <memory>

#include "base/bytes.h"

namespace kuramori {

enum class Packing : uint8_t { kNone, kGzip, kZstd };

// A zstd frame that looks back farther is refused: its window would be memory.
constexpr int kUnpackWindowBitsMax = 25;  // 32 MiB

// Not for use by two threads at once.
class Unpacker {
 public:
  using Out = std::function<Result<void>(ByteView)>;
  Unpacker(Packing packing, Out out);
  ~Unpacker();
  Unpacker(Unpacker&&) noexcept;

  // kDamaged: this is no such stream, or not whole. An error of `out` is the result.
  Result<void> add(ByteView packed);
  // kDamaged: it ends in the middle.
  Result<void> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kuramori
