// How a registry wants to be asked: the challenge of a 401, and the token that answers it.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/world.h"

namespace kuramori::image {

// What WWW-Authenticate says (RFC 9110 §11, the distribution project's token authentication).
struct Challenge {
  enum class Scheme : uint8_t { kBasic, kBearer } scheme = Scheme::kBasic;
  std::string realm, service, scope;
};
// The one of the header's challenges that can be answered, Bearer before Basic; nothing: none can.
std::optional<Challenge> parse_challenge(std::string_view header);

struct Token {
  std::string text;
  Duration lasts{};
};
// The answer of a token server. kDamaged: there is no token in it.
Result<Token> parse_token(ByteView body);

// The registry's own words of an error: "MANIFEST_UNKNOWN: manifest unknown"; "" when it has none. Cut, and
// without what would move a terminal.
std::string words_of(ByteView body);

// The names in `key` of a list document: {"tags": [...]}, {"repositories": [...]}. kDamaged.
Result<std::vector<std::string>> parse_names(ByteView body, const char* key);

}  // namespace kuramori::image
