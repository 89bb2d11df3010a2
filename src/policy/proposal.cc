#include "policy/proposal.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/time_text.h"
#include "base/units.h"

namespace kuramori {
namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' || c == '\\') out += '\\';
    if (c == '$' && text.substr(i + 1).starts_with('{')) out += '$';  // else it would be expanded
    out += c;
  }
  return out + "\"";
}

std::string person_words(const FoundPostgres& one) {
  if (!one.answers()) return fmt::format("{}: does not answer ({})", one.from, one.trouble);
  std::string out = fmt::format("{}: PostgreSQL {}, system {}", one.from, one.version, one.system_id);
  if (const FoundDatabase* main = one.main())
    out += fmt::format(", database {} ({}, {} client{})", main->name, format_size(main->bytes), main->clients,
                       main->clients == 1 ? "" : "s");
  return out;
}

constexpr std::string_view kPerhapsNotLive =
    "nobody else is connected to it: possibly not the live database. Ask the application which one it uses";

class Text {
 public:
  std::string take() { return std::move(out_); }
  template <class... Values>
  void line(fmt::format_string<Values...> format, Values&&... values) {
    out_ += fmt::format(format, std::forward<Values>(values)...) + "\n";
  }

 private:
  std::string out_;
};

void begin(Text& text, std::string_view command, Time now) {
  text.line("# Proposed by `kuramori {}` on {}, from what was found here.", command,
            format_utc(std::chrono::floor<std::chrono::seconds>(now)).substr(0, 10));
}

void write_vault(Text& text, const ProposalPlace& place) {
  text.line("vaults:");
  text.line("  here:");
  text.line("    at: {}", quoted(place.vault));
  text.line("    key_file: {}     # who loses it loses the vault: kuramori vault kit here --to FILE",
            quoted(place.key_file));
  text.line("    site: {}", quoted(place.site));
}

// A name that was not given to another yet.
class Names {
 public:
  std::string fresh(std::string name) {
    for (char& c : name)
      if (c == '@' || c == '/' || c == ' ') c = '-';
    std::string out = name;
    for (int n = 2; !taken_.insert(out).second; ++n) out = fmt::format("{}-{}", name, n);
    return out;
  }

 private:
  std::set<std::string> taken_;
};

}  // namespace

const FoundDatabase* FoundPostgres::main() const {
  const auto named = std::ranges::find(databases, database, &FoundDatabase::name);
  if (named != databases.end()) return &*named;
  if (!database.empty()) return nullptr;
  const auto largest = std::ranges::max_element(
      databases, {}, [](const FoundDatabase& one) { return std::pair(one.name != "postgres", one.bytes); });
  return largest == databases.end() ? nullptr : &*largest;
}

bool FoundPostgres::is_perhaps_not_live() const {
  const FoundDatabase* one = main();
  return answers() && one != nullptr && one->clients == 0;
}

bool Surroundings::empty() const {
  return postgres.empty() && redis.empty() && env_files.empty() && buckets.empty() && repository.empty() &&
         std::ranges::all_of(volumes, &FoundVolume::is_named);
}

std::vector<std::string> words_of(const Surroundings& found) {
  std::vector<std::string> out;
  for (const FoundPostgres& one : found.postgres) {
    out.push_back(person_words(one));
    if (one.is_perhaps_not_live()) out.push_back(fmt::format("  {}", kPerhapsNotLive));
  }
  for (const FoundRedis& one : found.redis)
    out.push_back(one.trouble.empty() ? fmt::format("{}: Redis {}, {} keys", one.from, one.version, one.keys)
                                      : fmt::format("{}: does not answer ({})", one.from, one.trouble));
  for (const std::string& path : found.env_files)
    out.push_back(fmt::format("{}: variables of an application", path));
  for (const std::string& path : found.compose_files)
    out.push_back(fmt::format("{}: services of docker compose", path));
  for (const FoundVolume& one : found.volumes)
    out.push_back(one.is_named
                      ? fmt::format("volume {} of {}: docker's own, gone with `docker compose down -v`",
                                    one.source, one.service)
                      : fmt::format("folder {} of {}", one.source, one.service));
  for (const FoundBucket& one : found.buckets)
    out.push_back(fmt::format("{}: bucket {}{}", one.from, one.name,
                              one.endpoint.empty() ? "" : " at " + one.endpoint));
  if (!found.repository.empty())
    out.push_back(
        fmt::format("{}: a git repository{}", found.repository,
                    found.remote.empty() ? " that is pushed nowhere" : ", pushed to " + found.remote));
  return out;
}

std::string propose_config(const Surroundings& found, const ProposalPlace& place, Time now) {
  Text text;
  begin(text, "init", now);
  text.line("# Nothing is backed up before `kuramori apply`, and nothing by itself before `kuramori serve`.");
  text.line("# Lines that say DECIDE are for you; `kuramori lint` says what does not hold yet.");
  write_vault(text, place);
  text.line("  # DECIDE: a second one elsewhere. One vault beside what it protects is lost with it:");
  text.line("  # away:");
  text.line("  #   at: s3://BUCKET/prefix      # endpoint: and region: as the store needs them");
  text.line("  #   key_file: {}", quoted(place.key_file));
  text.line("  #   site: elsewhere");
  text.line("  #   copy_of: here");
  Names names;
  std::vector<std::string> daily, changing;
  text.line("");
  text.line("resources:");
  for (const FoundPostgres& one : found.postgres) {
    const FoundDatabase* main = one.main();
    const std::string name = names.fresh(main != nullptr ? main->name + "-db" : "db");
    text.line("  {}:", name);
    text.line("    # {}", person_words(one));
    if (one.is_perhaps_not_live()) text.line("    # DECIDE: {}.", kPerhapsNotLive);
    // A server whose files are at hand is kept whole, and to the second; one that is not, by dumps.
    const bool whole = !one.data_folder.empty();
    text.line("    kind: {}", whole ? "postgres" : "dump");
    const std::string database = whole || main == nullptr ? "" : " dbname=" + main->name;
    text.line("    connect: {}", quoted(one.connect + database));
    if (one.has_password)
      text.line(
          "    # DECIDE: its password stands beside the application. Write it into a file of mode 0600:\n"
          "    # {}",
          whole ? "~/.pgpass (libpq reads it)" : "password_file: FILE");
    text.line("    criticality: critical");
    text.line(
        "    objectives: {{ rpo: 1d, rto: 4h }}     # DECIDE: how much may be lost, how soon it must be "
        "back");
    daily.push_back(name);
  }
  for (const FoundRedis& one : found.redis) {
    const std::string name = names.fresh("redis");
    text.line("  {}:", name);
    text.line("    # {}{}", one.from,
              one.trouble.empty() ? fmt::format(": Redis {}, {} keys", one.version, one.keys)
                                  : ": does not answer (" + one.trouble + ")");
    text.line("    kind: redis");
    text.line("    connect: {}", quoted(one.url));
    if (one.has_password) text.line("    # DECIDE: password_file: FILE (0600)");
    text.line("    criticality: high");
    daily.push_back(name);
  }
  for (const FoundVolume& one : found.volumes) {
    if (one.is_named) continue;
    const std::string name = names.fresh(one.service + "-files");
    text.line("  {}:", name);
    text.line("    kind: files                 # {} of {}", one.target, one.service);
    text.line("    paths: [{}]", quoted(one.source));
    text.line("    criticality: high");
    daily.push_back(name);
  }
  for (const FoundVolume& one : found.volumes)
    if (one.is_named)
      text.line("  # DECIDE: volume {} of {} is docker's own ({}); a database in it is protected above.",
                one.source, one.service, one.target);
  for (const FoundBucket& one : found.buckets) {
    const std::string name = names.fresh(one.name);
    text.line("  {}:", name);
    text.line("    kind: bucket                # {}", one.from);
    text.line("    at: {}", quoted("s3://" + one.name));
    if (!one.endpoint.empty()) text.line("    endpoint: {}", quoted(one.endpoint));
    if (!one.region.empty()) text.line("    region: {}", quoted(one.region));
    text.line("    credentials: {{ env: true }}");
    text.line("    criticality: high");
    daily.push_back(name);
  }
  if (!found.env_files.empty()) {
    const std::string name = names.fresh("secrets");
    std::string paths;
    for (const std::string& path : found.env_files) paths += (paths.empty() ? "" : ", ") + quoted(path);
    text.line("  {}:", name);
    text.line("    kind: secret");
    text.line("    paths: [{}]", paths);
    text.line("    criticality: critical");
    changing.push_back(name);
  }
  if (!found.repository.empty()) {
    const std::string name = names.fresh("code");
    text.line("  {}:", name);
    text.line("    kind: git{}",
              found.remote.empty() ? "                   # pushed nowhere: this is the only copy" : "");
    text.line("    url: {}", quoted(found.remote.empty() ? found.repository : found.remote));
    text.line("    criticality: high");
    daily.push_back(name);
  }
  const auto list = [](const std::vector<std::string>& all) {
    std::string out;
    for (const std::string& one : all) out += (out.empty() ? "" : ", ") + one;
    return out;
  };
  text.line("");
  text.line("plans:");
  if (!daily.empty()) {
    text.line("  daily:");
    text.line("    resources: [{}]", list(daily));
    text.line("    vault: here");
    text.line("    every: 6h                   # DECIDE");
    text.line("    timezone: {}", place.zone);
    text.line("    keep: {{ all: 14d, monthly: 1y }}");
    text.line("    # copies: [ {{ to: away }} ]");
    text.line("    drill: {{ schedule: \"0 5 1 * *\" }}     # a backup counts when it has been restored");
  }
  if (!changing.empty()) {
    text.line("  secrets:");
    text.line("    resources: [{}]", list(changing));
    text.line("    vault: here");
    text.line("    every: change");
    text.line("    keep: forever");
    text.line("    drill: {{ schedule: \"0 5 1 * *\" }}");
  }
  text.line("");
  text.line("# DECIDE: who is told when something fails.");
  text.line("# notify:");
  text.line(
      "#   - {{ to_file: FILE, when: [failure, late, unproven] }}   # slack:https://…, smtp://…, "
      "webhook:https://…");
  return text.take();
}

std::string propose_dev_config(const FoundPostgres& database, const ProposalPlace& place, Time now) {
  const FoundDatabase* main = database.main();
  Text text;
  begin(text, "init --dev", now);
  text.line("# A dump every three hours, kept for 14 days, outside the repository.");
  write_vault(text, place);
  text.line("");
  text.line("resources:");
  text.line("  {}:", kDevResource);
  text.line("    # {}", person_words(database));
  if (database.is_perhaps_not_live()) text.line("    # {}.", kPerhapsNotLive);
  text.line("    kind: dump");
  const std::string name = main != nullptr ? main->name : database.database;
  text.line("    connect: {}", quoted(database.connect + (name.empty() ? "" : " dbname=" + name)));
  if (!place.password_file.empty()) text.line("    password_file: {}", quoted(place.password_file));
  text.line("    criticality: low");
  text.line("    stage: development");
  text.line("    objectives: {{ rpo: 1d, rto: 15m }}");
  text.line("");
  text.line("plans:");
  text.line("  dev:");
  text.line("    resources: [{}]", kDevResource);
  text.line("    vault: here");
  text.line("    schedule: \"0 */3 * * *\"");
  text.line("    timezone: {}", place.zone);
  text.line("    keep: 14d");
  text.line("    drill: {{ schedule: \"0 12 * * MON\" }}");
  return text.take();
}

}  // namespace kuramori
