#include "cli/tags.h"

#include <fmt/core.h>

#include <utility>

namespace kuramori {
namespace {

Result<std::pair<std::string, std::string>> parse_tag(const std::string& tag) {
  const size_t equals = tag.find('=');
  if (equals == tag.npos || equals == 0)
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is not a tag", tag.substr(0, 60)), "",
                "write --tag KEY=VALUE");
  return std::pair(tag.substr(0, equals), tag.substr(equals + 1));
}

}  // namespace

Result<std::map<std::string, std::string>> parse_tags(const std::vector<std::string>& given) {
  std::map<std::string, std::string> tags;
  for (const std::string& text : given) {
    TRY_ASSIGN(auto tag, parse_tag(text));
    tags[std::move(tag.first)] = std::move(tag.second);
  }
  return tags;
}

Result<std::map<std::string, std::set<std::string>>> parse_tag_choices(
    const std::vector<std::string>& given) {
  std::map<std::string, std::set<std::string>> choices;
  for (const std::string& text : given) {
    TRY_ASSIGN(auto tag, parse_tag(text));
    choices[std::move(tag.first)].insert(std::move(tag.second));
  }
  return choices;
}

}  // namespace kuramori
