// YAML as a plain tree with line numbers: what the rest of policy reads, so that the library stays in one
// file. Duplicate keys, several documents and trees beyond the limits are refused here.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace kuramori {

constexpr size_t kYamlNodesMax = 100'000;  // nodes after aliases are expanded
constexpr size_t kYamlDepthMax = 64;       // levels

struct YamlNode {
  enum class Kind { kNull, kText, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 0;                   // from 1
  std::string text;               // of a scalar, quotes removed
  bool quoted = false;            // it was written in quotes: never a number or a boolean
  std::vector<YamlNode> items;    // of a list; the values of a map
  std::vector<std::string> keys;  // of a map, in the order of `items`
  std::vector<int> key_lines;
};

// `name` stands in messages ("kuramori.yaml:12: …"). An empty text is a kNull node.
Result<YamlNode> parse_yaml(std::string_view text, const std::string& name);

}  // namespace kuramori
