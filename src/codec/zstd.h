// zstd with contexts that are made once and reused (libzstd). Not for use by two threads at once.
#pragma once
#include <memory>

#include "base/bytes.h"

namespace kuramori {

// For bytes of a kind that is known; 0: as the level has it.
struct ZstdTuning {
  int match_bytes_min = 0;
  int hash_bits = 0;
  bool plain_literals = false;  // bytes that match nothing are stored as they are, not Huffman coded
};

class Compressor {
 public:
  explicit Compressor(int level);
  ~Compressor();
  Compressor(Compressor&&) noexcept;
  // Appends one zstd frame to `out` and returns its size.
  size_t compress(ByteView plain, Bytes& out);
  // From the next frame on. Only for levels of strategy "fast": 1.
  void tune(const ZstdTuning& tuning);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Decompressor {
 public:
  Decompressor();
  ~Decompressor();
  Decompressor(Decompressor&&) noexcept;
  // Fills `out` exactly; anything else is kDamaged.
  Result<void> decompress(ByteView compressed, MutableByteView out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// For small records: one call, bounded by `max_plain` bytes.
Bytes zstd_compress(ByteView plain, int level);
Result<Bytes> zstd_decompress(ByteView compressed, size_t max_plain);

}  // namespace kuramori
