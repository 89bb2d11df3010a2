// Percent-encoding as RFC 3986 and Signature Version 4 want it, and the parts of a URL.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace kuramori {

enum class Slash { kEncode, kKeep };
// Everything but A–Z a–z 0–9 - . _ ~ (and '/', where kept) becomes %XX, upper case.
std::string percent_encode(std::string_view text, Slash slash = Slash::kEncode);
// kUsage for a '%' without two hexadecimal digits. '+' stays '+'.
Result<std::string> percent_decode(std::string_view text);

using QueryParameters = std::vector<std::pair<std::string, std::string>>;  // decoded
// "a=1&b=%2F&c" → {a,1} {b,/} {c,""}.
Result<QueryParameters> parse_query(std::string_view text);

// A URL as people may see it: a password in it is "…", also one given as a parameter (password=, or whatever
// ends with password, secret or token). Other text stays.
std::string masked_url(std::string_view url);

struct HttpEndpoint {
  bool tls = true;
  std::string host;  // "s3.example.jp", "[::1]"
  int port = 0;      // 0: the scheme's own

  std::string authority() const;  // as the Host header has it: the port only where it is not the scheme's
  std::string url() const;        // "https://s3.example.jp:8443"
};
// "https://s3.example.jp", "http://127.0.0.1:8000/"; without a scheme: https. kUsage for anything else.
Result<HttpEndpoint> parse_endpoint(std::string_view text);

}  // namespace kuramori
