// Tags as they are typed.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"

namespace kuramori {

// "KEY=VALUE" each; the last of a key counts. kUsage when one is none.
Result<std::map<std::string, std::string>> parse_tags(const std::vector<std::string>& given);

// To choose by: of each key, any of the values given for it. kUsage when one is no tag.
Result<std::map<std::string, std::set<std::string>>> parse_tag_choices(const std::vector<std::string>& given);

}  // namespace kuramori
