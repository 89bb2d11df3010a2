// What a configuration says, as a text of its own: keys in order, no comments, no secrets. It is what is kept
// of a configuration that was applied, and what two configurations are compared by: how a file is laid out,
// and in which order it names things, is no difference.
//
// A secret is left out, not hashed: whoever may see the structure of a vault could try the short ones. So a
// password that changed in the file is no difference either; where one comes from (KEY_file, KEY_command,
// ${VARIABLE}) is.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace kuramori {

constexpr std::string_view kHiddenSecret = "(hidden)";

// YAML in one line, read by parse_config() as the file itself. kUsage: `text` is no YAML; `name` stands in
// messages.
Result<std::string> canonical_config(std::string_view text, const std::string& name);
// A value without what may be a secret in it: passwords of URLs and connection strings, what is behind the
// address of a chat.
std::string without_secrets(std::string_view key, std::string_view value);

// `plans.orders.keep.all` is `14d`. One of a list of maps is named by what names it there: `copies[osaka]`.
struct ConfigLine {
  std::string key, value;
  bool operator==(const ConfigLine&) const = default;
};
// By key. `canonical` is what canonical_config() gave.
Result<std::vector<ConfigLine>> lines_of_config(std::string_view canonical);

struct ConfigChange {
  std::string key;
  std::optional<std::string> before, after;  // nothing: the key was, or is, not there
};
// By key.
std::vector<ConfigChange> changes_between(const std::vector<ConfigLine>& before,
                                          const std::vector<ConfigLine>& after);

}  // namespace kuramori
