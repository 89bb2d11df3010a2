// Reads one map of the configuration key by key: what is not asked for is unknown, what has the wrong shape
// is an error with its line. Errors are collected in the shared ReadState, the first one wins: that keeps the
// code that reads a plan a plain list of its keys.
#pragma once
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "policy/setting.h"
#include "policy/yaml_tree.h"

namespace kuramori {

struct ReadState {
  const ConfigWorld* world;
  std::string file;    // for messages
  std::string folder;  // relative paths start here; "" keeps them relative
  std::optional<Error> error;

  void fail_at(int line, std::string what, std::string why = {}, std::string next = {});
  // `${NAME}` from the environment, `$${` for a plain `${`.
  std::string expand(const std::string& text, int line);
  std::string absolute(const std::string& path) const;
};

class MapReader {
 public:
  // `where` is what messages call it: `plan "orders"`.
  MapReader(ReadState& state, const YamlNode& node, std::string where);

  int line() const { return node_->line; }
  const std::string& where() const { return where_; }
  bool has(std::string_view key);
  const YamlNode* find(std::string_view key);  // marks it known; null when absent

  // KEY, KEY_file or KEY_command: the one that stands there, "" for none.
  std::string given_as(std::string_view key) const;
  // All keys as those of settings: without _file and _command, each once, in the order of the file.
  std::vector<std::string> setting_names() const;

  // Of any string key: KEY, KEY_file or KEY_command, at most one of them.
  Setting setting(std::string_view key);
  std::string text(std::string_view key);  // fetched at once
  std::string path(std::string_view key);  // absolute
  std::string choice(std::string_view key, const std::vector<std::string_view>& allowed);
  std::vector<std::string> words(std::string_view key);  // a list of strings, or one string
  std::optional<Period> period(std::string_view key);
  std::optional<int> count(std::string_view key, int least, int most);
  std::optional<uint64_t> rate(std::string_view key);
  // A value of its own kind, by what reads such a text: `parse(std::string_view) -> Result<T>`.
  template <class T>
  std::optional<T> read_as(std::string_view key, Result<T> (*parse)(std::string_view)) {
    const YamlNode* node = find(key);
    if (!node) return std::nullopt;
    const std::string value = scalar(*node, key);
    if (state_->error) return std::nullopt;
    auto read = parse(value);
    if (read) return *read;
    refuse(*node, key, read.error());
    return std::nullopt;
  }
  std::optional<MapReader> map(std::string_view key);
  // Every key must have been asked for by now.
  void done();

  // A scalar's text with ${} expanded; an error for lists, maps and nothing.
  std::string scalar(const YamlNode& node, std::string_view key);
  ReadState& state() { return *state_; }

 private:
  void refuse(const YamlNode& node, std::string_view key, const Error& error);

  ReadState* state_;
  const YamlNode* node_;
  std::string where_;
  std::vector<std::string> known_;
};

}  // namespace kuramori
