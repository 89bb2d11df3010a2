#include "policy/config_text.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>
#include <set>

#include "policy/yaml_tree.h"

namespace kuramori {
namespace {

using Kind = YamlNode::Kind;

char lower(char c) {
  return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

bool holds_word(std::string_view text, std::string_view word) {
  return std::ranges::search(text, word, [](char a, char b) { return lower(a) == b; }).begin() != text.end();
}

constexpr std::array<std::string_view, 6> kSecretWords = {"password",   "passwd", "secret",
                                                          "passphrase", "token",  "api_key"};

bool names_a_secret(std::string_view name) {
  return std::ranges::any_of(kSecretWords, [&](std::string_view word) { return holds_word(name, word); });
}

// password_file: where the secret is, not the secret.
bool says_where(std::string_view key) {
  return key.ends_with("_file") || key.ends_with("_command");
}

bool ends_a_value(char c) {
  return c == ' ' || c == '\t' || c == '&' || c == '#' || c == ';';
}

// postgresql://user:secret@host
void hide_in_address(std::string& text) {
  for (size_t scheme = text.find("://"); scheme != text.npos; scheme = text.find("://", scheme + 3)) {
    const size_t begin = scheme + 3, end = text.find_first_of("/?# \t", begin);
    const std::string_view host = std::string_view(text).substr(begin, end - begin);
    const size_t at = host.rfind('@'), colon = host.find(':');
    if (at == host.npos || colon == host.npos || colon > at) continue;
    text.replace(begin + colon + 1, at - colon - 1, kHiddenSecret);
  }
}

// password=secret, password = 'a secret', ?token=secret
void hide_after_equals(std::string& text) {
  for (size_t equals = text.find('='); equals != text.npos; equals = text.find('=', equals + 1)) {
    size_t name_end = equals;
    while (name_end > 0 && text[name_end - 1] == ' ') --name_end;
    size_t name = name_end;
    while (name > 0 && (std::isalnum(static_cast<unsigned char>(text[name - 1])) || text[name - 1] == '_' ||
                        text[name - 1] == '-'))
      --name;
    if (!names_a_secret(std::string_view(text).substr(name, name_end - name))) continue;
    size_t begin = equals + 1;
    while (begin < text.size() && text[begin] == ' ') ++begin;
    size_t end = begin;
    if (begin < text.size() && text[begin] == '\'') {
      for (end = begin + 1; end < text.size() && text[end] != '\''; ++end)
        if (text[end] == '\\') ++end;
      end = std::min(end + 1, text.size());
    } else {
      while (end < text.size() && !ends_a_value(text[end])) ++end;
    }
    text.replace(begin, end - begin, kHiddenSecret);
    equals = begin;
  }
}

// A value that is written without quotes and read as it was.
bool is_plain(const YamlNode& node) {
  return !node.quoted && !node.text.empty() && std::ranges::all_of(node.text, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '/';
  });
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += fmt::format("\\{}", c);
    else if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\x{:02x}", byte);
    else
      out += c;
  }
  return out + "\"";
}

class Writer {
 public:
  std::string take() { return std::move(out_); }

  void write(const YamlNode& node, std::string_view key, int depth) {
    switch (node.kind) {
      case Kind::kNull:
        out_ += "~";
        break;
      case Kind::kText:
        write_text(node, key);
        break;
      case Kind::kList:
        out_ += '[';
        for (size_t i = 0; i < node.items.size(); ++i) {
          if (i > 0) out_ += ", ";
          write(node.items[i], key, depth + 1);
        }
        out_ += ']';
        break;
      case Kind::kMap:
        write_map(node, key, depth);
    }
  }

 private:
  void write_text(const YamlNode& node, std::string_view key) {
    const std::string shown = in_environment_ > 0 && !says_where(key) ? std::string(kHiddenSecret)
                                                                      : without_secrets(key, node.text);
    out_ += shown == node.text && is_plain(node) ? shown : quoted(shown);
  }

  void write_map(const YamlNode& node, std::string_view key, int depth) {
    const bool environment = key == "environment";
    in_environment_ += environment ? 1 : 0;
    section_ = depth == 1 ? std::string(key) : section_;
    std::vector<size_t> order(node.keys.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::sort(order, {}, [&](size_t i) -> const std::string& { return node.keys[i]; });
    out_ += '{';
    bool first = true;
    for (const size_t i : order) {
      out_ += first ? "" : ", ";
      first = false;
      out_ += quoted(node.keys[i]) + ": ";
      // `keep: 14d` of a plan is short for `keep: { all: 14d }`.
      const bool is_short =
          section_ == "plans" && depth >= 2 && node.keys[i] == "keep" && node.items[i].kind == Kind::kText;
      if (is_short) out_ += "{\"all\": ";
      write(node.items[i], node.keys[i], depth + 1);
      if (is_short) out_ += '}';
    }
    out_ += '}';
    in_environment_ -= environment ? 1 : 0;
  }

  std::string out_;
  std::string section_;  // of the file, that is written
  int in_environment_ = 0;
};

class Flattened {
 public:
  std::vector<ConfigLine> take() {
    std::ranges::sort(lines_, {}, &ConfigLine::key);
    return std::move(lines_);
  }

  void add(const YamlNode& node, const std::string& key) {
    if (node.kind == Kind::kMap && !node.keys.empty()) {
      for (size_t i = 0; i < node.keys.size(); ++i)
        add(node.items[i], key.empty() ? node.keys[i] : fmt::format("{}.{}", key, node.keys[i]));
      return;
    }
    if (node.kind == Kind::kList && !node.items.empty() &&
        std::ranges::all_of(node.items, [](const YamlNode& item) { return item.kind == Kind::kMap; })) {
      std::set<std::string> seen;
      for (size_t i = 0; i < node.items.size(); ++i) {
        std::string name = name_of(node.items[i]);
        if (name.empty() || !seen.insert(name).second) name = fmt::format("{}#{}", name, i + 1);
        add(node.items[i], fmt::format("{}[{}]", key, name));
      }
      return;
    }
    lines_.push_back({key, shown(node)});
  }

 private:
  // What tells it from the others of its list.
  static std::string name_of(const YamlNode& map) {
    for (const std::string_view key : {"name", "to", "query", "after", "schedule"}) {
      const auto found = std::ranges::find(map.keys, key);
      if (found == map.keys.end()) continue;
      const YamlNode& value = map.items[static_cast<size_t>(found - map.keys.begin())];
      if (value.kind == Kind::kText) return value.text;
    }
    return "";
  }
  static std::string shown(const YamlNode& node) {
    if (node.kind == Kind::kText) return node.text;
    if (node.kind == Kind::kNull) return "";
    if (node.kind == Kind::kMap) return "{}";
    std::string out;
    for (const YamlNode& item : node.items) out += (out.empty() ? "" : ", ") + shown(item);
    return fmt::format("[{}]", out);
  }

  std::vector<ConfigLine> lines_;
};

}  // namespace

std::string without_secrets(std::string_view key, std::string_view value) {
  if (names_a_secret(key) && !says_where(key)) return std::string(kHiddenSecret);
  std::string out(value);
  if (key == "to") {
    for (const std::string_view chat : {"slack:", "pagerduty:", "webhook:"}) {
      if (!out.starts_with(chat)) continue;
      // Its path is what lets somebody write there.
      const size_t host = out.find("://");
      const size_t path = host == out.npos ? chat.size() : out.find('/', host + 3);
      if (path != out.npos && out.find("${") == out.npos)
        out = out.substr(0, path) + std::string(kHiddenSecret);
    }
  }
  hide_in_address(out);
  hide_after_equals(out);
  return out;
}

Result<std::string> canonical_config(std::string_view text, const std::string& name) {
  TRY_ASSIGN(const YamlNode root, parse_yaml(text, name));
  Writer writer;
  writer.write(root, "", 0);
  return writer.take();
}

Result<std::vector<ConfigLine>> lines_of_config(std::string_view canonical) {
  TRY_ASSIGN(const YamlNode root, parse_yaml(canonical, "the configuration that was applied"));
  Flattened flattened;
  if (root.kind != Kind::kNull) flattened.add(root, "");
  return flattened.take();
}

std::vector<ConfigChange> changes_between(const std::vector<ConfigLine>& before,
                                          const std::vector<ConfigLine>& after) {
  std::vector<ConfigChange> changes;
  auto was = before.begin(), is = after.begin();
  while (was != before.end() || is != after.end()) {
    if (is == after.end() || (was != before.end() && was->key < is->key)) {
      changes.push_back({was->key, was->value, {}});
      ++was;
    } else if (was == before.end() || is->key < was->key) {
      changes.push_back({is->key, {}, is->value});
      ++is;
    } else {
      if (was->value != is->value) changes.push_back({is->key, was->value, is->value});
      ++was, ++is;
    }
  }
  return changes;
}

}  // namespace kuramori
