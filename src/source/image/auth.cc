#include "source/image/auth.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "source/image/manifest.h"

namespace kuramori::image {
namespace {

using Json = nlohmann::json;

constexpr int64_t kTokenSecondsDefault = 60;  // the specification's, where the server says nothing
constexpr int64_t kTokenSecondsMax = 24 * 60 * 60;
constexpr size_t kTokenBytesMax = 64 << 10;
constexpr size_t kWordsBytesMax = 300;

bool is_same_word(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return (x | 0x20) == (y | 0x20); });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The header cut at its commas, those in quotes left alone.
std::vector<std::string_view> items_of(std::string_view header) {
  std::vector<std::string_view> items;
  bool quoted = false;
  size_t begin = 0;
  for (size_t at = 0; at <= header.size(); ++at) {
    if (at < header.size() && quoted && header[at] == '\\') {
      ++at;
      continue;
    }
    if (at < header.size() && header[at] == '"') quoted = !quoted;
    if (at < header.size() && (header[at] != ',' || quoted)) continue;
    items.push_back(trimmed(header.substr(begin, at - begin)));
    begin = at + 1;
  }
  return items;
}

std::string unquoted(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return std::string(text);
  std::string out;
  for (size_t at = 1; at + 1 < text.size(); ++at) {
    if (text[at] == '\\' && at + 2 < text.size()) ++at;
    out += text[at];
  }
  return out;
}

Result<Json> parse(ByteView body) {
  if (!is_modest_json(as_text(body))) return fail(ErrorKind::kDamaged, "the answer is larger than it can be");
  Json json = Json::parse(body.begin(), body.end(), nullptr, false);
  if (json.is_discarded() || !json.is_object())
    return fail(ErrorKind::kDamaged, "the answer is not what a registry says", "it is not JSON");
  return json;
}

}  // namespace

std::optional<Challenge> parse_challenge(std::string_view header) {
  std::optional<Challenge> basic, bearer, *current = nullptr;
  for (std::string_view item : items_of(header)) {
    const size_t equals = item.find('=');
    const size_t space = item.find(' ');
    if (space < equals) {  // a scheme before its first parameter, or alone
      const std::string_view scheme = item.substr(0, space);
      current = is_same_word(scheme, "bearer") ? &bearer : is_same_word(scheme, "basic") ? &basic : nullptr;
      if (current != nullptr && !*current)
        *current =
            Challenge{.scheme = current == &bearer ? Challenge::Scheme::kBearer : Challenge::Scheme::kBasic};
      item = trimmed(item.substr(space));
    } else if (equals == item.npos) {
      current = is_same_word(item, "basic") ? &basic : nullptr;
      if (current != nullptr && !*current) *current = Challenge{};
      continue;
    }
    const size_t at = item.find('=');
    if (current == nullptr || at == item.npos) continue;
    const std::string_view name = trimmed(item.substr(0, at));
    std::string value = unquoted(trimmed(item.substr(at + 1)));
    if (is_same_word(name, "realm")) (*current)->realm = std::move(value);
    if (is_same_word(name, "service")) (*current)->service = std::move(value);
    if (is_same_word(name, "scope")) (*current)->scope = std::move(value);
  }
  if (bearer && !bearer->realm.empty()) return bearer;
  return basic;
}

Result<Token> parse_token(ByteView body) {
  TRY_ASSIGN(const Json json, parse(body));
  Token token;
  for (const char* key : {"token", "access_token"}) {
    const auto found = json.find(key);
    if (token.text.empty() && found != json.end() && found->is_string())
      token.text = found->get<std::string>();
  }
  const bool is_plain =
      std::ranges::all_of(token.text, [](char c) { return c > ' ' && static_cast<unsigned char>(c) < 0x7f; });
  if (token.text.empty() || token.text.size() > kTokenBytesMax || !is_plain)
    return fail(ErrorKind::kDamaged, "the token server gave no token");
  int64_t seconds = kTokenSecondsDefault;
  if (const auto lasts = json.find("expires_in"); lasts != json.end() && lasts->is_number_integer())
    seconds = std::clamp<int64_t>(lasts->get<int64_t>(), 1, kTokenSecondsMax);
  token.lasts = std::chrono::seconds(seconds);
  return token;
}

std::string words_of(ByteView body) {
  const auto json = parse(body.first(std::min(body.size(), kManifestBytesMax)));
  if (!json) return {};
  const auto errors = json->find("errors");
  if (errors == json->end() || !errors->is_array() || errors->empty() || !errors->front().is_object())
    return {};
  std::string words;
  for (const char* key : {"code", "message"}) {
    const auto found = errors->front().find(key);
    if (found == errors->front().end() || !found->is_string()) continue;
    words += (words.empty() ? "" : ": ") + found->get<std::string>();
  }
  words.resize(std::min(words.size(), kWordsBytesMax));
  for (char& c : words) {
    if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  return words;
}

Result<std::vector<std::string>> parse_names(ByteView body, const char* key) {
  TRY_ASSIGN(const Json json, parse(body));
  std::vector<std::string> names;
  const auto list = json.find(key);
  if (list == json.end() || list->is_null()) return names;  // "tags": null: all were deleted
  if (!list->is_array())
    return fail(ErrorKind::kDamaged, "the answer is not what a registry says",
                fmt::format("{} is no list", key));
  for (const Json& name : *list) {
    if (name.is_string()) names.push_back(name.get<std::string>());
  }
  return names;
}

}  // namespace kuramori::image
