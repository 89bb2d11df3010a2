// Secrets: bytes that are kept out of swap and core dumps, wiped when done, and cannot be printed.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/world.h"

namespace kuramori {

// Owns `size()` secret bytes in guarded memory (libsodium's secure heap). Moves, never copies by accident.
class Secret {
 public:
  Secret() = default;
  explicit Secret(size_t size);
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret();

  static Secret copy_of(ByteView bytes);
  static Secret random(size_t size, Random& random);
  Secret clone() const { return copy_of(view()); }

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  ByteView view() const { return {data_, size_}; }
  MutableByteView fill() { return {data_, size_}; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Compares in time that does not depend on the contents.
bool equal_secret(ByteView a, ByteView b);
// Overwrites what a compiler may not optimise away.
void wipe(MutableByteView bytes);

}  // namespace kuramori
