#include "source/postgres/binaries.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>

#include "os/file.h"
#include "source/postgres/sandbox_process.h"

namespace kuramori::postgres {
namespace {

constexpr Duration kVersionLimit = std::chrono::seconds(20);

// The major of the `postgres` in `folder`; nullopt if it is none that runs.
std::optional<int> major_in(const std::string& folder) {
  const std::string program = folder + "/postgres";
  if (::access(program.c_str(), X_OK) != 0) return {};
  auto child = run_child({program, "--version"}, kVersionLimit);
  if (!child || child->status != 0) return {};
  return parse_version_line(child->output);
}

}  // namespace

std::optional<int> parse_version_line(std::string_view line) {
  const size_t at = line.find("(PostgreSQL) ");
  if (at == std::string_view::npos) return {};
  line.remove_prefix(at + std::string_view("(PostgreSQL) ").size());
  int major = 0;
  auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), major);
  if (error != std::errc() || major < 1) return {};
  return major;
}

Result<Programs> find_programs(int major) {
  if (major < kOldestMajor) {
    return fail(ErrorKind::kRefused, fmt::format("PostgreSQL {} is too old", major),
                fmt::format("{} and later are protected here", kOldestMajor));
  }
  const std::string variable = fmt::format("KURAMORI_PG_BIN_{}", major);
  if (const char* chosen = std::getenv(variable.c_str()); chosen && *chosen) {
    auto found = major_in(chosen);
    if (found == major) return Programs{major, chosen};
    return fail(
        ErrorKind::kUsage, fmt::format("{}={} holds no PostgreSQL {} server", variable, chosen, major),
        found ? fmt::format("its `postgres` is of version {}", *found) : "there is no `postgres` that runs",
        fmt::format("set {} to the folder of `postgres` {}, or unset it", variable, major));
  }
  std::vector<std::string> places = {fmt::format("/usr/lib/postgresql/{}/bin", major),
                                     fmt::format("/usr/pgsql-{}/bin", major), "/usr/local/pgsql/bin"};
  if (const char* path = std::getenv("PATH")) {
    std::string_view rest = path;
    while (!rest.empty()) {
      const size_t colon = rest.find(':');
      if (colon != 0) places.emplace_back(rest.substr(0, colon));
      rest = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
    }
  }
  for (const auto& place : places) {
    if (major_in(place) == major) return Programs{major, place};
  }
  return fail(ErrorKind::kUsage,
              fmt::format("the server programs of PostgreSQL {} are not on this machine", major),
              fmt::format("looked in {}, {}, {} and PATH", places[0], places[1], places[2]),
              fmt::format("install them (Debian: apt install postgresql-{}) or set {}", major, variable));
}

Result<int> read_data_version(const std::string& data_directory) {
  TRY_ASSIGN(Bytes bytes, read_file(join_path(data_directory, "PG_VERSION"), 64));
  int major = 0;
  const std::string_view text = as_text(bytes);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), major);
  if (error != std::errc() || major < 1) {
    return fail(ErrorKind::kDamaged, fmt::format("{}/PG_VERSION does not name a version", data_directory));
  }
  return major;
}

}  // namespace kuramori::postgres
