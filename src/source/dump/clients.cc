#include "source/dump/clients.h"

#include <fmt/core.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "os/file.h"
#include "os/process.h"
#include "source/postgres/binaries.h"

namespace kuramori::dump {
namespace {

constexpr Duration kVersionLimit = std::chrono::seconds(20);

bool is_executable(const std::string& path) {
  return ::access(path.c_str(), X_OK) == 0;
}

// Debian's /usr/bin/pg_dump is a script that chooses a version by itself; the versions are elsewhere.
bool is_chooser(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  return real && std::string_view(real.get()).ends_with("pg_wrapper");
}

void look_in(const std::string& folder, std::vector<Clients>& found) {
  if (folder.empty()) return;
  if (std::ranges::any_of(found, [&](const Clients& known) { return known.folder == folder; })) return;
  const std::string program = join_path(folder, "pg_dump");
  if (!is_executable(program) || is_chooser(program)) return;
  if (!is_executable(join_path(folder, "pg_restore")) || !is_executable(join_path(folder, "pg_dumpall")))
    return;
  const auto said = run({.argv = {program, "--version"}, .timeout = kVersionLimit});
  if (!said || !said->exit.ok()) return;
  const auto major = postgres::parse_version_line(said->output);
  if (!major) return;
  // "pg_dump (PostgreSQL) 15.18 (Debian …)"
  const size_t at = said->output.find(") ");
  const std::string version =
      at == std::string::npos
          ? std::to_string(*major)
          : said->output.substr(at + 2, said->output.find_first_of(" \n", at + 2) - at - 2);
  found.push_back({.major = *major, .folder = folder, .version = version});
}

// FOLDER/<anything that starts so>/bin
void look_below(const std::string& folder, std::string_view prefix, std::vector<Clients>& found) {
  const auto entries = list_folder(folder);
  if (!entries) return;
  for (const FolderEntry& entry : *entries)
    if (entry.name.starts_with(prefix)) look_in(join_path(join_path(folder, entry.name), "bin"), found);
}

}  // namespace

bool Clients::has(std::string_view name) const {
  return is_executable(program(name));
}

std::vector<Clients> find_clients(const std::vector<std::string>& folders) {
  std::vector<Clients> found;
  for (const std::string& folder : folders) look_in(folder, found);
  look_below("/usr/lib/postgresql", "", found);
  look_below("/usr", "pgsql-", found);
  look_in("/usr/local/pgsql/bin", found);
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "";
  while (!rest.empty()) {
    const size_t colon = std::min(rest.find(':'), rest.size());
    look_in(std::string(rest.substr(0, colon)), found);
    rest.remove_prefix(std::min(colon + 1, rest.size()));
  }
  return found;
}

Result<Clients> choose_clients(const std::vector<Clients>& found, int least_major,
                               std::string_view what_for) {
  const Clients* best = nullptr;
  std::string seen;
  for (const Clients& one : found) {
    seen += fmt::format("{}{} in {}", seen.empty() ? "" : ", ", one.version, one.folder);
    if (one.major >= least_major && (best == nullptr || one.major < best->major)) best = &one;
  }
  if (best != nullptr) return *best;
  return fail(
      ErrorKind::kUsage,
      fmt::format("pg_dump and pg_restore of PostgreSQL {} or newer are not on this machine", least_major),
      fmt::format("{} needs them; found: {}", what_for, seen.empty() ? "none" : seen),
      fmt::format("install them (Debian: apt install postgresql-client-{}), or name their folder: programs: "
                  "/path/to/bin",
                  least_major));
}

}  // namespace kuramori::dump
