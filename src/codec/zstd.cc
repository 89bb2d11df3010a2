#include "codec/zstd.h"

#include <fmt/core.h>
#include <zstd.h>

#include "base/check.h"
#include "base/cpu_limit.h"

namespace kuramori {

struct Compressor::State {
  ZSTD_CCtx* context = ZSTD_createCCtx();
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
  size_t at = out.size();
  out.resize(at + ZSTD_compressBound(plain.size()));
  size_t size = ZSTD_compress2(state_->context, out.data() + at, out.size() - at, plain.data(), plain.size());
  CHECK(!ZSTD_isError(size));  // cannot fail: the room is the bound, the memory was taken at the start
  out.resize(at + size);
  return size;
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
  TRY(Decompressor().decompress(compressed, out));
  return out;
}

}  // namespace kuramori
