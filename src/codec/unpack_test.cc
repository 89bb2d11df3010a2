#include "codec/unpack.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "codec/zstd.h"

namespace kuramori {
namespace {

Bytes some_bytes(size_t count) {
  Bytes bytes(count);
  uint32_t state = 7;
  for (uint8_t& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<uint8_t>(state >> 29);  // compressible
  }
  return bytes;
}

Bytes gzip_of(ByteView plain) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  Bytes out(deflateBound(&stream, plain.size()));
  stream.next_in = const_cast<Bytef*>(plain.data());
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// Given in pieces of `step` bytes.
Result<Bytes> unpacked(Packing packing, ByteView packed, size_t step) {
  Bytes plain;
  Unpacker unpacker(packing, [&](ByteView bytes) -> Result<void> {
    append(plain, bytes);
    return {};
  });
  for (size_t at = 0; at < packed.size(); at += step)
    TRY(unpacker.add(packed.subspan(at, std::min(step, packed.size() - at))));
  TRY(unpacker.finish());
  return plain;
}

TEST(UnpackTest, whatever_the_pieces_the_plain_bytes_are_the_same) {
  const Bytes plain = some_bytes(300'000);
  const std::pair<Packing, Bytes> kinds[] = {
      {Packing::kNone, plain}, {Packing::kGzip, gzip_of(plain)}, {Packing::kZstd, zstd_compress(plain, 3)}};
  for (const auto& [packing, packed] : kinds) {
    for (const size_t step : {size_t{1}, size_t{7}, size_t{4096}, packed.size()}) {
      auto back = unpacked(packing, packed, step);
      ASSERT_TRUE(back) << step;
      EXPECT_EQ(*back, plain) << step;
    }
  }
}

TEST(UnpackTest, streams_behind_each_other_are_one) {
  const Bytes plain = some_bytes(70'000);
  Bytes both = plain;
  append(both, plain);
  for (const Packing packing : {Packing::kGzip, Packing::kZstd}) {
    Bytes packed = packing == Packing::kGzip ? gzip_of(plain) : zstd_compress(plain, 3);
    const Bytes one = packed;
    append(packed, one);
    for (const size_t step : {size_t{1}, size_t{1000}, packed.size()}) {
      auto back = unpacked(packing, packed, step);
      ASSERT_TRUE(back);
      EXPECT_EQ(*back, both);
    }
  }
}

TEST(UnpackTest, what_is_cut_or_changed_is_damaged) {
  const Bytes plain = some_bytes(70'000);
  for (const Packing packing : {Packing::kGzip, Packing::kZstd}) {
    const Bytes packed = packing == Packing::kGzip ? gzip_of(plain) : zstd_compress(plain, 3);
    for (const size_t size : {size_t{0}, size_t{1}, packed.size() / 2, packed.size() - 1}) {
      auto back = unpacked(packing, ByteView(packed).first(size), 1000);
      ASSERT_FALSE(back) << size;
      EXPECT_EQ(back.error().kind, ErrorKind::kDamaged);
    }
    Bytes changed = packed;
    changed[0] ^= 1;
    EXPECT_FALSE(unpacked(packing, changed, 1000));
  }
}

TEST(UnpackTest, an_error_of_whoever_takes_it_is_the_result) {
  Unpacker unpacker(Packing::kGzip,
                    [](ByteView) -> Result<void> { return fail(ErrorKind::kNoSpace, "full"); });
  auto done = unpacker.add(gzip_of(some_bytes(1000)));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kNoSpace);
}

}  // namespace
}  // namespace kuramori
