// Where the daemon shows what it knows over HTTP, and who may ask: the `listen:` of kuramori.yaml.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/key_lines.h"
#include "policy/setting.h"

namespace kuramori {

class MapReader;
struct ReadState;

constexpr std::string_view kListenUsually = "127.0.0.1:9847";

// Who holds the token may do what its role may: a viewer reads, an operator also starts and ends jobs, an
// owner everything there is.
struct TokenConfig {
  std::string name;  // as answers and records call whoever holds it
  std::string role;  // of token_roles()
  // One of the two: the token itself, never as text in the file, or what it is known by ("sha256:…").
  Setting token;
  std::string hash;
  KeyLines lines;
};

struct ListenConfig {
  std::string address{kListenUsually};  // host and port
  std::string public_url;               // "https://db1.example.jp:9847", as others reach it; "": nobody said
  std::string cert_file, key_file;      // PEM, both: HTTPS
  bool insecure = false;                // plain HTTP although others can reach it
  std::vector<TokenConfig> tokens;
  KeyLines lines;
};

std::span<const std::string_view> token_roles();

// Whether only this machine reaches "host:port".
bool is_loopback(std::string_view address);

// "sha256:" and 64 hexadecimal digits.
bool is_token_hash(std::string_view text);

ListenConfig read_listen(MapReader& map);

// That a token is given as its hash, or in a place of its own. `where`: "the token \"a\"".
void check_token_given(ReadState& state, const TokenConfig& one, const std::string& where);

}  // namespace kuramori
