#include "codec/unpack.h"

#include <fmt/core.h>
#include <zlib.h>
#include <zstd.h>

#include "base/check.h"
#include "base/cpu_limit.h"

namespace kuramori {
namespace {

constexpr size_t kOutBytes = 128 << 10;  // handed on at once
constexpr int kGzipOnly = 15 + 16;       // zlib: the largest window, and a gzip header

Error damaged(const char* format, std::string why) {
  return fail(ErrorKind::kDamaged, fmt::format("the bytes are no whole {} stream", format), std::move(why));
}

}  // namespace

struct Unpacker::State {
  Packing packing;
  Out out;
  Bytes room = Bytes(kOutBytes);
  z_stream gzip{};
  bool gzip_is_open = false;
  ZSTD_DStream* zstd = nullptr;
  bool between = true;  // where the stream may end
  bool begun = false;   // something came

  ~State() {
    if (gzip_is_open) inflateEnd(&gzip);
    ZSTD_freeDStream(zstd);
  }

  Result<void> add_gzip(ByteView packed) {
    gzip.next_in = const_cast<Bytef*>(packed.data());
    gzip.avail_in = static_cast<uInt>(packed.size());
    while (gzip.avail_in > 0) {
      if (between && begun) {
        // Zeros behind the last member are padding (gzip's own program takes them so).
        if (*gzip.next_in == 0) {
          ++gzip.next_in, --gzip.avail_in;
          continue;
        }
        CHECK(inflateReset(&gzip) == Z_OK);
      }
      between = false;
      begun = true;
      int code = Z_OK;
      do {
        gzip.next_out = room.data();
        gzip.avail_out = static_cast<uInt>(room.size());
        code = inflate(&gzip, Z_NO_FLUSH);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
          return damaged("gzip", gzip.msg != nullptr ? gzip.msg : "it cannot be read");
        TRY(give(room.size() - gzip.avail_out));
      } while (code == Z_OK && (gzip.avail_in > 0 || gzip.avail_out == 0));
      between = code == Z_STREAM_END;
    }
    return {};
  }

  Result<void> add_zstd(ByteView packed) {
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    bool full = false;
    while (in.pos < in.size || full) {
      ZSTD_outBuffer to{room.data(), room.size(), 0};
      const size_t left = ZSTD_decompressStream(zstd, &to, &in);
      if (ZSTD_isError(left)) return damaged("zstd", ZSTD_getErrorName(left));
      begun = true;
      between = left == 0;
      full = to.pos == to.size && !between;
      TRY(give(to.pos));
    }
    return {};
  }

  Result<void> give(size_t bytes) { return bytes == 0 ? Result<void>() : out(ByteView(room).first(bytes)); }
};

Unpacker::Unpacker(Packing packing, Out out) : state_(std::make_unique<State>()) {
  state_->packing = packing;
  state_->out = std::move(out);
  if (packing == Packing::kGzip) {
    CHECK(inflateInit2(&state_->gzip, kGzipOnly) == Z_OK);
    state_->gzip_is_open = true;
  }
  if (packing == Packing::kZstd) {
    state_->zstd = ZSTD_createDStream();
    CHECK(state_->zstd != nullptr);
    CHECK(!ZSTD_isError(ZSTD_DCtx_setParameter(state_->zstd, ZSTD_d_windowLogMax, kUnpackWindowBitsMax)));
  }
}
Unpacker::~Unpacker() = default;
Unpacker::Unpacker(Unpacker&&) noexcept = default;

Result<void> Unpacker::add(ByteView packed) {
  if (packed.empty()) return {};
  pause_for_cpu();
  switch (state_->packing) {
    case Packing::kGzip:
      return state_->add_gzip(packed);
    case Packing::kZstd:
      return state_->add_zstd(packed);
    case Packing::kNone:
      break;
  }
  return state_->out(packed);
}

Result<void> Unpacker::finish() {
  if (state_->packing == Packing::kNone || (state_->begun && state_->between)) return {};
  return damaged(state_->packing == Packing::kGzip ? "gzip" : "zstd",
                 state_->begun ? "it ends in the middle" : "it is empty");
}

}  // namespace kuramori
