#include "source/files/patterns.h"

#include <algorithm>
#include <array>
#include <optional>

namespace kuramori::files {
namespace {

struct NamedClass {
  std::string_view name;
  bool (*holds)(unsigned char);
};

// ASCII only, as in the C locale: names are bytes.
bool is_upper(unsigned char c) {
  return c >= 'A' && c <= 'Z';
}
bool is_lower(unsigned char c) {
  return c >= 'a' && c <= 'z';
}
bool is_digit(unsigned char c) {
  return c >= '0' && c <= '9';
}
bool is_alpha(unsigned char c) {
  return is_upper(c) || is_lower(c);
}
bool is_graph(unsigned char c) {
  return c > 0x20 && c < 0x7f;
}

const std::array kClasses = {
    NamedClass{"alnum", [](unsigned char c) { return is_alpha(c) || is_digit(c); }},
    NamedClass{"alpha", is_alpha},
    NamedClass{"blank", [](unsigned char c) { return c == ' ' || c == '\t'; }},
    NamedClass{"cntrl", [](unsigned char c) { return c < 0x20 || c == 0x7f; }},
    NamedClass{"digit", is_digit},
    NamedClass{"graph", is_graph},
    NamedClass{"lower", is_lower},
    NamedClass{"print", [](unsigned char c) { return c == ' ' || is_graph(c); }},
    NamedClass{"punct", [](unsigned char c) { return is_graph(c) && !is_alpha(c) && !is_digit(c); }},
    NamedClass{"space", [](unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }},
    NamedClass{"upper", is_upper},
    NamedClass{
        "xdigit",
        [](unsigned char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }},
};

// A bracket expression at `at` (after its '['). Nothing: it has no end or names an unknown class, and then
// the whole glob matches nothing. Moves `at` behind the ']'.
std::optional<bool> bracket_matches(std::string_view glob, size_t& at, unsigned char c) {
  bool negated = at < glob.size() && (glob[at] == '!' || glob[at] == '^');
  if (negated) ++at;
  bool found = false;
  for (bool first = true;; first = false) {
    if (at >= glob.size()) return std::nullopt;
    unsigned char low = static_cast<unsigned char>(glob[at++]);
    if (low == ']' && !first) return found != negated;
    if (low == '[' && at < glob.size() && glob[at] == ':') {
      size_t end = glob.find(']', at + 1);
      if (end == std::string_view::npos) return std::nullopt;
      if (end > at + 1 && glob[end - 1] == ':') {
        std::string_view name = glob.substr(at + 1, end - at - 2);
        auto known = std::ranges::find(kClasses, name, &NamedClass::name);
        if (known == kClasses.end()) return std::nullopt;
        found = found || known->holds(c);
        at = end + 1;
        continue;
      }
      // "[:" without ":]": a '[' like any other character.
    }
    if (low == '\\') {
      if (at >= glob.size()) return std::nullopt;
      low = static_cast<unsigned char>(glob[at++]);
    }
    unsigned char high = low;
    if (at + 1 < glob.size() && glob[at] == '-' && glob[at + 1] != ']') {
      high = static_cast<unsigned char>(glob[++at]);
      ++at;
      if (high == '\\') {
        if (at >= glob.size()) return std::nullopt;
        high = static_cast<unsigned char>(glob[at++]);
      }
    }
    found = found || (low <= c && c <= high);
  }
}

// Where a glob that begins at `at` with no star takes one character `c`: whether it does, and where it goes
// on.
bool takes(std::string_view glob, size_t& at, char c) {
  char wanted = glob[at++];
  if (wanted == '?') return true;
  if (wanted == '[') return bracket_matches(glob, at, static_cast<unsigned char>(c)).value_or(false);
  if (wanted == '\\') {
    if (at == glob.size()) return false;  // escapes nothing: matches nothing
    wanted = glob[at++];
  }
  return wanted == c;
}

bool is_any_depth(std::string_view part) {
  return part.size() >= 2 && part.find_first_not_of('*') == std::string_view::npos;
}

// The parts of a path, without a copy of it.
std::string_view first_part(std::string_view path) {
  return path.substr(0, path.find('/'));
}
std::string_view after_first(std::string_view path) {
  size_t slash = path.find('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
}

// `path` is empty when no part is left. As with stars in a glob: only the last "**" need ever be tried anew.
bool parts_match(const std::vector<std::string>& parts, std::string_view path) {
  size_t at = 0;
  std::optional<size_t> again;  // behind the last "**" met
  std::string_view again_path;
  for (;;) {
    if (at < parts.size() && is_any_depth(parts[at])) {
      if (at + 1 == parts.size()) return !path.empty();  // "a/**" is all within a, not a itself
      again = ++at;
      again_path = path;
      continue;
    }
    if (path.empty() && at == parts.size()) return true;
    if (!path.empty() && at < parts.size() && glob_matches(parts[at], first_part(path))) {
      ++at;
      path = after_first(path);
      continue;
    }
    if (!again || again_path.empty()) return false;
    again_path = after_first(again_path);
    path = again_path;
    at = *again;
  }
}

// Trailing spaces go, unless a backslash quotes them.
void trim_spaces(std::string& line) {
  size_t end = line.size();
  while (end > 0 && line[end - 1] == ' ') {
    size_t backslashes = 0;
    while (backslashes < end - 1 && line[end - 2 - backslashes] == '\\') ++backslashes;
    if (backslashes % 2 == 1) break;
    --end;
  }
  line.resize(end);
}

// The parts of a pattern. A '/' within a bracket expression parts nothing; one behind a backslash does.
std::vector<std::string> cut(std::string_view pattern) {
  std::vector<std::string> parts(1);
  for (size_t at = 0; at < pattern.size();) {
    size_t begin = at;
    char c = pattern[at++];
    if (c == '\\' && at < pattern.size()) c = pattern[at++];
    if (c == '/') {
      parts.emplace_back();
      continue;
    }
    size_t end = at;
    if (c == '[' && end == begin + 1 && bracket_matches(pattern, end, 0)) at = end;
    parts.back() += pattern.substr(begin, at - begin);
  }
  return parts;
}

}  // namespace

bool glob_matches(std::string_view glob, std::string_view part) {
  size_t at = 0, taken = 0;
  std::optional<size_t> star;  // behind the last star met; only that one need ever be tried anew
  size_t star_taken = 0;
  for (;;) {
    if (at < glob.size() && glob[at] == '*') {
      star = ++at;
      star_taken = taken;
      continue;
    }
    if (taken == part.size() && at == glob.size()) return true;
    size_t next = at;
    if (taken < part.size() && at < glob.size() && takes(glob, next, part[taken])) {
      at = next;
      ++taken;
      continue;
    }
    if (!star || star_taken == part.size()) return false;
    taken = ++star_taken;
    at = *star;
  }
}

Patterns::Patterns(const std::vector<std::string>& lines) {
  for (size_t i = 0; i < lines.size(); ++i) {
    std::string line = lines[i];
    if (line.starts_with('#')) continue;
    trim_spaces(line);
    if (line.empty()) continue;
    Pattern pattern{.line = static_cast<int>(i)};
    std::string_view rest = line;
    if (rest.starts_with('!')) pattern.negative = true, rest.remove_prefix(1);
    if (rest.ends_with('/')) pattern.folders_only = true, rest.remove_suffix(1);
    pattern.by_name = rest.find('/') == std::string_view::npos;
    if (rest.starts_with('/')) rest.remove_prefix(1);
    if (pattern.by_name) {
      pattern.parts.emplace_back(rest);
    } else {
      pattern.parts = cut(rest);
    }
    patterns_.push_back(std::move(pattern));
  }
}

bool Patterns::matches(const Pattern& pattern, std::string_view path, bool is_folder) {
  if (pattern.folders_only && !is_folder) return false;
  if (!pattern.by_name) return parts_match(pattern.parts, path);
  size_t slash = path.rfind('/');
  return glob_matches(pattern.parts.front(), slash == std::string_view::npos ? path : path.substr(slash + 1));
}

int Patterns::deciding(std::string_view path, bool is_folder) const {
  for (size_t i = patterns_.size(); i-- > 0;) {
    if (matches(patterns_[i], path, is_folder)) return patterns_[i].line;
  }
  return -1;
}

Patterns::Answer Patterns::look(std::string_view path, bool is_folder) const {
  for (size_t i = patterns_.size(); i-- > 0;) {
    if (matches(patterns_[i], path, is_folder))
      return patterns_[i].negative ? Answer::kUnmatched : Answer::kMatched;
  }
  return Answer::kNone;
}

}  // namespace kuramori::files
