#include "base/json_writer.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>

#include "base/check.h"

namespace kuramori {
namespace {

// Length of the well-formed UTF-8 sequence at the front (RFC 3629: no overlong forms, no surrogates), or 0.
size_t utf8_length(std::string_view text) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0}; };
  auto follows = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF && follows(1)) return 2;
  if ((first & 0xF0) == 0xE0 && follows(1) && follows(2)) {
    bool overlong = first == 0xE0 && byte(1) < 0xA0;
    bool surrogate = first == 0xED && byte(1) >= 0xA0;
    return overlong || surrogate ? 0 : 3;
  }
  if (first >= 0xF0 && first <= 0xF4 && follows(1) && follows(2) && follows(3)) {
    bool overlong = first == 0xF0 && byte(1) < 0x90;
    bool beyond = first == 0xF4 && byte(1) >= 0x90;
    return overlong || beyond ? 0 : 4;
  }
  return 0;
}

bool is_plain(uint8_t c) {
  return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

}  // namespace

void JsonWriter::quote(std::string_view text) {
  out_ += '"';
  while (!text.empty()) {
    // Most is plain, and goes over in one piece.
    size_t plain = 0;
    while (plain < text.size() && is_plain(static_cast<uint8_t>(text[plain]))) ++plain;
    out_.append(text.substr(0, plain));
    text.remove_prefix(plain);
    if (text.empty()) break;
    auto c = static_cast<uint8_t>(text.front());
    size_t length = utf8_length(text);
    if (c == '"' || c == '\\') {
      out_ += '\\';
      out_ += static_cast<char>(c);
    } else if (c == '\n') {
      out_ += "\\n";
    } else if (c == '\t') {
      out_ += "\\t";
    } else if (c < 0x20 || c == 0x7F) {
      out_ += fmt::format("\\u{:04x}", c);
    } else if (length == 0) {
      out_ += "\xEF\xBF\xBD";
    } else {
      out_.append(text.substr(0, length));
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  out_ += '"';
}

void JsonWriter::separate() {
  Level& level = levels_.back();
  if (!level.empty) out_ += ',';
  level.empty = false;
  if (style_ == Style::kIndented) out_ += "\n" + std::string(levels_.size() * 2, ' ');
}

void JsonWriter::before_value() {
  CHECK(!done_);
  if (levels_.empty()) return;
  Level& level = levels_.back();
  if (level.end == ']') return separate();
  CHECK(level.key_given);
  level.key_given = false;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  CHECK(!levels_.empty() && levels_.back().end == '}' && !levels_.back().key_given);
  separate();
  quote(name);
  out_ += style_ == Style::kIndented ? ": " : ":";
  levels_.back().key_given = true;
  return *this;
}

JsonWriter& JsonWriter::open(char bracket) {
  before_value();
  out_ += bracket;
  levels_.push_back({bracket == '{' ? '}' : ']'});
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  CHECK(!levels_.empty() && levels_.back().end == bracket && !levels_.back().key_given);
  bool empty = levels_.back().empty;
  levels_.pop_back();
  if (style_ == Style::kIndented && !empty) out_ += "\n" + std::string(levels_.size() * 2, ' ');
  out_ += bracket;
  done_ = levels_.empty();
  return *this;
}

JsonWriter& JsonWriter::raw(std::string_view text) {
  before_value();
  out_ += text;
  done_ = levels_.empty();
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  before_value();
  quote(text);
  done_ = levels_.empty();
  return *this;
}

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return null();
  char buffer[32];
  auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, number);
  CHECK(error == std::errc{});
  return raw({buffer, static_cast<size_t>(end - buffer)});
}

std::string JsonWriter::take() {
  CHECK(done_ && levels_.empty());
  return std::move(out_);
}

}  // namespace kuramori
