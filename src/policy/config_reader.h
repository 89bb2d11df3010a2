// Reads one map of the configuration key by key: what is not asked for is unknown, what has the wrong shape
// is an error with its line. Errors are collected in the shared ReadState, the first one wins: that keeps the
// code that reads a plan a plain list of its keys.
//
// The same code describes itself: over a Shape instead of a file every key is absent, every map and list has
// one entry, and what is asked for is written down.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "policy/key_lines.h"
#include "policy/setting.h"
#include "policy/shape.h"
#include "policy/yaml_tree.h"

namespace kuramori {

struct ReadState {
  const ConfigWorld* world;
  std::string file;    // for messages
  std::string folder;  // relative paths start here; "" keeps them relative
  std::optional<Error> error;
  bool describing = false;  // there is no file: nothing is wrong with it

  void fail_at(int line, std::string what, std::string why = {}, std::string next = {});
  // `${NAME}` from the environment, `$${` for a plain `${`.
  std::string expand(const std::string& text, int line);
  std::string absolute(const std::string& path) const;
};

class MapReader {
 public:
  // `where` is what messages call it: `plan "orders"`.
  MapReader(ReadState& state, const YamlNode& node, std::string where, int key_line = 0);
  // Describes: `shape` becomes a map with the keys that are asked for. It must outlive this.
  MapReader(ReadState& state, Shape& shape);

  bool describing() const { return shape_ != nullptr; }
  int line() const { return node_->line != 0 ? node_->line : key_line_; }
  KeyLines lines() const;
  const std::string& where() const { return where_; }
  bool has(std::string_view key);
  const YamlNode* find(std::string_view key);  // marks it known; null when absent

  // KEY, KEY_file or KEY_command: the one that stands there, "" for none.
  std::string given_as(std::string_view key) const;
  // All keys as those of settings: without _file and _command, each once, in the order of the file.
  std::vector<std::string> setting_names() const;

  // True if the value is of this kind of node, or would be asked for as such.
  bool holds(std::string_view key, YamlNode::Kind kind);
  // True if the value is this word, which then means something of its own.
  bool is_word(std::string_view key, std::string_view word);

  // Of any string key: KEY, KEY_file or KEY_command, at most one of them.
  Setting setting(std::string_view key);
  std::string text(std::string_view key);  // fetched at once
  std::string path(std::string_view key);  // absolute
  std::string choice(std::string_view key, const std::vector<std::string_view>& allowed);
  std::vector<std::string> words(std::string_view key);  // a list of strings, or one string
  // The same, each one of `allowed`.
  std::vector<std::string> choices(std::string_view key, const std::vector<std::string_view>& allowed);
  bool is_yes(std::string_view key);  // true or false; absent: false
  std::optional<Period> period(std::string_view key);
  std::optional<int> count(std::string_view key, int least, int most);
  std::optional<uint64_t> rate(std::string_view key);
  std::string zone(std::string_view key);  // of time; known to this machine
  // A value of its own kind, by what reads such a text: `parse(std::string_view) -> Result<T>`.
  template <class T>
  std::optional<T> read_as(std::string_view key, Result<T> (*parse)(std::string_view)) {
    describe(key, {});
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
  // A list of maps: `read(MapReader&)` for each. `noun` is what messages call one, `example` how one is
  // written.
  template <class Read>
  void each(std::string_view key, std::string_view noun, std::string_view example, Read&& read) {
    for (MapReader& item : entries(key, noun, example)) {
      read(item);
      item.done();
    }
  }
  // A map of names that the user gives: `read(name, MapReader&)` for each.
  template <class Read>
  void named(std::string_view key, std::string_view noun, Read&& read) {
    for (auto& [name, one] : named_entries(key, noun)) {
      read(name, one);
      if (state_->error) return;
    }
  }
  // What the map has when `key` says `word`; while describing alone.
  MapReader variant(std::string_view key, std::string_view word);
  // Every key must have been asked for by now.
  void done();
  // It takes keys that nobody asks for by name.
  void take_any_key();

  // A scalar's text with ${} expanded; an error for lists, maps and nothing.
  std::string scalar(const YamlNode& node, std::string_view key);
  ReadState& state() { return *state_; }

 private:
  void refuse(const YamlNode& node, std::string_view key, const Error& error);
  std::vector<MapReader> entries(std::string_view key, std::string_view noun, std::string_view example);
  std::vector<std::pair<std::string, MapReader>> named_entries(std::string_view key, std::string_view noun);
  std::string chosen(const YamlNode& node, std::string_view key,
                     const std::vector<std::string_view>& allowed);
  int line_of(std::string_view key) const;
  // Notes what `key` may be; null unless describing.
  Shape* describe(std::string_view key, Shape shape, bool from_elsewhere = false);

  ReadState* state_;
  const YamlNode* node_;
  std::string where_;
  int key_line_ = 0;
  Shape* shape_ = nullptr;  // where it is described
  std::vector<std::string> known_;
};

}  // namespace kuramori
