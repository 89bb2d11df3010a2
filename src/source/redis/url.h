// Where a server is: redis://[user[:password]@]host[:port][/db], rediss:// for TLS, unix:///path.sock.
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace kuramori::redis {

constexpr int kDefaultPort = 6379;

// A server and who we are there. The database number of a URL is kept for completeness: a snapshot is of all.
struct Endpoint {
  std::string host;  // "" when `socket` is given
  int port = kDefaultPort;
  std::string socket;  // path of a Unix socket
  bool tls = false;
  std::string ca_file;              // who vouches for the server; "": those the system trusts
  std::string cert_file, key_file;  // our own certificate, where the server asks for one
  std::string user;                 // "": the user named default
  std::string password;             // "": none
  int database = 0;

  std::string describe() const;  // "redis://user@host:6379", never with the password
  std::string_view user_name() const { return user.empty() ? std::string_view("default") : user; }
  // Whether only this machine can reach it by this address.
  bool is_local() const;
};

// kUsage for anything else. `?ca_file=`, `?cert_file=` and `?key_file=` go with rediss:// alone; a Unix
// socket takes `?user=`, since its URL has no place for one.
Result<Endpoint> parse_url(std::string_view text);

}  // namespace kuramori::redis
