#include "source/dump/capture.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "source/dump/clients.h"
#include "source/dump/dump_program.h"
#include "source/dump/facts.h"
#include "source/dump/fill.h"
#include "source/dump/layout.h"
#include "source/dump/session.h"
#include "source/program/program.h"

namespace kuramori::dump {
namespace {

constexpr size_t kTablesPerLock = 200;  // in one statement
constexpr Duration kLockPollStep = std::chrono::milliseconds(20);
constexpr Duration kLockPause = std::chrono::milliseconds(100);  // for those who wait, growing
constexpr Duration kLockGrace = std::chrono::seconds(60);        // for what pg_dump does before it locks
constexpr size_t kSaidShownMax = 500;  // bytes of what a program that ended well said

std::string milliseconds(Duration limit) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(limit).count());
}

Result<void> lock(postgres::Connection& connection, const std::vector<Table>& tables) {
  std::string list;
  size_t listed = 0;
  const auto flush = [&]() -> Result<void> {
    if (listed > 0) TRY(connection.run("LOCK TABLE " + list + " IN ACCESS SHARE MODE"));
    list.clear();
    listed = 0;
    return {};
  };
  for (const Table& table : tables) {
    if (table.kind != 'r' && table.kind != 'p') continue;  // what pg_dump locks
    list += fmt::format("{}ONLY {}.{}", listed > 0 ? ", " : "", connection.quoted_name(table.schema),
                        connection.quoted_name(table.name));
    if (++listed == kTablesPerLock) TRY(flush());
  }
  return flush();
}

bool came_or_went(std::string_view sqlstate) {
  return sqlstate == "42P01" || sqlstate == "3F000" || sqlstate == "42809";
}

struct Moment {
  std::string snapshot;
  std::vector<Table> tables;
  std::unique_ptr<DumpProgram> dump;  // it has its locks
};

// Locks first, then the snapshot. What came between the list and the locks makes it begin again.
Result<Moment> fix_moment(postgres::Connection& connection, const DumpSettings& settings) {
  for (int attempt = 0; attempt < kLockAttemptsMax; ++attempt) {
    TRY_ASSIGN(const std::vector<Table> listed, list_tables(connection, settings.tables));
    TRY(connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"));
    // SET and LOCK take no snapshot; the first SELECT does.
    TRY(connection.run("SET LOCAL lock_timeout = " + milliseconds(settings.lock_wait)));
    if (auto locked = lock(connection, listed); !locked) {
      if (!came_or_went(connection.sqlstate())) return std::move(locked).error();
      TRY(connection.run("ROLLBACK"));
      continue;
    }
    Moment moment{};
    TRY_ASSIGN(moment.snapshot, connection.value("SELECT pg_export_snapshot()"));
    TRY_ASSIGN(moment.tables, list_tables(connection, settings.tables));
    const bool same = std::ranges::all_of(moment.tables, [&](const Table& table) {
      return std::ranges::any_of(listed, [&](const Table& known) { return known.oid == table.oid; });
    });
    if (same || attempt + 1 == kLockAttemptsMax) return moment;
    TRY(connection.run("ROLLBACK"));
  }
  return fail(ErrorKind::kFailed, "the tables could not be locked",
              fmt::format("some came or went at each of {} attempts", kLockAttemptsMax),
              "try again when fewer tables are made and dropped, or name those you need: tables: [ … ]");
}

ProgramRequest dump_request(const DumpSettings& settings, const Conninfo& conninfo, const Clients& clients,
                            const Moment& moment) {
  std::vector<std::string> argv = {clients.program("pg_dump"),
                                   "--format=custom",
                                   "--compress=0",
                                   "--no-password",
                                   "--snapshot=" + moment.snapshot,
                                   "--lock-wait-timeout=" + milliseconds(settings.lock_wait),
                                   "--dbname=" + conninfo.public_text()};
  if (!settings.tables.empty()) {
    // A pattern in double quotes matches itself alone.
    argv.emplace_back("--strict-names");
    for (const Table& table : moment.tables)
      argv.push_back(fmt::format("--table={}.{}", quoted_name(table.schema), quoted_name(table.name)));
  }
  return {.argv = std::move(argv), .environment = conninfo.environment(), .timeout = settings.timeout};
}

enum class Locks : uint8_t { kHeld, kBlocked };

// Waits until the program holds a lock on every table. Blocked: it waits behind somebody who waits for us,
// say a TRUNCATE, and would for ever.
Result<Locks> await_locks(postgres::Connection& connection, const Moment& moment,
                          const std::string& application, Duration limit, const std::stop_token& stop) {
  std::string oids = "{";
  size_t count = 0;
  for (const Table& table : moment.tables) {
    if (table.kind != 'r' && table.kind != 'p') continue;
    oids += fmt::format("{}{}", count++ > 0 ? "," : "", table.oid);
  }
  oids += "}";
  const Duration begun = system_clock().steady();
  for (;;) {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
    // Its failure is told when its output is asked for.
    if (moment.dump->ended()) return Locks::kHeld;
    // What is going on stands still within a transaction, unless told otherwise.
    TRY(connection.run("SELECT pg_stat_clear_snapshot()"));
    TRY_ASSIGN(const postgres::QueryResult row,
               connection.query("SELECT count(DISTINCT l.relation) FILTER (WHERE l.granted AND l.relation = "
                                "ANY($2::oid[])), count(*) FILTER (WHERE NOT l.granted) FROM pg_locks l JOIN "
                                "pg_stat_activity a ON a.pid = l.pid WHERE a.application_name = $1",
                                {application, oids}));
    if (row.text(0, 0) == std::to_string(count)) return Locks::kHeld;
    if (row.text(0, 1) != "0") return Locks::kBlocked;
    if (system_clock().steady() - begun > limit) {
      return fail(
          ErrorKind::kFailed, "pg_dump did not lock the tables in time",
          fmt::format("it has {} of {}", row.text(0, 0), count),
          "see pg_stat_activity for what it does; a connection pooler cannot be between: name the server");
    }
    system_clock().sleep(kLockPollStep);
  }
}

// Whether globals.sql can have the roles' passwords, which PostgreSQL keeps in a table of its own.
Result<bool> may_read_passwords(postgres::Connection& connection) {
  TRY_ASSIGN(const std::string may,
             connection.value("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')"));
  return may == "t";
}

// The moment, and a pg_dump that has imported it and holds its locks. Until it does, somebody who wants a
// table for himself may have come between: we let go, he has his turn, and it begins again.
Result<Moment> begin_dump(postgres::Connection& connection, const DumpSettings& settings,
                          const Conninfo& conninfo, const Clients& clients, const std::stop_token& stop) {
  for (int attempt = 1; attempt <= kLockAttemptsMax; ++attempt) {
    TRY_ASSIGN(Moment moment, fix_moment(connection, settings));
    // By which its locks are known.
    const std::string application = "kuramori dump " + moment.snapshot;
    Conninfo named = conninfo;
    named.set("application_name", application);
    moment.dump = std::make_unique<DumpProgram>(dump_request(settings, named, clients, moment), stop);
    TRY_ASSIGN(const Locks locks,
               await_locks(connection, moment, application, settings.lock_wait + kLockGrace, stop));
    if (locks == Locks::kHeld) return moment;
    moment.dump.reset();
    TRY(connection.run("ROLLBACK"));
    system_clock().sleep(kLockPause * attempt);
  }
  return fail(
      ErrorKind::kFailed, "the tables could not be locked",
      fmt::format("somebody wanted one for himself at each of {} attempts (TRUNCATE, ALTER, VACUUM FULL)",
                  kLockAttemptsMax),
      "try again when fewer of these run, or dump from a standby");
}

std::string readme(const DatabaseFacts& facts) {
  std::string text = fmt::format(
      "A dump of the PostgreSQL database {} ({}), taken by pg_dump {} of a server of version {}.\n\n"
      "database.dump    in pg_dump's custom format, not compressed\n"
      "globals.sql      roles and tablespaces of the cluster, as pg_dumpall writes them, {} passwords\n"
      "extensions.json  extensions, which must be installed where it is restored\n"
      "database.json    what the database was: owner, locale, settings, rows of each table\n\n"
      "By hand, with pg_restore {} or newer:\n\n"
      "    psql -X -f globals.sql postgres        # roles that are there already are errors that do no harm\n"
      "    createdb --template=template0 NAME\n"
      "    pg_restore --exit-on-error -d NAME database.dump\n",
      facts.database, facts.whole ? "the whole of it" : fmt::format("{} of its tables", facts.tables.size()),
      facts.client_version, facts.server_version / 10000, facts.role_passwords ? "with" : "without",
      facts.client_major);
  if (!facts.whole) {
    text +=
        "\nOnly tables are in it, with their indexes, constraints, sequences and grants: their schemas, and "
        "types and "
        "functions that they use,\nmust be there before.\n";
  }
  return text;
}

class DumpCapture final : public TreeCapture {
 public:
  DumpCapture(DumpSettings settings, Conninfo conninfo, Clients clients, std::unique_ptr<Session> session,
              std::unique_ptr<DumpProgram> dump, DatabaseFacts facts, Reporter& reporter,
              std::stop_token stop)
      : settings_(std::move(settings)),
        conninfo_(std::move(conninfo)),
        clients_(std::move(clients)),
        session_(std::move(session)),
        dump_(std::move(dump)),
        database_(std::move(facts)),
        reporter_(reporter),
        stop_(std::move(stop)) {}

  Result<std::optional<CaptureItem>> next() override {
    constexpr std::string_view kFiles[] = {kReadmeFile, kDumpFile, kFactsFile, kExtensionsFile, kGlobalsFile};
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
    const size_t at = given_++;
    if (at == 0)
      return std::optional(CaptureItem{.entry = {.path = "", .type = EntryType::kDirectory, .mode = 0700}});
    if (at > std::size(kFiles)) return std::optional<CaptureItem>();
    // No time: that it was dumped today is no change. A database has nothing that tells whether it changed,
    // so it is always read.
    return std::optional(CaptureItem{.entry = {.path = std::string(kFiles[at - 1]),
                                               .type = EntryType::kFile,
                                               .content = ContentKind::kBytes,
                                               .mode = 0600}});
  }

  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
    const std::string& path = item.entry.path;
    uint64_t bytes = 0;
    const auto give = [&](ByteView piece) -> Result<void> {
      bytes += piece.size();
      return sink.add(piece);
    };
    Result<void> done;
    if (path == kDumpFile) {
      done = dump(give);
      dump_bytes_ = bytes;
    } else if (path == kGlobalsFile) {
      done = globals(give);
    } else if (path == kFactsFile) {
      done = count_and_tell(give);
    } else if (path == kExtensionsFile) {
      done = give(encode_extensions(database_));
    } else {
      done = give(as_bytes(readme(database_)));
    }
    if (!done) return explained(std::move(done).error(), stop_);
    item.entry.size = bytes;
    item.ctime_ns = 0;
    ++read_;
    return {};
  }

  Result<void> finish() override {
    if (read_ != 5) return fail(ErrorKind::kFailed, "the dump was not taken as a whole");
    // Its end is not needed for the dump to be one; a server that went away is not told.
    (void)(*session_)->run("COMMIT");
    return {};
  }

  std::vector<Defect> defects() const override { return {}; }
  std::map<std::string, std::string> facts() const override {
    return {{"server_version", std::to_string(database_.server_version)},
            {"client_version", clients_.version},
            {"scope", database_.whole ? "database" : "tables"},
            {"tables", std::to_string(database_.tables.size())},
            {"rows", std::to_string(rows_)},
            {"tables_uncounted", std::to_string(uncounted_)},
            {"sequences", std::to_string(database_.sequences.size())},
            {"extensions", std::to_string(database_.extensions.size())},
            {"roles", std::to_string(database_.roles.size())},
            {"large_objects", std::to_string(database_.counts.large_objects)},
            {"role_passwords", database_.role_passwords ? "yes" : "no"},
            {"standby", database_.standby ? "yes" : "no"},
            {"dump_bytes", std::to_string(dump_bytes_)}};
  }

 private:
  using Give = std::function<Result<void>(ByteView)>;

  Result<void> run(std::string_view program, std::vector<std::string> arguments, const Give& give) {
    std::string said;
    ProgramRequest request{.argv = {clients_.program(program)},
                           .environment = conninfo_.environment(),
                           .timeout = settings_.timeout,
                           .stop = stop_,
                           .on_output = give,
                           .said = &said};
    std::ranges::move(arguments, std::back_inserter(request.argv));
    TRY(run_program(request));
    tell(program, said);
    return {};
  }

  Result<void> dump(const Give& give) {
    TRY(dump_->read(give));
    tell("pg_dump", dump_->said());
    return {};
  }

  // Warnings of a program that ended well: circular foreign keys, say.
  void tell(std::string_view program, const std::string& said) {
    if (!said.empty()) reporter_.warning(fmt::format("{}: {}", program, said.substr(0, kSaidShownMax)));
  }

  Result<void> globals(const Give& give) {
    std::vector<std::string> arguments = {"--globals-only", "--no-password",
                                          "--dbname=" + conninfo_.public_text(),
                                          "--database=" + database_.database};
    if (!database_.role_passwords) arguments.emplace_back("--no-role-passwords");
    return run("pg_dumpall", std::move(arguments), give);
  }

  Result<void> count_and_tell(const Give& give) {
    DatabaseFacts counted = database_;
    TRY(count_rows(**session_, counted, stop_));
    for (const Table& table : counted.tables) {
      rows_ += table.rows.value_or(0);
      if (!table.rows && table.kind != 'p') ++uncounted_;
    }
    return give(encode_facts(counted));
  }

  const DumpSettings settings_;
  const Conninfo conninfo_;
  const Clients clients_;
  std::unique_ptr<Session> session_;  // holds the snapshot; asked by whoever reads kFactsFile alone
  std::unique_ptr<DumpProgram> dump_;
  const DatabaseFacts database_;
  Reporter& reporter_;
  const std::stop_token stop_;
  size_t given_ = 0;
  std::atomic<size_t> read_ = 0;
  std::atomic<uint64_t> dump_bytes_ = 0, rows_ = 0, uncounted_ = 0;
};

}  // namespace

Result<std::unique_ptr<TreeCapture>> begin_capture(const DumpSettings& settings, Reporter& reporter,
                                                   std::stop_token stop) {
  if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the capture was stopped");
  TRY_ASSIGN(Conninfo conninfo, conninfo_of(settings.connect, settings.password));
  TRY_ASSIGN(std::unique_ptr<Session> session, Session::open(conninfo, "", stop));
  TRY_ASSIGN(Clients clients, choose_clients(find_clients(settings.program_folders),
                                             static_cast<int>((*session)->major()), "a dump of that server"));
  // Programs are to reach the very database that was locked, whatever the defaults are.
  TRY_ASSIGN(const std::string database, (*session)->value("SELECT current_database()"));
  conninfo.set("dbname", database);
  reporter.phase("locking", 0);
  auto moment = begin_dump(**session, settings, conninfo, clients, stop);
  if (!moment) return explained(std::move(moment).error(), stop);
  auto facts = read_facts(**session, std::move(moment->tables), settings.tables.empty());
  if (!facts) return explained(std::move(facts).error(), stop);
  facts->client_version = clients.version;
  facts->client_major = clients.major;
  TRY_ASSIGN(facts->role_passwords, may_read_passwords(**session));
  reporter.phase("dumping", 0);
  return std::make_unique<DumpCapture>(settings, std::move(conninfo), std::move(clients), std::move(session),
                                       std::move(moment->dump), std::move(*facts), reporter, std::move(stop));
}

}  // namespace kuramori::dump
