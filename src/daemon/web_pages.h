// What may be asked over HTTP, and as which words of a command. Pure.
#pragma once
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "net/http.h"
#include "policy/config.h"

namespace kuramori {

struct WebParameter {
  enum class Of { kResource, kVault, kSnapshot, kCount, kName };
  std::string_view name;
  Of of = Of::kResource;
  std::string_view option = {};  // "--vault"; "": an argument
  bool required = false;
};

// What a path asks: the words of a command, and what of the query becomes more of them.
struct WebPage {
  const char* path;
  std::vector<std::string> words;
  std::vector<WebParameter> parameters;
  Duration fresh = std::chrono::seconds(5);  // for so long one answer serves all who ask
};
const std::vector<WebPage>& web_pages();

// Nothing that was sent becomes a word of a command unless it is a known name, a number or hexadecimal: no
// option can be smuggled in, and no question can be asked that has no end of variants. kUsage otherwise.
Result<std::vector<std::string>> words_of(const WebPage& page, const std::vector<HttpHeader>& query,
                                          const Config& config);

}  // namespace kuramori
