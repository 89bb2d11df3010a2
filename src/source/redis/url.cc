#include "source/redis/url.h"

#include <fmt/core.h>

#include <charconv>

#include "net/url.h"

namespace kuramori::redis {
namespace {

constexpr int kPortMax = 65535;
constexpr std::string_view kForms =
    "redis://[user[:password]@]host[:port][/db], rediss://… or unix:///path.sock";

// The text is not repeated: it may hold a password.
Error wrong(std::string_view why) {
  return fail(ErrorKind::kUsage, "the address of the Redis server cannot be read", std::string(why),
              fmt::format("write it as {}", kForms));
}

Result<int> number_of(std::string_view text, int max, std::string_view name) {
  int value = -1;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || value < 0 || value > max)
    return wrong(fmt::format("\"{}\" is no {}", text, name));
  return value;
}

// Takes what follows the first `mark` off `text`; "" if there is none.
std::string_view split_off(std::string_view& text, char mark) {
  const size_t at = text.find(mark);
  if (at == std::string_view::npos) return {};
  std::string_view rest = text.substr(at + 1);
  text = text.substr(0, at);
  return rest;
}

Result<void> read_query(std::string_view text, Endpoint& endpoint) {
  TRY_ASSIGN(const QueryParameters parameters, parse_query(text));
  for (const auto& [name, value] : parameters) {
    if (endpoint.tls && name == "ca_file") {
      endpoint.ca_file = value;
    } else if (endpoint.tls && name == "cert_file") {
      endpoint.cert_file = value;
    } else if (endpoint.tls && name == "key_file") {
      endpoint.key_file = value;
    } else if (!endpoint.socket.empty() && name == "user") {
      endpoint.user = value;
    } else {
      return wrong(fmt::format("\"{}\" means nothing here{}", name,
                               name.ends_with("_file") ? "; files of TLS go with rediss://" : ""));
    }
  }
  return {};
}

Result<void> read_user(std::string_view text, Endpoint& endpoint) {
  const std::string_view password = split_off(text, ':');
  TRY_ASSIGN(endpoint.user, percent_decode(text));
  TRY_ASSIGN(endpoint.password, percent_decode(password));
  return {};
}

Result<void> read_host(std::string_view text, Endpoint& endpoint) {
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return wrong("the ] of an IPv6 address is missing");
    endpoint.host = text.substr(1, end - 1);
    std::string_view rest = text.substr(end + 1);
    if (!rest.empty() && !rest.starts_with(':')) return wrong("something stands between ] and the port");
    if (!rest.empty()) port = rest.substr(1);
  } else {
    port = split_off(text, ':');
    TRY_ASSIGN(endpoint.host, percent_decode(text));
  }
  if (endpoint.host.empty()) return wrong("it names no host");
  if (!port.empty()) {
    TRY_ASSIGN(endpoint.port, number_of(port, kPortMax, "port"));
    if (endpoint.port == 0) return wrong("0 is no port");
  }
  return {};
}

}  // namespace

std::string Endpoint::describe() const {
  if (!socket.empty()) return "unix://" + socket;
  const bool brackets = host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}{}{}:{}", tls ? "rediss" : "redis", user, user.empty() ? "" : "@",
                     brackets ? "[" : "", host, brackets ? "]" : "", port);
}

bool Endpoint::is_local() const {
  return !socket.empty() || host == "localhost" || host == "::1" || host.starts_with("127.");
}

Result<Endpoint> parse_url(std::string_view text) {
  Endpoint endpoint;
  if (text.starts_with("unix://")) {
    std::string_view path = text.substr(7);
    const std::string_view query = split_off(path, '?');
    TRY_ASSIGN(endpoint.socket, percent_decode(path));
    if (!endpoint.socket.starts_with('/')) return wrong("the path of the socket must begin with /");
    TRY(read_query(query, endpoint));
    return endpoint;
  }
  endpoint.tls = text.starts_with("rediss://");
  if (!endpoint.tls && !text.starts_with("redis://"))
    return wrong("it begins with none of the known schemes");
  std::string_view rest = text.substr(text.find("://") + 3);
  const std::string_view query = split_off(rest, '?');
  const std::string_view database = split_off(rest, '/');
  // The last @: a password that was not encoded may hold one.
  if (const size_t at = rest.rfind('@'); at != std::string_view::npos) {
    TRY(read_user(rest.substr(0, at), endpoint));
    rest.remove_prefix(at + 1);
  }
  TRY(read_host(rest, endpoint));
  if (!database.empty()) {
    TRY_ASSIGN(endpoint.database, number_of(database, INT32_MAX, "database number"));
  }
  TRY(read_query(query, endpoint));
  return endpoint;
}

}  // namespace kuramori::redis
