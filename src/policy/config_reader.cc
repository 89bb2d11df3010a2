#include "policy/config_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/time_text.h"
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
constexpr size_t kNameMax = 63;  // characters of a name: of a vault, a resource, a plan …

// Names stand in commands (`orders-db@latest`) and messages.
void check_name(ReadState& state, const std::string& name, int line, std::string_view noun) {
  bool good = !name.empty() && name.size() <= kNameMax && name.front() != '-' && name.front() != '.' &&
              name.front() != '/' && std::ranges::all_of(name, [](char c) {
                return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '/';
              });
  if (!good)
    state.fail_at(line, fmt::format("\"{}\" cannot name a {}", name.substr(0, kNameMax), noun),
                  fmt::format("a name has 1–{} letters, digits, and - _ . / inside", kNameMax));
}

Shape choice_of(const std::vector<std::string_view>& allowed) {
  Shape shape{.is = Shape::Is::kChoice};
  for (const std::string_view word : allowed) shape.words.emplace_back(word);
  return shape;
}

// A list of `item`, or one of it alone.
Shape list_of(Shape item) {
  Shape shape{.is = Shape::Is::kList};
  shape.of.push_back(std::move(item));
  return shape;
}

bool has_variable(std::string_view text) {
  for (size_t at = text.find("${"); at != text.npos; at = text.find("${", at + 2))
    if (at == 0 || text[at - 1] != '$') return true;
  return false;
}

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
  if (error || describing) return;
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

MapReader::MapReader(ReadState& state, const YamlNode& node, std::string where, int key_line)
    : state_(&state), node_(&node), where_(std::move(where)), key_line_(key_line) {
  if (node.kind == YamlNode::Kind::kMap) return;
  if (node.kind != YamlNode::Kind::kNull)
    state_->fail_at(node.line, fmt::format("{} must be a map of keys and values", where_));
  node_ = &kNothing;
}

MapReader::MapReader(ReadState& state, Shape& shape) : state_(&state), node_(&kNothing), shape_(&shape) {
  shape.is = Shape::Is::kMap;
}

KeyLines MapReader::lines() const {
  KeyLines lines{.own = key_line_ != 0 ? key_line_ : node_->line};
  for (size_t i = 0; i < node_->keys.size(); ++i)
    lines.keys.emplace_back(node_->keys[i], node_->key_lines[i]);
  return lines;
}

Shape* MapReader::describe(std::string_view key, Shape shape, bool from_elsewhere) {
  if (!shape_) return nullptr;
  auto known = std::ranges::find(shape_->keys, key, &ShapeKey::name);
  if (known == shape_->keys.end())
    known = shape_->keys.insert(shape_->keys.end(), ShapeKey{.name = std::string(key)});
  known->from_elsewhere |= from_elsewhere;
  return &known->any.emplace_back(std::move(shape));
}

const YamlNode* MapReader::find(std::string_view key) {
  if (std::ranges::find(known_, key) == known_.end()) known_.emplace_back(key);
  for (size_t i = 0; i < node_->keys.size(); ++i)
    if (node_->keys[i] == key && i < node_->items.size()) return &node_->items[i];
  return nullptr;
}

bool MapReader::has(std::string_view key) {
  return find(key) != nullptr;
}

bool MapReader::holds(std::string_view key, YamlNode::Kind kind) {
  const YamlNode* node = find(key);
  return describing() || (node && node->kind == kind);
}

bool MapReader::is_word(std::string_view key, std::string_view word) {
  describe(key, choice_of({word}));
  const YamlNode* node = find(key);
  return node && node->kind == YamlNode::Kind::kText && node->text == word;
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
  describe(key, {}, true);
  const YamlNode* text = find(key);
  std::string file_key = fmt::format("{}_file", key), command_key = fmt::format("{}_command", key);
  const YamlNode* file = find(file_key);
  const YamlNode* command = find(command_key);
  if ((text != nullptr) + (file != nullptr) + (command != nullptr) > 1) {
    state_->fail_at((file ? file : command)->line, fmt::format("{} of {} is given twice", key, where_), {},
                    fmt::format("keep one of {}, {} and {}", key, file_key, command_key));
    return {};
  }
  if (text) {
    const auto from = has_variable(text->text) ? Setting::From::kVariable : Setting::From::kText;
    return {from, scalar(*text, key), text->line};
  }
  if (file) return {Setting::From::kFile, state_->absolute(scalar(*file, file_key)), file->line};
  if (command) return {Setting::From::kCommand, scalar(*command, command_key), command->line};
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
  describe(key, {});
  const YamlNode* node = find(key);
  return node ? state_->absolute(scalar(*node, key)) : "";
}

std::string MapReader::choice(std::string_view key, const std::vector<std::string_view>& allowed) {
  describe(key, choice_of(allowed));
  const YamlNode* node = find(key);
  return node ? chosen(*node, key, allowed) : "";
}

std::string MapReader::chosen(const YamlNode& node, std::string_view key,
                              const std::vector<std::string_view>& allowed) {
  std::string value = scalar(node, key);
  if (state_->error || std::ranges::find(allowed, value) != allowed.end()) return value;
  std::string list;
  for (std::string_view one : allowed) list += (list.empty() ? "" : ", ") + std::string(one);
  std::string_view meant = nearest(value, allowed);
  state_->fail_at(node.line, fmt::format("{} of {} cannot be \"{}\"", key, where_, value),
                  "it is one of: " + list,
                  meant.empty() ? "" : fmt::format("did you mean {}: {} ?", key, meant));
  return {};
}

bool MapReader::is_yes(std::string_view key) {
  return choice(key, {"true", "false"}) == "true";
}

std::vector<std::string> MapReader::choices(std::string_view key,
                                            const std::vector<std::string_view>& allowed) {
  describe(key, list_of(choice_of(allowed)));
  std::vector<std::string> out;
  const YamlNode* node = find(key);
  if (!node || node->kind == YamlNode::Kind::kNull) return out;
  if (node->kind != YamlNode::Kind::kList) return {chosen(*node, key, allowed)};
  for (const YamlNode& item : node->items) out.push_back(chosen(item, key, allowed));
  return out;
}

std::vector<std::string> MapReader::words(std::string_view key) {
  describe(key, list_of({}));
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
  describe(key, {.is = Shape::Is::kPeriod});
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
  describe(key, {.is = Shape::Is::kCount, .least = least, .most = most});
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

std::string MapReader::zone(std::string_view key) {
  const std::string name = text(key);
  if (name.empty() || state_->error) return name;
  if (auto known = check_zone(name); !known)
    state_->fail_at(line_of(key), fmt::format("{} of {}: {}", key, where_, known.error().what),
                    known.error().why, known.error().next);
  return name;
}

void MapReader::refuse(const YamlNode& node, std::string_view key, const Error& error) {
  state_->fail_at(node.line, fmt::format("{} of {}: {}", key, where_, error.what), error.why, error.next);
}

std::optional<MapReader> MapReader::map(std::string_view key) {
  if (Shape* shape = describe(key, {.is = Shape::Is::kMap})) return MapReader(*state_, *shape);
  const YamlNode* node = find(key);
  if (!node) return std::nullopt;
  return MapReader(*state_, *node, fmt::format("{} of {}", key, where_), line_of(key));
}

std::vector<MapReader> MapReader::entries(std::string_view key, std::string_view noun,
                                          std::string_view example) {
  std::vector<MapReader> out;
  if (Shape* shape = describe(key, list_of({.is = Shape::Is::kMap}))) {
    out.emplace_back(*state_, shape->of.front());
    return out;
  }
  const YamlNode* node = find(key);
  if (!node || node->kind == YamlNode::Kind::kNull) return out;
  if (node->kind != YamlNode::Kind::kList)
    state_->fail_at(node->line, fmt::format("{} of {} must be a list", key, where_), {},
                    fmt::format("write - {}", example));
  for (const YamlNode& item : node->items)
    out.emplace_back(*state_, item, fmt::format("{} of {}", noun, where_), item.line);
  return out;
}

std::vector<std::pair<std::string, MapReader>> MapReader::named_entries(std::string_view key,
                                                                        std::string_view noun) {
  std::vector<std::pair<std::string, MapReader>> out;
  Shape names{.is = Shape::Is::kNames};
  names.of.push_back({.is = Shape::Is::kMap});
  if (Shape* shape = describe(key, std::move(names))) {
    out.emplace_back("name", MapReader(*state_, shape->of.front()));
    return out;
  }
  const YamlNode* node = find(key);
  if (!node || node->kind == YamlNode::Kind::kNull) return out;
  if (node->kind != YamlNode::Kind::kMap) {
    state_->fail_at(node->line, fmt::format("{} must be a map of names", key));
    return out;
  }
  for (size_t i = 0; i < node->keys.size() && i < node->items.size(); ++i) {
    const std::string& name = node->keys[i];
    check_name(*state_, name, node->key_lines[i], noun);
    if (state_->error) return out;
    out.emplace_back(
        name, MapReader(*state_, node->items[i], fmt::format("{} \"{}\"", noun, name), node->key_lines[i]));
  }
  return out;
}

MapReader MapReader::variant(std::string_view key, std::string_view word) {
  Shape& shape = shape_->variants.emplace_back();
  shape.variant_key = key;
  shape.variant = word;
  return MapReader(*state_, shape);
}

void MapReader::take_any_key() {
  if (shape_) shape_->is_open = true;
}

int MapReader::line_of(std::string_view key) const {
  for (size_t i = 0; i < node_->keys.size(); ++i)
    if (node_->keys[i] == key) return node_->key_lines[i];
  return line();
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
