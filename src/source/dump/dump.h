// The kind `dump`: a PostgreSQL database, or tables of one, as pg_dump writes them.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/world.h"
#include "source/source.h"

namespace kuramori::dump {

constexpr Duration kProgramLimit = std::chrono::hours(24);  // of a server that says nothing more
constexpr Duration kLockWait = std::chrono::seconds(60);    // for a table that somebody locks

// What a resource of this kind says of itself in kuramori.yaml.
struct DumpSettings {
  std::string connect;                       // of libpq: keywords or a URI; it names the database
  std::string password;                      // where `connect` has none
  std::vector<std::string> tables;           // "schema.table" or "table"; empty: the whole database
  std::vector<std::string> program_folders;  // where pg_dump and the others are, before the usual places
  std::optional<Duration> timeout = kProgramLimit;  // of each program that is run
  Duration lock_wait = kLockWait;
};

// kUsage: `connect` is none.
Result<std::unique_ptr<Source>> open_dump(DumpSettings settings);

}  // namespace kuramori::dump
