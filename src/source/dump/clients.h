// PostgreSQL's own client programs on this machine. An older pg_dump refuses a newer server, and an older
// pg_restore cannot read a newer one's archive (S13): so the version decides which are taken.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace kuramori::dump {

struct Clients {
  int major = 0;
  std::string folder;   // holds pg_dump, pg_dumpall, pg_restore
  std::string version;  // "15.18"
  std::string program(std::string_view name) const { return folder + "/" + std::string(name); }
  bool has(std::string_view name) const;
};

// In `folders`, then where Debian, Red Hat and a plain installation put them, then in PATH; what does not run
// is left out.
std::vector<Clients> find_clients(const std::vector<std::string>& folders);
// The first of this major, else of the least newer one. kUsage says what is there and what to install.
Result<Clients> choose_clients(const std::vector<Clients>& found, int least_major, std::string_view what_for);

}  // namespace kuramori::dump
