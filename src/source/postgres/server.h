// What a running server says about itself.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "source/postgres/connection.h"
#include "source/postgres/lsn.h"

namespace kuramori::postgres {

struct ServerFacts {
  uint32_t version = 0;      // PG_VERSION_NUM, 150018
  std::string version_text;  // "15.18 (Debian …)"
  uint64_t system_id = 0;
  std::string catalog_version;  // "202209061"; with the major it names a tablespace's folder
  Timeline timeline = 0;        // of the last checkpoint
  std::string data_directory;   // as the server says; may be a symbolic link
  bool in_recovery = false;
  std::string role;  // who we are
  bool superuser = false;
  bool may_replicate = false;                   // REPLICATION, or superuser: may make a slot
  int64_t started_at = 0;                       // seconds since 1970, of the postmaster
  std::map<std::string, std::string> settings;  // as current_setting() shows them, without units of display

  uint32_t major() const { return version / 10000; }
  // The empty string if the server has no such setting.
  const std::string& setting(const std::string& name) const;
  Result<uint64_t> number(const std::string& name) const;
};

// kDenied, with the GRANT to type, if the role may not see what a capture needs.
Result<ServerFacts> read_server_facts(Connection& connection);

// The folder of this cluster inside every tablespace: "PG_15_202209061".
std::string tablespace_folder(const ServerFacts& facts);

}  // namespace kuramori::postgres
