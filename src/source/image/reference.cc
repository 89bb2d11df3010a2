#include "source/image/reference.h"

#include <fmt/core.h>

namespace kuramori::image {
namespace {

constexpr size_t kRepositoryBytesMax = 255, kTagBytesMax = 128;

bool is_lower(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// Letters and digits, with ".", "_", "__" or dashes between.
bool is_part(std::string_view part) {
  if (part.empty() || !is_lower(part.front()) || !is_lower(part.back())) return false;
  for (size_t at = 0; at < part.size();) {
    if (is_lower(part[at])) {
      ++at;
      continue;
    }
    const size_t end = part.find_first_of("abcdefghijklmnopqrstuvwxyz0123456789", at);
    const std::string_view between = part.substr(at, end - at);
    const bool dashes = between.find_first_not_of('-') == between.npos;
    if (between != "." && between != "_" && between != "__" && !dashes) return false;
    at = end;
  }
  return true;
}

std::string without_stars(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c == '*') c = 'a';
  }
  return out;
}

Error no_name(std::string_view text) {
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" names no image", text.substr(0, 300)),
              "names are in lower case and have no registry in front",
              "images: [ team/app, team/api:v1, base@sha256:…, team/* ]");
}

}  // namespace

bool is_repository(std::string_view text) {
  if (text.empty() || text.size() > kRepositoryBytesMax) return false;
  for (;;) {
    const std::string_view part = text.substr(0, text.find('/'));
    if (!is_part(part)) return false;
    if (part.size() == text.size()) return true;
    text.remove_prefix(part.size() + 1);
  }
}

bool is_tag(std::string_view text) {
  if (text.empty() || text.size() > kTagBytesMax || text.front() == '.' || text.front() == '-') return false;
  for (const char c : text) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (!is_lower(c) && !upper && c != '_' && c != '.' && c != '-') return false;
  }
  return true;
}

Result<Wanted> parse_wanted(std::string_view text) {
  Wanted wanted;
  std::string_view name = text;
  if (const size_t at = name.find('@'); at != name.npos) {
    auto digest = ContentDigest::parse(name.substr(at + 1));
    if (!digest) return no_name(text);
    wanted.digest = std::move(*digest);
    name = name.substr(0, at);
    if (name.find('*') != name.npos) return no_name(text);
    // "app:v1@sha256:…": the digest decides, as everywhere.
    if (const size_t colon = name.rfind(':'); colon != name.npos) {
      if (!is_tag(name.substr(colon + 1))) return no_name(text);
      name = name.substr(0, colon);
    }
  } else if (const size_t colon = name.rfind(':'); colon != name.npos) {
    wanted.tag = name.substr(colon + 1);
    if (!is_tag(without_stars(wanted.tag))) return no_name(text);
    name = name.substr(0, colon);
  }
  if (!is_repository(without_stars(name))) return no_name(text);
  wanted.repository = name;
  return wanted;
}

bool matches(std::string_view pattern, std::string_view text) {
  // Where the last star began, to take one byte more there when the rest does not fit.
  size_t p = 0, t = 0, star = pattern.npos, star_text = 0;
  bool star_takes_slash = false;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star_takes_slash = p + 1 < pattern.size() && pattern[p + 1] == '*';
      p += star_takes_slash ? 2 : 1;
      star = p;
      star_text = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p, ++t;
    } else if (star != pattern.npos && (star_takes_slash || text[star_text] != '/')) {
      p = star;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool names_image(std::string_view only, std::string_view name) {
  if (matches(only, name)) return true;
  const std::string_view repository = name.substr(0, name.find_first_of(":@"));
  return matches(only, repository);
}

}  // namespace kuramori::image
