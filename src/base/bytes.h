// Bytes: owned, borrowed, printed as hex, and read field by field without running past the end.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace kuramori {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;
using MutableByteView = std::span<uint8_t>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes to_bytes(ByteView view) {
  return Bytes(view.begin(), view.end());
}
inline void append(Bytes& to, ByteView more) {
  to.insert(to.end(), more.begin(), more.end());
}
inline bool equal(ByteView a, ByteView b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

std::string to_hex(ByteView bytes);
Result<Bytes> from_hex(std::string_view text);
std::string to_base64(ByteView bytes);
Result<Bytes> from_base64(std::string_view text);

// Fixed-width integers in the byte order that a format names.
template <class T>
T load_le(const uint8_t* from) {
  T value;
  std::memcpy(&value, from,
              sizeof value);  // every machine we build for is little-endian (checked in bytes.cc)
  return value;
}
template <class T>
void store_le(uint8_t* to, T value) {
  std::memcpy(to, &value, sizeof value);
}
template <class T>
void append_le(Bytes& to, T value) {
  uint8_t raw[sizeof value];
  store_le(raw, value);
  append(to, raw);
}

// Reads a byte string front to back; every read past the end is an error, never undefined.
class ByteReader {
 public:
  explicit ByteReader(ByteView bytes) : rest_(bytes) {}
  size_t left() const { return rest_.size(); }
  Result<ByteView> take(size_t count);
  template <class T>
  Result<T> take_le() {
    TRY_ASSIGN(ByteView raw, take(sizeof(T)));
    return load_le<T>(raw.data());
  }

 private:
  ByteView rest_;
};

}  // namespace kuramori
