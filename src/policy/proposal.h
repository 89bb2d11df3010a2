// What `kuramori init` found where it stands, and the kuramori.yaml it proposes from that. Pure: facts in,
// text out. The text says where each line comes from, and DECIDE where only a person can tell. It holds no
// secret.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/world.h"

namespace kuramori {

struct FoundDatabase {
  std::string name;
  uint64_t bytes = 0;
  int64_t clients = 0;  // connected, but for whoever looked
};

struct FoundPostgres {
  std::string connect;        // libpq's words, without a password
  std::string from;           // "DATABASE_URL in .env", "the socket /run/postgresql/.s.PGSQL.5432"
  std::string database;       // that the application names; "" where nobody says
  bool has_password = false;  // one was found beside it
  std::string trouble;        // why it could not be asked; what follows is empty then
  std::string version, system_id;
  std::string data_folder;  // on this machine and there; "" else
  std::vector<FoundDatabase> databases;

  bool answers() const { return trouble.empty(); }
  // The one the application names, else the largest that is no template; null where there is none.
  const FoundDatabase* main() const;
  // Nobody else is connected to it: an unused copy of the live one looks like that (A5).
  bool is_perhaps_not_live() const;
};

struct FoundRedis {
  std::string url;  // without a password
  std::string from;
  bool has_password = false;
  std::string trouble, version;
  uint64_t keys = 0;
};

struct FoundBucket {
  std::string name, endpoint, region, from;
};

struct FoundVolume {  // of a compose file
  std::string service, source, target;
  bool is_named = false;  // docker's own: gone with `docker compose down -v`
};

struct Surroundings {
  std::string folder;      // where it was looked, absolute
  std::string repository;  // the git repository it is in; "" for none
  std::string remote;      // where that is pushed to, without a password
  std::vector<FoundPostgres> postgres;
  std::vector<FoundRedis> redis;
  std::vector<std::string> env_files;  // absolute
  std::vector<std::string> compose_files;
  std::vector<FoundVolume> volumes;
  std::vector<FoundBucket> buckets;

  bool empty() const;
};

struct ProposalPlace {
  std::string vault;          // where it is made
  std::string key_file;       // what opens it
  std::string password_file;  // of the database of --dev; "" where it needs none
  std::string site;           // of this machine
  std::string zone;           // its time zone
};

std::string propose_config(const Surroundings& found, const ProposalPlace& place, Time now);
// A developer's machine: the application's database is dumped every three hours and kept for 14 days.
std::string propose_dev_config(const FoundPostgres& database, const ProposalPlace& place, Time now);
// What was found, for people: a line each.
std::vector<std::string> words_of(const Surroundings& found);

constexpr const char* kDevResource = "dev-db";

}  // namespace kuramori
