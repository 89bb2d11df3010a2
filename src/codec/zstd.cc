#include "codec/zstd.h"

#include <fmt/core.h>
#include <zstd.h>

#include "base/check.h"
#include "base/cpu_limit.h"

namespace kuramori {

struct Compressor::State {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  // Room for the worst case: not the caller's, which would be filled with zeros first.
  std::unique_ptr<uint8_t[]> room;
  size_t room_bytes = 0;
  ~State() { ZSTD_freeCCtx(context); }
};

Compressor::Compressor(int level) : state_(std::make_unique<State>()) {
  CHECK(state_->context != nullptr);
  CHECK(!ZSTD_isError(ZSTD_CCtx_setParameter(state_->context, ZSTD_c_compressionLevel, level)));
}
Compressor::~Compressor() = default;
Compressor::Compressor(Compressor&&) noexcept = default;

size_t Compressor::compress(ByteView plain, Bytes& out) {
  pause_for_cpu();
  State& s = *state_;
  if (const size_t bound = ZSTD_compressBound(plain.size()); s.room_bytes < bound) {
    s.room = std::make_unique_for_overwrite<uint8_t[]>(bound);
    s.room_bytes = bound;
  }
  size_t size = ZSTD_compress2(s.context, s.room.get(), s.room_bytes, plain.data(), plain.size());
  CHECK(!ZSTD_isError(size));  // cannot fail: the room is the bound, the memory was taken at the start
  out.insert(out.end(), s.room.get(), s.room.get() + size);
  return size;
}

void Compressor::tune(const ZstdTuning& tuning) {
  auto set = [&](ZSTD_cParameter parameter, int value) {
    CHECK(!ZSTD_isError(ZSTD_CCtx_setParameter(state_->context, parameter, value)));
  };
  set(ZSTD_c_minMatch, tuning.match_bytes_min);
  set(ZSTD_c_hashLog, tuning.hash_bits);
  // With strategy "fast" zstd leaves literals alone as soon as it may skip; 1 skips no more than 0 does.
  set(ZSTD_c_targetLength, tuning.plain_literals ? 1 : 0);
}

struct Decompressor::State {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  ~State() { ZSTD_freeDCtx(context); }
};

Decompressor::Decompressor() : state_(std::make_unique<State>()) {
  CHECK(state_->context != nullptr);
}
Decompressor::~Decompressor() = default;
Decompressor::Decompressor(Decompressor&&) noexcept = default;

Result<void> Decompressor::decompress(ByteView compressed, MutableByteView out) {
  pause_for_cpu();
  size_t size =
      ZSTD_decompressDCtx(state_->context, out.data(), out.size(), compressed.data(), compressed.size());
  if (ZSTD_isError(size)) {
    return fail(ErrorKind::kDamaged, fmt::format("zstd: {}", ZSTD_getErrorName(size)));
  }
  if (size != out.size()) {
    return fail(ErrorKind::kDamaged, fmt::format("zstd: {} bytes where {} were promised", size, out.size()));
  }
  return {};
}

Bytes zstd_compress(ByteView plain, int level) {
  Bytes out;
  Compressor(level).compress(plain, out);
  return out;
}

Result<Bytes> zstd_decompress(ByteView compressed, size_t max_plain) {
  unsigned long long size = ZSTD_getFrameContentSize(compressed.data(), compressed.size());
  if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN || size > max_plain) {
    return fail(ErrorKind::kDamaged, "a compressed record has an impossible size");
  }
  Bytes out(size);
  // One a thread: making it costs more than a small record.
  static thread_local Decompressor decompressor;
  TRY(decompressor.decompress(compressed, out));
  return out;
}

}  // namespace kuramori
