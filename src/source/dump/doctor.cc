#include "source/dump/doctor.h"

#include <fmt/core.h>

#include <algorithm>

#include "source/dump/clients.h"
#include "source/dump/facts.h"
#include "source/dump/fill.h"
#include "source/dump/session.h"
#include "source/postgres/binaries.h"

namespace kuramori::dump {
namespace {

using postgres::QueryResult;
using Severity = SourceFinding::Severity;

constexpr size_t kListedMax = 5;
constexpr double kLocksShare = 0.7;  // of the server's locks, that a dump may take without a word

class Examination {
 public:
  explicit Examination(const DumpSettings& settings) : settings_(settings) {}

  std::vector<SourceFinding> run() {
    const bool connected = connect();
    look_at_programs();
    if (!connected) return std::move(findings_);
    if (const auto looked = look_at_database(); !looked) {
      add(Severity::kProblem, "database", looked.error().what,
          or_so(looked.error().why, "the server refused"),
          or_so(looked.error().next, "see whether psql can do the same with this connection string"));
    }
    return std::move(findings_);
  }

 private:
  static std::string or_so(const std::string& text, const char* otherwise) {
    return text.empty() ? otherwise : text;
  }
  void add(Severity severity, std::string about, std::string what, std::string why, std::string fix) {
    findings_.push_back({severity, std::move(about), std::move(what), std::move(why), std::move(fix)});
  }
  static std::string listed(const std::vector<std::string>& names) {
    std::string out;
    for (size_t i = 0; i < std::min(names.size(), kListedMax); ++i) out += (i > 0 ? ", " : "") + names[i];
    if (names.size() > kListedMax) out += fmt::format(" and {} more", names.size() - kListedMax);
    return out;
  }

  bool connect() {
    const auto conninfo = conninfo_of(settings_.connect, settings_.password);
    auto session = conninfo ? Session::open(*conninfo, "", {}) : conninfo.error();
    if (session) {
      session_ = std::move(*session);
      return true;
    }
    const Error& error = session.error();
    add(Severity::kProblem, "connect", error.what, or_so(error.why, "the server did not answer"),
        or_so(error.next, "check that `psql` connects with the same connection string"));
    return false;
  }

  void look_at_programs() {
    // Of a server that is away only this is known: without any of them nothing will come of it.
    const int major = session_ ? static_cast<int>((*session_)->major()) : postgres::kOldestMajor;
    if (const auto clients =
            choose_clients(find_clients(settings_.program_folders), major, "a dump of that server");
        !clients) {
      add(Severity::kProblem, "pg_dump", clients.error().what, clients.error().why, clients.error().next);
    }
    if (!session_) return;
    if (const auto server = postgres::find_programs(major); !server) {
      add(Severity::kRisk, "drill", server.error().what,
          "a drill starts a server; one of a newer version serves, and proves less",
          fmt::format("apt install postgresql-{}", major));
    }
  }

  Result<void> look_at_database() {
    TRY_ASSIGN(role_, (*session_)->value("SELECT current_user"));
    TRY_ASSIGN(const std::vector<Table> tables, list_tables(**session_, settings_.tables));
    if (tables.empty()) {
      add(Severity::kRisk, "tables", "the database has no tables that we can see",
          "its dump would be of a schema alone", "is this the database that was meant? psql: \\dt *.*");
    }
    TRY(look_at_rights(tables));
    TRY(look_at_server(tables));
    if (!settings_.tables.empty()) TRY(look_at_needs(tables));
    return {};
  }

  Result<void> look_at_rights(const std::vector<Table>& tables) {
    std::vector<std::string> unreadable, hidden, foreign;
    for (const Table& table : tables) {
      const std::string oid = std::to_string(table.oid);
      if (table.kind == 'f') {
        foreign.push_back(table.full_name());
        continue;
      }
      TRY_ASSIGN(
          const QueryResult row,
          (*session_)->query("SELECT has_table_privilege($1::oid, 'SELECT') AND has_schema_privilege((SELECT "
                             "relnamespace FROM pg_class WHERE oid = $1::oid), 'USAGE'), "
                             "row_security_active($1::oid)",
                             {oid}));
      if (!row.is_true(0, 0)) unreadable.push_back(table.full_name());
      if (row.is_true(0, 1)) hidden.push_back(table.full_name());
    }
    if (!unreadable.empty()) {
      add(Severity::kProblem, "rights",
          fmt::format("{} may not read {} of {} tables: {}", role_, unreadable.size(), tables.size(),
                      listed(unreadable)),
          "pg_dump reads all of them, or none",
          (*session_)->major() >= 14
              ? fmt::format("GRANT pg_read_all_data TO {};", quoted_name(role_))
              : fmt::format("GRANT USAGE ON SCHEMA …, SELECT ON ALL TABLES IN SCHEMA … TO {};",
                            quoted_name(role_)));
    }
    if (!hidden.empty()) {
      add(Severity::kProblem, "row level security",
          fmt::format("policies hide rows of {} from {}", listed(hidden), role_),
          "a dump would lack them without a word, so none is taken",
          fmt::format("ALTER ROLE {} BYPASSRLS;", quoted_name(role_)));
    }
    if (!foreign.empty()) {
      add(Severity::kHint, "foreign tables",
          fmt::format("the rows of {} are another server's", listed(foreign)),
          "a dump has their definition alone", "protect that server as a resource of its own");
    }
    if (!settings_.tables.empty()) return {};
    TRY_ASSIGN(
        const QueryResult sequences,
        (*session_)->query("SELECT count(*) FROM pg_class x JOIN pg_namespace n ON n.oid = x.relnamespace "
                           "WHERE n.nspname !~ '^pg_' AND NOT CASE WHEN x.relkind = 'S' THEN "
                           "has_sequence_privilege(x.oid, 'SELECT') ELSE true END"));
    if (sequences.text(0, 0) != "0") {
      add(Severity::kProblem, "rights",
          fmt::format("{} may not read {} sequences", role_, sequences.text(0, 0)),
          "pg_dump reads where each of them stands",
          fmt::format("GRANT pg_read_all_data TO {}; or SELECT ON ALL SEQUENCES IN SCHEMA …",
                      quoted_name(role_)));
    }
    TRY_ASSIGN(
        const QueryResult objects,
        (*session_)->query("SELECT count(*) FROM pg_largeobject_metadata WHERE NOT pg_has_role(lomowner, "
                           "'USAGE') AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"));
    if (objects.text(0, 0) != "0") {
      add(Severity::kRisk, "large objects",
          fmt::format("{} large objects belong to others than {}", objects.text(0, 0), role_),
          "the dump fails at the first that may not be read",
          fmt::format("dump as a superuser, or GRANT SELECT ON LARGE OBJECT … TO {};", quoted_name(role_)));
    }
    return {};
  }

  Result<void> look_at_server(const std::vector<Table>& tables) {
    TRY_ASSIGN(const QueryResult row,
               (*session_)->query("SELECT pg_is_in_recovery(), current_setting('hot_standby_feedback'), "
                                  "current_setting('max_locks_per_transaction')::bigint * "
                                  "(current_setting('max_connections')::bigint + "
                                  "current_setting('max_prepared_transactions')::bigint), "
                                  "has_table_privilege('pg_catalog.pg_authid', 'SELECT')"));
    if (row.is_true(0, 0) && row.text(0, 1) != "on") {
      add(Severity::kRisk, "standby", "this is a standby without hot_standby_feedback",
          "what is vacuumed on the primary ends a long dump here (conflict with recovery)",
          "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();");
    }
    TRY_ASSIGN(const int64_t locks, row.number(0, 2));
    if (static_cast<double>(tables.size()) > kLocksShare * static_cast<double>(locks)) {
      add(Severity::kProblem, "max_locks_per_transaction",
          fmt::format("{} tables are to be locked, and the server has {} locks", tables.size(), locks),
          "a dump locks every table until it has ended",
          fmt::format("ALTER SYSTEM SET max_locks_per_transaction = {}; and restart the server",
                      64 * (tables.size() * 2 / static_cast<size_t>(std::max<int64_t>(locks, 1)) + 1)));
    }
    if (!row.is_true(0, 3)) {
      add(Severity::kHint, "globals", fmt::format("{} may not read the passwords of roles", role_),
          "globals.sql has the roles without them",
          fmt::format("dump as a superuser, or set them again after a restore (ALTER ROLE … PASSWORD)"));
    }
    return {};
  }

  // What a dump of tables alone does not bring.
  Result<void> look_at_needs(const std::vector<Table>& tables) {
    TRY_ASSIGN(const DatabaseFacts facts, read_facts(**session_, tables, /*whole=*/false));
    std::vector<std::string> needs, keys;
    for (const Table& table : facts.tables) {
      for (const Need& need : table.needs) {
        const std::string one = fmt::format("{} {}", need.kind, need.identity);
        if (std::ranges::count(needs, one) == 0) needs.push_back(one);
      }
      for (const ForeignKey& key : table.foreign_keys)
        if (facts.table(key.target_oid) == nullptr)
          keys.push_back(fmt::format("{} → {}.{}", table.full_name(), key.target_schema, key.target_table));
    }
    if (!needs.empty()) {
      add(Severity::kRisk, "tables", fmt::format("the tables use {}", listed(needs)),
          "a dump of tables has no types, functions or sequences of others: they must be there where it is "
          "restored",
          "leave `tables` out, or restore into a database that has them");
    }
    if (!keys.empty()) {
      add(Severity::kHint, "tables", fmt::format("foreign keys lead out of the tables: {}", listed(keys)),
          "where the other table is not there, the key is left out at a restore, and told",
          "name the other table in `tables`, too");
    }
    return {};
  }

  const DumpSettings& settings_;
  std::unique_ptr<Session> session_;
  std::string role_;
  std::vector<SourceFinding> findings_;
};

}  // namespace

Result<std::vector<SourceFinding>> examine(const DumpSettings& settings) {
  return Examination(settings).run();
}

std::vector<SourceClient> needed_clients(const DumpSettings& settings) {
  const auto conninfo = conninfo_of(settings.connect, settings.password);
  const auto session = conninfo ? Session::open(*conninfo, "", {}) : conninfo.error();
  const std::vector<Clients> here = find_clients(settings.program_folders);
  SourceClient dump{.program = "pg_dump, pg_restore", .purpose = "dumps and restores"};
  const auto shown = [](const Clients& one) { return fmt::format("{} in {}", one.version, one.folder); };
  if (!session) {
    dump.needed = "as new as the server, which does not answer";
    const auto newest = std::ranges::max_element(here, {}, &Clients::major);
    if (newest != here.end()) dump.found = shown(*newest);
    dump.fits = newest != here.end();
    return {dump};
  }
  const int major = static_cast<int>((**session)->major());
  dump.needed = fmt::format("{} or newer", major);
  const auto chosen = choose_clients(here, major, "a dump of that server");
  dump.fits = chosen.has_value();
  if (chosen)
    dump.found = shown(*chosen);
  else if (!here.empty())
    dump.found = shown(*std::ranges::max_element(here, {}, &Clients::major));
  SourceClient server{.program = "postgres", .purpose = "drills", .needed = std::to_string(major)};
  if (const auto programs = postgres::find_programs(major)) {
    server.found = fmt::format("{} in {}", programs->major, programs->folder);
    server.fits = true;
  }
  return {dump, server};
}

}  // namespace kuramori::dump
