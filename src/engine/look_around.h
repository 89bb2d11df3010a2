// What there is to protect where `kuramori init` stands: servers on this machine, what a compose file starts,
// what an application's environment names, the repository around it. Looks, asks, and changes nothing.
#pragma once
#include <map>
#include <string>

#include "crypto/secret.h"
#include "policy/proposal.h"

namespace kuramori {

struct LookRequest {
  std::string folder;   // absolute; it and the folders right below are looked into
  std::string connect;  // of a PostgreSQL server that somebody named; ""
  bool sockets = true;  // also servers that only stand on this machine, named by nobody
};

struct LookedAround {
  Surroundings found;
  // By the `connect` of the PostgreSQL server it belongs to.
  std::map<std::string, Secret> passwords;
};

constexpr size_t kSubfoldersMax = 200;  // of the folder, that are looked into
// What cannot be read or does not answer is left out, or named with its trouble: looking around never fails.
LookedAround look_around(const LookRequest& request);

// The connections to the database a PostgreSQL resource names, but for ours. kUnknown, kDenied: it cannot be
// asked.
Result<int64_t> clients_of(const std::string& connect);

}  // namespace kuramori
