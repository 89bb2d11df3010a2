#include "source/git/remote.h"

#include <fmt/core.h>

#include <algorithm>

#include "net/url.h"

namespace kuramori::git {
namespace {

constexpr std::string_view kForms =
    "url: an absolute path, https://host/path.git, ssh://user@host/path.git, git://host/path.git";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// nothing for a '%' without two digits, or one that hides a control character.
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      out += text[at];
      continue;
    }
    if (at + 2 >= text.size() || hex_value(text[at + 1]) < 0 || hex_value(text[at + 2]) < 0)
      return std::nullopt;
    const int value = hex_value(text[at + 1]) * 16 + hex_value(text[at + 2]);
    if (value < 0x20 || value == 0x7f) return std::nullopt;
    out += static_cast<char>(value);
    at += 2;
  }
  return out;
}

Error bad(std::string_view text, std::string why) {
  return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no address of a repository", masked_url(text)),
              std::move(why), std::string(kForms));
}

bool is_host(std::string_view host) {
  if (host.empty() || host.front() == '-') return false;
  return std::ranges::all_of(host, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']';
  });
}

Result<Remote> folder(std::string_view text, std::string_view path) {
  if (!path.starts_with('/')) return bad(text, "a folder is named by its absolute path");
  return Remote{
      .way = Remote::Way::kFolder, .scheme = "file", .url = std::string(path), .path = std::string(path)};
}

}  // namespace

Result<Remote> parse_remote(std::string_view text) {
  if (text.empty()) return bad(text, "it is empty");
  const bool has_control = std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (has_control) return bad("…", "it holds a control character");
  if (text.front() == '-') return bad(text, "it begins with '-'");
  if (text.front() == '/') return folder(text, text);
  const size_t scheme_end = text.find("://");
  if (text.find("::") < scheme_end)
    return bad(text, "addresses of helper programs (ext::…) run commands and are not taken");
  if (scheme_end == std::string_view::npos) {
    // user@host:path, as scp has it.
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) return bad(text, "it is neither an absolute path nor a URL");
    const std::string_view login = text.substr(0, colon);
    const std::string_view host =
        login.substr(login.find('@') == std::string_view::npos ? 0 : login.find('@') + 1);
    if (!is_host(host) || text.size() == colon + 1 || text[colon + 1] == '-')
      return bad(text, "its host or path cannot be one");
    return Remote{.way = Remote::Way::kSsh, .scheme = "ssh", .url = std::string(text)};
  }
  Remote remote{.scheme = std::string(text.substr(0, scheme_end)), .url = std::string(text)};
  const std::string_view rest = text.substr(scheme_end + 3);
  if (remote.scheme == "file") {
    auto path = decoded(rest);
    if (!path) return bad(text, "its path is not well encoded");
    return folder(text, *path);
  }
  const std::string_view authority = rest.substr(0, rest.find('/'));
  const std::string_view path = rest.substr(authority.size());
  const size_t at = authority.rfind('@');
  const std::string_view login = at == std::string_view::npos ? "" : authority.substr(0, at);
  const std::string_view host = at == std::string_view::npos ? authority : authority.substr(at + 1);
  if (!is_host(host)) return bad(text, "its host cannot be one");
  if (path.size() < 2) return bad(text, "it names no repository on its host");
  if (login.starts_with('-')) return bad(text, "its user begins with '-'");
  if (remote.scheme == "ssh") {
    if (login.find(':') != std::string_view::npos)
      return bad(text, "over ssh there is a key, and no password in the address");
    remote.way = Remote::Way::kSsh;
    return remote;
  }
  if (remote.scheme == "git") {
    if (!login.empty()) return bad(text, "git:// knows no users");
    remote.way = Remote::Way::kGit;
    return remote;
  }
  if (remote.scheme != "http" && remote.scheme != "https")
    return bad(text, fmt::format("\"{}\" is not a scheme that is taken", remote.scheme));
  remote.way = Remote::Way::kHttp;
  const size_t colon = login.find(':');
  const auto user = decoded(login.substr(0, colon));
  const auto password = decoded(colon == std::string_view::npos ? "" : login.substr(colon + 1));
  if (!user || !password) return bad(text, "its user or password is not well encoded");
  remote.user = *user;
  remote.password = *password;
  remote.site = fmt::format("{}://{}", remote.scheme, host);
  remote.url = fmt::format("{}{}", remote.site, path);
  return remote;
}

}  // namespace kuramori::git
