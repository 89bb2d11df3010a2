#include "base/bytes.h"

#include <fmt/core.h>

#include <array>
#include <bit>

namespace kuramori {

static_assert(std::endian::native == std::endian::little);

std::string to_hex(ByteView bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (uint8_t byte : bytes) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

static int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

Result<Bytes> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return fail(ErrorKind::kUsage, fmt::format("\"{}\" is not hexadecimal", text));
  Bytes bytes;
  bytes.reserve(text.size() / 2);
  for (size_t i = 0; i < text.size(); i += 2) {
    int high = hex_value(text[i]), low = hex_value(text[i + 1]);
    if (high < 0 || low < 0) return fail(ErrorKind::kUsage, fmt::format("\"{}\" is not hexadecimal", text));
    bytes.push_back(static_cast<uint8_t>(high << 4 | low));
  }
  return bytes;
}

static constexpr char kBase64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string to_base64(ByteView bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = bytes[i] << 16;
    if (i + 1 < bytes.size()) group |= bytes[i + 1] << 8;
    if (i + 2 < bytes.size()) group |= bytes[i + 2];
    text.push_back(kBase64[group >> 18]);
    text.push_back(kBase64[group >> 12 & 63]);
    text.push_back(i + 1 < bytes.size() ? kBase64[group >> 6 & 63] : '=');
    text.push_back(i + 2 < bytes.size() ? kBase64[group & 63] : '=');
  }
  return text;
}

Result<Bytes> from_base64(std::string_view text) {
  static const auto kValues = [] {
    std::array<int8_t, 256> values;
    values.fill(-1);
    for (int i = 0; i < 64; ++i) values[static_cast<uint8_t>(kBase64[i])] = static_cast<int8_t>(i);
    return values;
  }();
  Bytes bytes;
  uint32_t group = 0;
  int bits = 0;
  bool padded = false;
  for (char symbol : text) {
    if (symbol == '\n' || symbol == '\r' || symbol == ' ') continue;
    if (symbol == '=') {
      padded = true;
      continue;
    }
    int value = kValues[static_cast<uint8_t>(symbol)];
    if (value < 0 || padded) return fail(ErrorKind::kUsage, "not base64");
    group = group << 6 | static_cast<uint32_t>(value);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes.push_back(static_cast<uint8_t>(group >> bits));
    }
  }
  return bytes;
}

Result<ByteView> ByteReader::take(size_t count) {
  if (count > rest_.size()) {
    return fail(ErrorKind::kDamaged, fmt::format("truncated: need {} bytes, have {}", count, rest_.size()));
  }
  ByteView taken = rest_.first(count);
  rest_ = rest_.subspan(count);
  return taken;
}

}  // namespace kuramori
