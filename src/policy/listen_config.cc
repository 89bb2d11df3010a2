#include "policy/listen_config.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "policy/config_reader.h"

namespace kuramori {
namespace {

constexpr std::string_view kRoles[] = {"viewer", "operator", "owner"};
constexpr std::string_view kHash = "sha256:";
constexpr size_t kHashDigits = 64;

// Once its keys are known to be right.
void check_token(ReadState& state, const TokenConfig& one) {
  const std::string where =
      one.name.empty() ? "a token of listen" : fmt::format("the token \"{}\"", one.name);
  if (one.name.empty() || one.role.empty())
    state.fail_at(one.lines.own, where + " needs a name and a role", {},
                  "write - { name: prometheus, role: viewer, hash: \"sha256:…\" }");
  check_token_given(state, one, where);
}

void check_public_url(ReadState& state, const ListenConfig& listen) {
  const std::string& url = listen.public_url;
  if (url.empty()) return;
  const int line = listen.lines.of("public_url");
  const size_t scheme = url.find("://");
  const std::string_view host =
      scheme == url.npos ? std::string_view() : std::string_view(url).substr(scheme + 3);
  if ((!url.starts_with("https://") && !url.starts_with("http://")) || host.empty() ||
      host.find_first_of("/?# \"<>") != host.npos)
    return state.fail_at(line, fmt::format("public_url \"{}\" is no address", url.substr(0, 80)), {},
                         "write public_url: \"https://db1.example.jp:9847\", without a path");
  if (url.starts_with("http://") && !listen.insecure && !is_loopback(host))
    state.fail_at(line, "public_url would send links to acknowledge alerts over the network in clear",
                  "whoever listens in between could use them",
                  "write https://…, or insecure: true where something else encrypts");
}

}  // namespace

void check_token_given(ReadState& state, const TokenConfig& one, const std::string& where) {
  if (one.token.is_set() == !one.hash.empty())
    state.fail_at(one.lines.own, where + " needs one of hash and token_file", {},
                  "make one: kuramori token new NAME");
  if (one.token.from() == Setting::From::kText)
    state.fail_at(
        one.token.line(), where + " holds a token in clear",
        "whoever may read this file, or its history in git, has it",
        "write hash: as `kuramori token new NAME` prints it, or token_file: PATH, and change the token");
  if (!one.hash.empty() && !is_token_hash(one.hash))
    state.fail_at(one.lines.of("hash"), where + " has a hash that is none",
                  "it is sha256: and 64 hexadecimal digits", "make one: kuramori token new NAME");
}

std::span<const std::string_view> token_roles() {
  return kRoles;
}

bool is_loopback(std::string_view address) {
  const std::string_view host = address.substr(0, address.rfind(':'));
  if (host == "localhost" || host == "[::1]") return true;
  // 127.0.0.0/8 and nothing that merely begins like it: a name may begin with digits.
  return host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.npos;
}

bool is_token_hash(std::string_view text) {
  return text.starts_with(kHash) && text.size() == kHash.size() + kHashDigits &&
         text.substr(kHash.size()).find_first_not_of("0123456789abcdef") == text.npos;
}

ListenConfig read_listen(MapReader& map) {
  ReadState& state = map.state();
  ListenConfig listen;
  listen.lines = map.lines();
  if (const std::string address = map.text("address"); !address.empty()) listen.address = address;
  listen.public_url = map.text("public_url");
  while (listen.public_url.ends_with('/')) listen.public_url.pop_back();
  if (auto tls = map.map("tls")) {
    listen.cert_file = tls->path("cert_file");
    listen.key_file = tls->path("key_file");
    tls->done();
    if (!map.describing() && (listen.cert_file.empty() || listen.key_file.empty()))
      state.fail_at(tls->line(), fmt::format("{} needs cert_file and key_file", tls->where()));
  }
  listen.insecure = map.is_yes("insecure");
  map.each("tokens", "a token", "{ name: prometheus, role: viewer, token_file: PATH }", [&](MapReader& one) {
    TokenConfig token;
    token.lines = one.lines();
    token.name = one.text("name");
    token.role = one.choice("role", {std::begin(kRoles), std::end(kRoles)});
    token.token = one.setting("token");
    token.hash = one.text("hash");
    listen.tokens.push_back(std::move(token));
  });
  map.done();
  if (map.describing()) return listen;
  std::set<std::string> names;
  for (const TokenConfig& token : listen.tokens) {
    check_token(state, token);
    if (!names.insert(token.name).second)
      state.fail_at(token.lines.own, fmt::format("two tokens are called \"{}\"", token.name), {},
                    "give each a name of its own");
  }
  check_public_url(state, listen);
  if (listen.cert_file.empty() && !listen.insecure && !is_loopback(listen.address))
    state.fail_at(listen.lines.of("address"),
                  fmt::format("listen: at {} would show tokens to the network", listen.address),
                  "others reach that address, and without TLS whoever listens in between reads them",
                  "add tls: { cert_file: …, key_file: … }; or insecure: true, where something else encrypts");
  return listen;
}

}  // namespace kuramori
