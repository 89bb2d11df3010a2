#include "net/url.h"

#include <fmt/core.h>

#include <algorithm>

#include <charconv>

namespace kuramori {
namespace {

constexpr int kPortMax = 65535;

bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_host(std::string_view host) {
  if (host.empty()) return false;
  bool bracketed = host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  for (char c : host) {
    if (!is_unreserved(c) && !(bracketed && c == ':')) return false;
  }
  return !host.empty();
}

}  // namespace

std::string percent_encode(std::string_view text, Slash slash) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size() + 16);
  for (char c : text) {
    if (is_unreserved(c) || (c == '/' && slash == Slash::kKeep)) {
      out += c;
    } else {
      auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out;
}

Result<std::string> percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
    if (high < 0 || low < 0)
      return fail(ErrorKind::kUsage, fmt::format("\"{}\" is not percent-encoded", text.substr(0, 200)),
                  "a % must be followed by two hexadecimal digits");
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

Result<QueryParameters> parse_query(std::string_view text) {
  QueryParameters parameters;
  while (!text.empty()) {
    size_t end = text.find('&');
    std::string_view item = text.substr(0, end);
    text = end == text.npos ? std::string_view() : text.substr(end + 1);
    if (item.empty()) continue;
    size_t equals = item.find('=');
    TRY_ASSIGN(std::string key, percent_decode(item.substr(0, equals)));
    TRY_ASSIGN(std::string value,
               percent_decode(equals == item.npos ? std::string_view() : item.substr(equals + 1)));
    parameters.emplace_back(std::move(key), std::move(value));
  }
  return parameters;
}

std::string HttpEndpoint::authority() const {
  bool usual = port == 0 || port == (tls ? 443 : 80);
  return usual ? host : fmt::format("{}:{}", host, port);
}

std::string HttpEndpoint::url() const {
  return fmt::format("{}://{}", tls ? "https" : "http", authority());
}

Result<HttpEndpoint> parse_endpoint(std::string_view text) {
  HttpEndpoint endpoint;
  std::string_view rest = text;
  if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
    endpoint.tls = false;
  }
  if (rest.ends_with('/')) rest.remove_suffix(1);
  size_t colon = rest.rfind(':');
  if (colon != rest.npos && rest.find(']', colon) == rest.npos) {
    std::string_view port = rest.substr(colon + 1);
    auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
    if (error != std::errc{} || end != port.data() + port.size() || endpoint.port < 1 ||
        endpoint.port > kPortMax)
      endpoint.port = -1;
    rest = rest.substr(0, colon);
  }
  endpoint.host = rest;
  if (endpoint.port < 0 || !is_host(rest))
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no endpoint", text.substr(0, 200)),
                "an endpoint is a scheme, a host and perhaps a port, and no path",
                "write endpoint: https://s3.example.jp");
  return endpoint;
}

std::string masked_url(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme == url.npos) return std::string(url);
  const size_t begin = scheme + 3, end = std::min(url.find_first_of("/?#", begin), url.size());
  const std::string_view authority = url.substr(begin, end - begin);
  const size_t at = authority.rfind('@'), colon = authority.find(':');
  std::string out(url.substr(0, begin));
  if (at != authority.npos && colon < at)
    out += fmt::format("{}:…{}", authority.substr(0, colon), authority.substr(at));
  else
    out += authority;
  std::string_view rest = url.substr(end);
  const size_t question = rest.find('?');
  if (question == rest.npos) return out.append(rest);
  out += rest.substr(0, question);
  rest.remove_prefix(question);
  while (!rest.empty()) {  // "?a=b", "&c=d", …
    const std::string_view part = rest.substr(0, std::min(rest.find('&', 1), rest.size()));
    const std::string_view name = part.substr(1, std::min(part.find('='), part.size()) - 1);
    const bool is_secret = name.ends_with("password") || name.ends_with("secret") || name.ends_with("token");
    out += is_secret ? fmt::format("{}{}=…", part.front(), name) : std::string(part);
    rest.remove_prefix(part.size());
  }
  return out;
}

}  // namespace kuramori
