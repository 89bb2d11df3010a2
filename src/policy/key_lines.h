// Where a map of the configuration and its keys stand in the file, for what is said of them after reading.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kuramori {

struct KeyLines {
  int own = 0;                                    // of the map's name; 0: no file speaks of it
  std::vector<std::pair<std::string, int>> keys;  // in the order of the file

  // The line of KEY, KEY_file or KEY_command; where none of them is, of the map.
  int of(std::string_view key) const {
    for (const auto& [name, line] : keys) {
      if (!name.starts_with(key)) continue;
      const std::string_view rest = std::string_view(name).substr(key.size());
      if (rest.empty() || rest == "_file" || rest == "_command") return line;
    }
    return own;
  }
};

}  // namespace kuramori
