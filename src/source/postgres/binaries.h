// Where the server programs of a PostgreSQL major version are on this machine.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace kuramori::postgres {

constexpr int kOldestMajor = 13;  // older servers are refused in words

struct Programs {
  int major = 0;
  std::string folder;  // holds at least `postgres`
  std::string postgres() const { return folder + "/postgres"; }
};

// In this order: KURAMORI_PG_BIN_<major> (a folder; if set it must be right, nothing else is tried),
// /usr/lib/postgresql/<major>/bin (Debian), /usr/pgsql-<major>/bin (Red Hat), /usr/local/pgsql/bin, then
// PATH. Each candidate is asked for its version. kUsage if none is there, saying where was looked and what to
// install.
Result<Programs> find_programs(int major);

// 150018 → 15
constexpr int major_of(uint32_t server_version) {
  return static_cast<int>(server_version / 10000);
}
// "postgres (PostgreSQL) 15.20 (Debian …)" → 15; "18beta1" counts as 18.
std::optional<int> parse_version_line(std::string_view line);
// The content of a data directory's PG_VERSION ("15\n").
Result<int> read_data_version(const std::string& data_directory);

}  // namespace kuramori::postgres
