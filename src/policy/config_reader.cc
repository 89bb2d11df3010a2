#include "policy/config_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "policy/config.h"

namespace kuramori {
namespace {

const YamlNode kNothing;

size_t edit_distance(std::string_view a, std::string_view b) {
  // Two rows, with neighbouring letters swapped counting as one step.
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = last;
    last = row;
  }
  return last[b.size()];
}

constexpr size_t kWordMax = 64;  // characters; longer words are not compared

}  // namespace

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known) {
  if (word.size() > kWordMax) return {};
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (std::string_view candidate : known) {
    size_t distance = candidate.starts_with(word) && word.size() >= 3 ? 1 : edit_distance(word, candidate);
    if (distance < best_distance && distance < candidate.size()) best = candidate, best_distance = distance;
  }
  return best;
}

void ReadState::fail_at(int line, std::string what, std::string why, std::string next) {
  if (error) return;
  if (next.empty()) next = fmt::format("correct line {} of {}", line, file);
  error =
      fail(ErrorKind::kUsage, fmt::format("{}:{}: {}", file, line, what), std::move(why), std::move(next));
}

std::string ReadState::expand(const std::string& text, int line) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (text.compare(i, 3, "$${") == 0) {
      out += "${";
      i += 3;
      continue;
    }
    if (text.compare(i, 2, "${") != 0) {
      out += text[i++];
      continue;
    }
    size_t end = text.find('}', i);
    std::string name = end == text.npos ? "" : text.substr(i + 2, end - i - 2);
    bool good = !name.empty() && std::ranges::all_of(name, [](char c) {
      return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (!good) {
      fail_at(line, "${ must be followed by the name of a variable and }", {}, "write $${ for a plain ${");
      return {};
    }
    auto value = world->environment(name);
    if (!value) {
      fail_at(line, fmt::format("the environment has no variable {}", name), {},
              fmt::format("set it: export {}=…", name));
      return {};
    }
    out += *value;
    i = end + 1;
  }
  return out;
}

std::string ReadState::absolute(const std::string& path) const {
  if (path.empty() || path.front() == '/' || folder.empty()) return path;
  return (std::filesystem::path(folder) / path).lexically_normal().string();
}

MapReader::MapReader(ReadState& state, const YamlNode& node, std::string where)
    : state_(&state), node_(&node), where_(std::move(where)) {
  if (node.kind == YamlNode::Kind::kMap) return;
  if (node.kind != YamlNode::Kind::kNull)
    state_->fail_at(node.line, fmt::format("{} must be a map of keys and values", where_));
  node_ = &kNothing;
}

const YamlNode* MapReader::find(std::string_view key) {
  known_.emplace_back(key);
  for (size_t i = 0; i < node_->keys.size(); ++i)
    if (node_->keys[i] == key && i < node_->items.size()) return &node_->items[i];
  return nullptr;
}

bool MapReader::has(std::string_view key) {
  return find(key) != nullptr;
}

std::string MapReader::scalar(const YamlNode& node, std::string_view key) {
  if (node.kind != YamlNode::Kind::kText) {
    state_->fail_at(node.line, fmt::format("{} of {} must be one value", key, where_));
    return {};
  }
  return state_->expand(node.text, node.line);
}

std::string MapReader::given_as(std::string_view key) const {
  for (const std::string& one : node_->keys)
    if (one == key || one == fmt::format("{}_file", key) || one == fmt::format("{}_command", key)) return one;
  return {};
}

std::vector<std::string> MapReader::setting_names() const {
  std::vector<std::string> names;
  for (std::string name : node_->keys) {
    for (const std::string_view suffix : {"_file", "_command"})
      if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
    if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

Setting MapReader::setting(std::string_view key) {
  const YamlNode* text = find(key);
  std::string file_key = fmt::format("{}_file", key), command_key = fmt::format("{}_command", key);
  const YamlNode* file = find(file_key);
  const YamlNode* command = find(command_key);
  if ((text != nullptr) + (file != nullptr) + (command != nullptr) > 1) {
    state_->fail_at((file ? file : command)->line, fmt::format("{} of {} is given twice", key, where_), {},
                    fmt::format("keep one of {}, {} and {}", key, file_key, command_key));
    return {};
  }
  if (text) return {Setting::From::kText, scalar(*text, key)};
  if (file) return {Setting::From::kFile, state_->absolute(scalar(*file, file_key))};
  if (command) return {Setting::From::kCommand, scalar(*command, command_key)};
  return {};
}

std::string MapReader::text(std::string_view key) {
  Setting value = setting(key);
  if (state_->error) return {};
  auto fetched = value.fetch(*state_->world);
  if (fetched) return *fetched;
  state_->fail_at(line(), fmt::format("{} of {}: {}", key, where_, fetched.error().what),
                  fetched.error().why);
  return {};
}

std::string MapReader::path(std::string_view key) {
  const YamlNode* node = find(key);
  return node ? state_->absolute(scalar(*node, key)) : "";
}

std::string MapReader::choice(std::string_view key, const std::vector<std::string_view>& allowed) {
  const YamlNode* node = find(key);
  if (!node) return {};
  std::string value = scalar(*node, key);
  if (state_->error || std::ranges::find(allowed, value) != allowed.end()) return value;
  std::string list;
  for (std::string_view one : allowed) list += (list.empty() ? "" : ", ") + std::string(one);
  std::string_view meant = nearest(value, allowed);
  state_->fail_at(node->line, fmt::format("{} of {} cannot be \"{}\"", key, where_, value),
                  "it is one of: " + list,
                  meant.empty() ? "" : fmt::format("did you mean {}: {} ?", key, meant));
  return {};
}

std::vector<std::string> MapReader::words(std::string_view key) {
  const YamlNode* node = find(key);
  if (!node || node->kind == YamlNode::Kind::kNull) return {};
  if (node->kind == YamlNode::Kind::kText) return {scalar(*node, key)};
  std::vector<std::string> out;
  if (node->kind != YamlNode::Kind::kList) {
    state_->fail_at(node->line, fmt::format("{} of {} must be a list", key, where_));
    return out;
  }
  for (const YamlNode& item : node->items) out.push_back(scalar(item, key));
  return out;
}

std::optional<Period> MapReader::period(std::string_view key) {
  const YamlNode* node = find(key);
  if (!node) return std::nullopt;
  std::string value = scalar(*node, key);
  if (state_->error) return std::nullopt;
  auto read = parse_period(value);
  if (read) return *read;
  state_->fail_at(node->line, fmt::format("{} of {}: {}", key, where_, read.error().what), read.error().why,
                  read.error().next);
  return std::nullopt;
}

std::optional<int> MapReader::count(std::string_view key, int least, int most) {
  const YamlNode* node = find(key);
  if (!node) return std::nullopt;
  std::string value = scalar(*node, key);
  int number = 0;
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error == std::errc{} && end == value.data() + value.size() && number >= least && number <= most)
    return number;
  state_->fail_at(node->line,
                  fmt::format("{} of {} must be a whole number from {} to {}", key, where_, least, most));
  return std::nullopt;
}

std::optional<uint64_t> MapReader::rate(std::string_view key) {
  return read_as(key, parse_rate);
}

void MapReader::refuse(const YamlNode& node, std::string_view key, const Error& error) {
  state_->fail_at(node.line, fmt::format("{} of {}: {}", key, where_, error.what), error.why, error.next);
}

std::optional<MapReader> MapReader::map(std::string_view key) {
  const YamlNode* node = find(key);
  if (!node) return std::nullopt;
  return MapReader(*state_, *node, fmt::format("{} of {}", key, where_));
}

void MapReader::done() {
  for (size_t i = 0; i < node_->keys.size(); ++i) {
    const std::string& key = node_->keys[i];
    if (std::ranges::find(known_, key) != known_.end()) continue;
    std::vector<std::string_view> candidates;
    std::string list;
    for (const std::string& known : known_) {
      candidates.push_back(known);
      // KEY_file and KEY_command are understood wherever KEY is: naming them would hide the others.
      std::string base = known.substr(0, known.rfind('_'));
      bool is_source = known.ends_with("_file") || known.ends_with("_command");
      if (!is_source || std::ranges::find(known_, base) == known_.end())
        list += (list.empty() ? "" : ", ") + known;
    }
    std::string_view meant = nearest(key, candidates);
    std::string shown = key.substr(0, kWordMax);
    state_->fail_at(node_->key_lines[i], fmt::format("unknown key \"{}\" in {}", shown, where_),
                    "known here: " + list, meant.empty() ? "" : fmt::format("did you mean \"{}\"?", meant));
    return;
  }
}

}  // namespace kuramori
