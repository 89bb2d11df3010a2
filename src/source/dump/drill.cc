#include "source/dump/drill.h"

#include <fmt/core.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>

#include "os/process.h"
#include "source/dump/fill.h"
#include "source/dump/layout.h"
#include "source/postgres/recovery_place.h"
#include "source/postgres/sandbox.h"
#include "source/program/program.h"

namespace kuramori::dump {
namespace {

using postgres::QueryResult;

constexpr int kNewerMajorsMax = 5;  // that are looked for where the dump's own has no server here
constexpr Duration kInitLimit = std::chrono::minutes(5);
constexpr size_t kListedMax = 8;
constexpr std::string_view kName = "drill";

std::string place_for_sandboxes() {
  const char* chosen = ::getenv("TMPDIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : "/var/tmp";
}

// The server's own major, else the least newer one that is here.
Result<postgres::Programs> server_for(int major) {
  Error first;
  for (int candidate = major; candidate <= major + kNewerMajorsMax; ++candidate) {
    auto found = postgres::find_programs(candidate);
    if (found) return found;
    if (candidate == major) first = std::move(found).error();
  }
  return first;
}

class Drill {
 public:
  Drill(const DumpSettings& settings, const CapturedTree& tree, Reporter& reporter,
        const std::stop_token& stop)
      : settings_(settings), tree_(tree), reporter_(reporter), stop_(stop) {}

  Result<std::vector<CheckResult>> run() {
    TRY_ASSIGN(facts_, facts_of(tree_));
    TRY_ASSIGN(clients_, choose_clients(find_clients(settings_.program_folders), facts_.client_major,
                                        fmt::format("a dump of pg_dump {}", facts_.client_version)));
    TRY_ASSIGN(programs_, server_for(facts_.server_major()));
    TRY_ASSIGN(const auto swept, postgres::sweep_sandboxes(place_for_sandboxes()));
    for (const std::string& one : swept) reporter_.note(one);
    TRY(start());
    TRY(check_extensions());
    if (is_hopeless_) return std::move(checks_);
    TRY(check_roles());
    TRY(make_database());
    if (!fill()) return std::move(checks_);
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the drill was stopped");
    TRY_ASSIGN(database_, Session::open(target_, "", stop_));
    TRY(check_rows());
    TRY(check_objects());
    TRY(check_sequences());
    return std::move(checks_);
  }

 private:
  void add(std::string name, bool passed, std::string detail) {
    checks_.push_back({std::move(name), passed ? "passed" : "failed", std::move(detail)});
  }

  Result<void> start() {
    reporter_.phase("starting a server", 0);
    TRY_ASSIGN(const postgres::Account account, postgres::server_account());
    TRY_ASSIGN(auto folder, postgres::SandboxFolder::make(place_for_sandboxes(), account));
    const std::string data = folder.data_directory();
    TRY(make_folders(data));
    TRY(postgres::give_to(data, account, /*group_access=*/false));
    Command init{.argv = {programs_.folder + "/initdb", "--pgdata=" + data, "--username=" + superuser(),
                          "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"},
                 .folder = data,
                 .timeout = kInitLimit,
                 .stop = stop_};
    if (::geteuid() == 0) init.run_as = Identity{account.uid, account.gid};
    TRY(run_checked(init));
    postgres::SandboxOptions options{.programs = programs_, .data_directory = data, .superuser = superuser()};
    options.settings = {
        {"max_locks_per_transaction", "1024"},  // whatever the dump holds
        {"max_wal_size", "4GB"},
        {"wal_level", "minimal"},
        {"max_wal_senders", "0"},
        {"maintenance_work_mem", "128MB"},
        // Statements that fail may hold a role's password.
        {"log_min_error_statement", "panic"},
    };
    TRY_ASSIGN(sandbox_, postgres::Sandbox::start(std::move(folder), options, system_clock()));
    TRY_ASSIGN(target_, conninfo_of(sandbox_->connect("postgres"), ""));
    TRY_ASSIGN(cluster_, Session::open(target_, "", stop_));
    return {};
  }

  // initdb takes no role's name that begins with pg_.
  std::string superuser() const {
    const bool is_usable = !facts_.superuser.empty() && !facts_.superuser.starts_with("pg_");
    return is_usable ? facts_.superuser : "postgres";
  }

  Result<void> check_extensions() {
    std::vector<std::string> missing;
    for (const Extension& extension : facts_.extensions) {
      TRY_ASSIGN(const QueryResult there,
                 (*cluster_)->query("SELECT FROM pg_available_extensions WHERE name = $1", {extension.name}));
      if (there.rows() == 0) missing.push_back(fmt::format("{} {}", extension.name, extension.version));
    }
    is_hopeless_ = !missing.empty();
    add("extensions", missing.empty(),
        missing.empty() ? fmt::format("{} on this machine", facts_.extensions.size())
                        : fmt::format("not on this machine: {}; install the packages (Debian: "
                                      "postgresql-{}-NAME)",
                                      listed(missing), programs_.major));
    return {};
  }

  // As it would be done by hand. That roles are there already, the first of the cluster above all, is an
  // error that psql goes on after; so the roles are looked at afterwards.
  Result<void> check_roles() {
    if (clients_.has("psql")) {
      ProgramRequest psql{.argv = {clients_.program("psql"), "--no-psqlrc", "--quiet", "--no-password",
                                   "--dbname=" + target_.public_text()},
                          .environment = target_.environment(),
                          .stop = stop_,
                          .errors = ProgramRequest::Errors::kHidden};
      psql.give_input = [&](ContentSink& sink) { return tree_.read(kGlobalsFile, sink); };
      TRY(run_program(psql));
    }
    std::vector<std::string> missing;
    for (const std::string& role : facts_.roles) {
      TRY_ASSIGN(const QueryResult there,
                 (*cluster_)->query("SELECT FROM pg_roles WHERE rolname = $1", {role}));
      if (there.rows() == 0) missing.push_back(role);
    }
    if (clients_.has("psql")) {
      add("roles of globals.sql", missing.empty(),
          missing.empty() ? fmt::format("{} that own or may use something", facts_.roles.size())
                          : fmt::format("missing after it was read: {}", listed(missing)));
    } else {
      checks_.push_back({"roles of globals.sql", "uncounted",
                         fmt::format("psql is not in {}: they were made without it", clients_.folder)});
    }
    TRY(make_missing_roles(**cluster_, facts_.roles));
    return {};
  }

  Result<void> make_database() {
    const std::string name(kName);
    const auto made = (*cluster_)->run(create_statement(facts_, name, "", (*cluster_)->major()));
    if (made) {
      checks_.push_back({"locale", "passed", fmt::format("{}, {}", facts_.encoding, facts_.collate)});
    } else {
      DatabaseFacts plain = facts_;
      plain.collate = plain.ctype = "C";
      plain.locale_provider = "c";
      TRY((*cluster_)->run(create_statement(plain, name, "", (*cluster_)->major())));
      checks_.push_back(
          {"locale", "uncounted",
           fmt::format("{} is not on this machine ({}): proven with C, so an index that sorts text "
                       "otherwise is not",
                       facts_.collate, made.error().why)});
    }
    target_.set("dbname", name);
    return {};
  }

  bool fill() {
    reporter_.phase("restoring", 0);
    const Duration began = system_clock().steady();
    Result<void> filled = make_way();
    if (filled) {
      filled = fill_database(tree_, facts_,
                             {.target = target_,
                              .target_major = programs_.major,
                              .clients = clients_,
                              .only = only_,
                              .with_tablespaces = false,
                              .timeout = settings_.timeout},
                             reporter_, stop_);
    }
    const double seconds = std::chrono::duration<double>(system_clock().steady() - began).count();
    if (!filled) {
      add("it is restored", false, fmt::format("{}: {}", filled.error().what, filled.error().why));
      return false;
    }
    add("it is restored", true,
        fmt::format("by pg_restore {} into PostgreSQL {} in {:.1f} s{}", clients_.version, programs_.major,
                    seconds,
                    only_ && !only_->left_out.empty()
                        ? fmt::format("; {} foreign keys to tables that are not in it were left out",
                                      only_->left_out.size())
                        : ""));
    return true;
  }

  // A dump of tables alone: what else they need is made as it would have to be there.
  Result<void> make_way() {
    if (facts_.whole) return {};
    TRY_ASSIGN(const std::unique_ptr<Session> session, Session::open(target_, "", stop_));
    only_.emplace();
    for (const Table& table : facts_.tables) only_->tables.insert(table.oid);
    for (const Schema& schema : facts_.schemas) {
      TRY((*session)->run(fmt::format("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}",
                                      quoted_name(schema.name), quoted_name(schema.owner))));
    }
    for (const Extension& extension : facts_.extensions) {
      TRY((*session)->run(fmt::format("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}",
                                      quoted_name(extension.name), quoted_name(extension.schema))));
    }
    constexpr uint32_t kOfConstraints = 2606;  // pg_constraint has this number everywhere
    for (const Table& table : facts_.tables)
      for (const ForeignKey& key : table.foreign_keys)
        if (!only_->tables.contains(key.target_oid)) only_->left_out.insert({kOfConstraints, key.oid});
    return {};
  }

  Result<void> check_rows() {
    reporter_.phase("counting", 0);
    std::vector<std::string> wrong, uncounted;
    uint64_t rows = 0, tables = 0;
    for (const Table& table : facts_.tables) {
      if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the drill was stopped");
      if (!table.rows) {
        if (table.kind != 'p')
          uncounted.push_back(fmt::format("{} ({})", table.full_name(), table.uncounted));
        continue;
      }
      const auto count = (*database_)
                             ->query(fmt::format("SELECT count(*) FROM ONLY {}.{}", quoted_name(table.schema),
                                                 quoted_name(table.name)));
      if (!count) {
        wrong.push_back(fmt::format("{}: {}", table.full_name(), count.error().why));
        continue;
      }
      TRY_ASSIGN(const int64_t found, count->number(0, 0));
      ++tables;
      rows += static_cast<uint64_t>(found);
      if (static_cast<uint64_t>(found) != *table.rows)
        wrong.push_back(
            fmt::format("{} has {} rows, {} were counted", table.full_name(), found, *table.rows));
    }
    add("rows of every table", wrong.empty(),
        wrong.empty() ? fmt::format("{} rows in {} tables, as counted when the dump was taken", rows, tables)
                      : listed(wrong));
    if (!uncounted.empty()) checks_.push_back({"rows that were not counted", "uncounted", listed(uncounted)});
    return {};
  }

  Result<void> check_objects() {
    std::vector<std::string> wrong;
    for (const Table& table : facts_.tables) {
      const auto expect = [&](std::string_view kind, std::string_view query) -> Result<void> {
        TRY_ASSIGN(const std::string found,
                   (*database_)
                       ->value(std::string(query),
                               {fmt::format("{}.{}", quoted_name(table.schema), quoted_name(table.name))}));
        const auto had = std::ranges::count_if(table.parts, [&](const Part& part) {
          return part.kind == kind || (kind == "CONSTRAINT" && part.kind == "FK CONSTRAINT" &&
                                       !(only_ && only_->left_out.contains(part.id)));
        });
        if (found != std::to_string(had))
          wrong.push_back(fmt::format("{} has {} of kind {}, had {}", table.full_name(), found, kind, had));
        return {};
      };
      TRY(expect("INDEX", "SELECT count(*) FROM pg_index WHERE indrelid = to_regclass($1)"));
      TRY(expect(
          "CONSTRAINT",
          "SELECT count(*) FROM pg_constraint WHERE conrelid = to_regclass($1) AND contype IN ('c', 'f', "
          "'p', 'u', 'x')"));
      TRY(expect("TRIGGER",
                 "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND "
                 "tgparentid = 0"));
      TRY_ASSIGN(const std::string owner,
                 (*database_)
                     ->value("SELECT coalesce((SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = "
                             "to_regclass($1)), '')",
                             {fmt::format("{}.{}", quoted_name(table.schema), quoted_name(table.name))}));
      if (owner != table.owner)
        wrong.push_back(fmt::format("{} belongs to {}, not to {}", table.full_name(), owner, table.owner));
    }
    std::string counted = fmt::format("of {} tables", facts_.tables.size());
    if (facts_.whole) {
      TRY_ASSIGN(const ObjectCounts now, count_objects(**database_));
      const ObjectCounts& then = facts_.counts;
      const std::tuple<const char*, uint64_t, uint64_t> kinds[] = {
          {"tables", then.tables, now.tables},
          {"indexes", then.indexes, now.indexes},
          {"constraints", then.constraints, now.constraints},
          {"triggers", then.triggers, now.triggers},
          {"views", then.views, now.views},
          {"functions", then.functions, now.functions},
          {"sequences", then.sequences, now.sequences},
          {"policies", then.policies, now.policies},
          {"large objects", then.large_objects, now.large_objects}};
      counted.clear();
      for (const auto& [kind, before, after] : kinds) {
        counted += fmt::format("{}{} {}", counted.empty() ? "" : ", ", after, kind);
        if (before != after) wrong.push_back(fmt::format("{} {}, there were {}", after, kind, before));
      }
    }
    add("indexes, constraints, triggers, owners", wrong.empty(), wrong.empty() ? counted : listed(wrong));
    return {};
  }

  // A sequence that comes back behind gives out numbers that are taken (S11). PostgreSQL never takes one
  // back, so a dump may hold a later value than was seen before it.
  Result<void> check_sequences() {
    std::vector<std::string> wrong;
    uint64_t checked = 0;
    for (const Sequence& one : facts_.sequences) {
      if (!one.last) continue;
      TRY_ASSIGN(const QueryResult row,
                 (*database_)
                     ->query("SELECT pg_sequence_last_value(to_regclass($1)), (SELECT seqincrement < 0 FROM "
                             "pg_sequence WHERE seqrelid = to_regclass($1))",
                             {fmt::format("{}.{}", quoted_name(one.schema), quoted_name(one.name))}));
      ++checked;
      if (row.rows() != 1 || row.is_null(0, 0)) {
        wrong.push_back(fmt::format("{}.{} was never used, or is not there", one.schema, one.name));
        continue;
      }
      TRY_ASSIGN(const int64_t now, row.number(0, 0));
      const bool is_behind = row.is_true(0, 1) ? now > *one.last : now < *one.last;
      if (is_behind)
        wrong.push_back(fmt::format("{}.{} is at {}, was at {}", one.schema, one.name, now, *one.last));
    }
    add("sequences", wrong.empty(),
        wrong.empty() ? fmt::format("{} where they were, or further", checked) : listed(wrong));
    return {};
  }

  static std::string listed(const std::vector<std::string>& all) {
    std::string out;
    for (size_t i = 0; i < std::min(all.size(), kListedMax); ++i) out += (i > 0 ? "; " : "") + all[i];
    if (all.size() > kListedMax) out += fmt::format("; and {} more", all.size() - kListedMax);
    return out;
  }

  const DumpSettings& settings_;
  const CapturedTree& tree_;
  Reporter& reporter_;
  const std::stop_token& stop_;

  DatabaseFacts facts_;
  Clients clients_;
  postgres::Programs programs_;
  std::unique_ptr<postgres::Sandbox> sandbox_;  // ends after the sessions with it
  Conninfo target_;
  std::unique_ptr<Session> cluster_, database_;
  std::optional<WantedEntries> only_;
  bool is_hopeless_ = false;
  std::vector<CheckResult> checks_;
};

}  // namespace

Result<std::vector<CheckResult>> drill_dump(const DumpSettings& settings, const CapturedTree& tree,
                                            Reporter& reporter, const std::stop_token& stop) {
  if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the drill was stopped");
  return Drill(settings, tree, reporter, stop).run();
}

}  // namespace kuramori::dump
