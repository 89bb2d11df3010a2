#include "source/postgres/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "source/postgres/connection.h"
#include "source/postgres/timeline_history.h"

namespace kuramori::postgres {
namespace {

constexpr std::string_view kUnchanged = "unchanged";
constexpr size_t kAnswerRowsMax = 1000;
constexpr size_t kCorruptionsTold = 3;  // of one table

// Tables that hold rows of their own: not partitioned parents, whose rows are their partitions'. Extensions'
// and users' tables alike; an unlogged one is empty after a restore by its nature and is not expected to be
// otherwise.
constexpr const char* kListTables =
    "select n.nspname, c.relname, c.relpersistence from pg_class c join pg_namespace n on n.oid = "
    "c.relnamespace "
    "where c.relkind in ('r', 'm') and c.relpersistence <> 't' "
    "and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname not like "
    "'pg\\_temp\\_%' "
    "order by 1, 2";

struct Name {
  std::string schema, table;
  auto operator<=>(const Name&) const = default;
};

std::string short_text(std::string_view text, size_t most = 200) {
  if (text.size() <= most) return std::string(text);
  return fmt::format("{}…", text.substr(0, most));
}

std::string said(const Error& error) {
  return error.why.empty() ? error.what : error.what + ": " + error.why;
}

// Time that several checks share.
class Budget {
 public:
  Budget(Clock& clock, Duration limit) : clock_(clock), end_(clock.steady() + limit) {}
  Duration left() const { return end_ - clock_.steady(); }
  bool is_spent() const { return left() <= Duration::zero(); }

 private:
  Clock& clock_;
  Duration end_;
};

constexpr std::string_view kQueryCanceled = "57014";

class Checker {
 public:
  Checker(const std::function<std::string(const std::string&)>& connect, const CheckPlan& plan, Clock& clock)
      : connect_(connect), plan_(plan), clock_(clock), counting_(clock, plan.count_budget) {}

  Result<std::vector<CheckResult>> run() {
    TRY_ASSIGN(std::vector<std::string> databases, list_databases());
    if (plan_.must_reach != 0) check_end();
    for (const auto& database : databases) check_database(database);
    for (const auto& table : plan_.tables) {
      if (std::ranges::count(databases, table.database) > 0) continue;
      add(table_name(table.database, table.schema, table.name), Verdict::kFailed,
          fmt::format("the database {} is not there", table.database));
    }
    for (const auto& check : plan_.sql) check_sql(check);
    if (plan_.with_amcheck) {
      // Counting goes first everywhere: a proof without counts is worth less than one without amcheck.
      Budget budget(clock_, plan_.amcheck_budget);
      for (const auto& database : databases) check_structure(database, budget);
    }
    return std::move(results_);
  }

 private:
  const std::function<std::string(const std::string&)>& connect_;
  const CheckPlan& plan_;
  Clock& clock_;
  Budget counting_;
  std::vector<CheckResult> results_;

  void add(std::string name, Verdict verdict, std::string detail) {
    results_.push_back({std::move(name), verdict, std::move(detail)});
  }
  static std::string table_name(const std::string& database, const std::string& schema,
                                const std::string& table) {
    return fmt::format("table {}.{}.{}", database, schema, table);
  }

  Result<std::vector<std::string>> list_databases() {
    TRY_ASSIGN(Connection connection, Connection::open(connect_("template1")));
    TRY_ASSIGN(
        QueryResult rows,
        connection.query("select datname from pg_database where datallowconn and datname <> 'template0' "
                         "order by datname"));
    std::vector<std::string> names;
    for (size_t i = 0; i < rows.rows(); ++i) names.emplace_back(rows.text(i, 0));
    return names;
  }

  void check_end() {
    auto end = recovery_end(connect_("template1"));
    if (!end) {
      add("recovery", Verdict::kFailed, "where it ended cannot be told: " + said(end.error()));
    } else {
      add("recovery", *end >= plan_.must_reach ? Verdict::kPassed : Verdict::kFailed,
          fmt::format("ended at {}, promised was {}", format_lsn(*end), format_lsn(plan_.must_reach)));
    }
  }

  void check_database(const std::string& database) {
    auto connection = Connection::open(connect_(database));
    auto tables = connection ? connection->query(kListTables) : Result<QueryResult>(connection.error());
    if (!tables) {
      add("database " + database, Verdict::kFailed, "it does not open: " + said(tables.error()));
      return;
    }
    std::map<Name, bool> there;  // → is unlogged
    for (size_t i = 0; i < tables->rows(); ++i) {
      there[{std::string(tables->text(i, 0)), std::string(tables->text(i, 1))}] = tables->text(i, 2) == "u";
    }
    add("database " + database, Verdict::kPassed, fmt::format("opens, {} tables", there.size()));
    (void)connection->run("set default_transaction_read_only = on");
    for (const auto& expected : plan_.tables) {
      if (expected.database != database) continue;
      const std::string name = table_name(database, expected.schema, expected.name);
      auto found = there.find({expected.schema, expected.name});
      if (found == there.end()) {
        add(name, Verdict::kFailed, "it was there at the snapshot and is missing");
        continue;
      }
      if (found->second) {
        add(name, Verdict::kUncounted, "it is unlogged: a restore empties it");
      } else {
        check_count(*connection, name, expected);
      }
      there.erase(found);
    }
    for (const auto& [name, is_unlogged] : there) {
      if (!plan_.knows_tables || std::ranges::count(plan_.unlisted_databases, database) > 0) {
        add(table_name(database, name.schema, name.table), Verdict::kUncounted,
            "the snapshot recorded no counts");
      } else if (plan_.at_restore_point) {
        add(table_name(database, name.schema, name.table), Verdict::kFailed,
            "it was not there at the snapshot");
      } else {
        add(table_name(database, name.schema, name.table), Verdict::kUncounted,
            "it is newer than the snapshot");
      }
    }
  }

  void check_count(Connection& connection, const std::string& name, const ExpectedTable& expected) {
    if (!expected.rows) {
      add(name, Verdict::kUncounted,
          expected.uncounted.empty()
              ? "it is there; the snapshot did not count its rows"
              : "it is there; the snapshot did not count its rows: " + expected.uncounted);
      return;
    }
    if (counting_.is_spent()) {
      add(name, Verdict::kUncounted, "it is there; the time for counting was used up");
      return;
    }
    (void)connection.set_statement_timeout(
        std::max<Duration>(counting_.left(), std::chrono::milliseconds(100)));
    auto count = connection.value(fmt::format("select count(*) from only {}.{}",
                                              connection.quoted_name(expected.schema),
                                              connection.quoted_name(expected.name)));
    if (!count) {
      if (connection.sqlstate() == kQueryCanceled) {
        add(name, Verdict::kUncounted, "it is there; the time for counting was used up");
      } else {
        add(name, Verdict::kFailed, "its rows cannot be read: " + said(count.error()));
      }
      return;
    }
    const int64_t rows = std::stoll(*count);
    const int64_t then = *expected.rows;
    if (plan_.at_restore_point && (expected.exact || rows == then)) {
      add(name, rows == then ? Verdict::kPassed : Verdict::kFailed,
          rows == then ? fmt::format("{} rows, as at the snapshot", rows)
                       : fmt::format("{} rows, but {} at the snapshot", rows, then));
      return;
    }
    const bool has_bounds = expected.fewest && expected.most;
    if (has_bounds && (rows < *expected.fewest || rows > *expected.most)) {
      add(name, Verdict::kFailed,
          fmt::format("{} rows; {} at the snapshot, and the WAL since then allows {} to {}", rows, then,
                      *expected.fewest, *expected.most));
    } else if (has_bounds && *expected.fewest == *expected.most) {
      add(name, Verdict::kPassed, fmt::format("{} rows, as at the snapshot: nothing touched it since", rows));
    } else {
      add(name, Verdict::kBounded,
          has_bounds
              ? fmt::format("{} rows; {} at the snapshot, and the WAL since then allows {} to {}", rows, then,
                            *expected.fewest, *expected.most)
              : fmt::format("{} rows; {} when the snapshot counted it, which is another moment", rows, then));
    }
  }

  void check_sql(const SqlCheck& check) {
    const std::string name = "sql: " + short_text(check.query);
    const std::string& database = check.database.empty() ? plan_.default_database : check.database;
    auto answer = answer_of(connect_(database), check.query);
    if (!answer) {
      add(name, Verdict::kFailed, said(answer.error()));
      return;
    }
    if (check.expect != kUnchanged) {
      const bool same = *answer == check.expect;
      add(name, same ? Verdict::kPassed : Verdict::kFailed,
          same
              ? fmt::format("\"{}\" as expected", short_text(*answer))
              : fmt::format("\"{}\", but expected is \"{}\"", short_text(*answer), short_text(check.expect)));
      return;
    }
    if (!check.at_capture) {
      add(name, Verdict::kUncounted,
          fmt::format("\"{}\"; what it answered at the snapshot is not known", short_text(*answer)));
    } else if (*answer == *check.at_capture) {
      add(name, Verdict::kPassed, fmt::format("\"{}\", unchanged", short_text(*answer)));
    } else if (plan_.at_restore_point) {
      add(name, Verdict::kFailed,
          fmt::format("\"{}\", but \"{}\" at the snapshot", short_text(*answer),
                      short_text(*check.at_capture)));
    } else {
      add(name, Verdict::kBounded,
          fmt::format("\"{}\"; \"{}\" at the snapshot, which is another moment", short_text(*answer),
                      short_text(*check.at_capture)));
    }
  }

  // --- amcheck -------------------------------------------------------------------------------------------

  // The schema amcheck is in; it is installed into this copy if it is not there yet.
  Result<std::string> amcheck_schema(Connection& connection) {
    constexpr const char* kFind =
        "select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where extname = "
        "'amcheck'";
    auto schema = connection.value(kFind);
    if (schema) return schema;
    if (schema.error().kind != ErrorKind::kNotFound) return schema;
    TRY(connection.run("create schema if not exists kuramori_check"));
    TRY(connection.run("create extension amcheck schema kuramori_check"));
    return connection.value(kFind);
  }

  void check_structure(const std::string& database, const Budget& budget) {
    const std::string name = "amcheck " + database;
    auto connection = Connection::open(connect_(database));
    if (!connection) return;  // check_database said so
    auto found = amcheck_schema(*connection);
    if (!found) {
      add(name, Verdict::kUncounted, "amcheck cannot be used: " + said(found.error()));
      return;
    }
    const std::string schema = connection->quoted_name(*found);
    const bool has_heap = connection->major() >= 14;
    // Small ones first: the most objects for the time there is. Catalogs too, they are what is missed most.
    auto objects = connection->query(
        "select c.oid::bigint, n.nspname || '.' || c.relname, c.relkind = 'i' from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace left join pg_index i on i.indexrelid = c.oid "
        "left join pg_am a on a.oid = c.relam "
        "where c.relpersistence = 'p' and ((c.relkind = 'i' and a.amname = 'btree' and i.indisvalid and "
        "i.indisready) "
        "or (c.relkind in ('r', 'm', 't') and a.amname = 'heap')) order by c.relpages, 1");
    if (!objects) {
      add(name, Verdict::kFailed, said(objects.error()));
      return;
    }
    size_t checked = 0, possible = 0;
    bool is_sound = true;
    for (size_t i = 0; i < objects->rows(); ++i) {
      const bool is_index = objects->is_true(i, 2);
      if (!is_index && !has_heap) continue;
      ++possible;
      if (budget.is_spent()) continue;
      (void)connection->set_statement_timeout(
          std::max<Duration>(budget.left(), std::chrono::milliseconds(100)));
      const std::string oid(objects->text(i, 0));
      const std::string sql =
          is_index
              ? fmt::format("select {}.bt_index_check({}::regclass, true)", schema, oid)
              : fmt::format("select blkno, offnum, msg from {}.verify_heapam({}::regclass)", schema, oid);
      auto answer = connection->query(sql);
      const std::string object =
          fmt::format("{} {}.{}", is_index ? "index" : "table", database, objects->text(i, 1));
      if (!answer) {
        if (connection->sqlstate() == kQueryCanceled) continue;
        is_sound = false;
        add(object, Verdict::kFailed, "amcheck: " + said(answer.error()));
      } else if (!is_index && answer->rows() > 0) {
        is_sound = false;
        std::string detail = fmt::format("amcheck found {} corruptions", answer->rows());
        for (size_t row = 0; row < std::min(answer->rows(), kCorruptionsTold); ++row) {
          detail += fmt::format("; block {} item {}: {}", answer->text(row, 0), answer->text(row, 1),
                                answer->text(row, 2));
        }
        add(object, Verdict::kFailed, detail);
      }
      ++checked;
    }
    const Verdict verdict = !is_sound             ? Verdict::kFailed
                            : checked == possible ? Verdict::kPassed
                                                  : Verdict::kBounded;
    add(name, verdict,
        fmt::format("{} of {} indexes{} checked{}", checked, possible, has_heap ? " and tables" : "",
                    checked == possible ? "" : ": the time for it was used up"));
  }
};

}  // namespace

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPassed:
      return "passed";
    case Verdict::kBounded:
      return "bounded";
    case Verdict::kUncounted:
      return "uncounted";
    case Verdict::kFailed:
      return "failed";
  }
  return "failed";
}

void expect_counts(const Counts& counts, const RowChanges* changes, CheckPlan& plan) {
  plan.knows_tables = !counts.databases.empty();
  for (const auto& database : counts.databases) {
    if (!database.uncounted.empty() && database.tables.empty())
      plan.unlisted_databases.push_back(database.name);
    for (const auto& table : database.tables) {
      ExpectedTable expected{.database = database.name, .schema = table.schema, .name = table.table};
      if (table.rows) expected.rows = static_cast<int64_t>(*table.rows);
      expected.uncounted = table.uncounted;
      // The statistics reach everybody with a delay: that they did not move is a hint, what the WAL says is
      // certain.
      const bool has_numbers =
          changes && changes->is_complete() && expected.rows && database.oid != 0 && table.file_number != 0;
      expected.exact = database.exact || (!has_numbers && !table.touched);
      if (has_numbers) {
        const RowChanges::Table change = changes->of(database.oid, table.file_number);
        if (!change.replaced) {
          expected.fewest = std::max<int64_t>(0, *expected.rows - change.deleted);
          expected.most = *expected.rows + change.inserted;
        }
      }
      plan.tables.push_back(std::move(expected));
    }
  }
}

Verdict overall(const std::vector<CheckResult>& results) {
  Verdict worst = results.empty() ? Verdict::kFailed : Verdict::kPassed;
  for (const auto& result : results) worst = std::max(worst, result.verdict);
  return worst;
}

Result<Lsn> recovery_end(const std::string& connect) {
  TRY_ASSIGN(Connection connection, Connection::open(connect));
  TRY_ASSIGN(std::string timeline_hex,
             connection.value("select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"));
  TRY_ASSIGN(std::string text,
             connection.value("select pg_read_file('pg_wal/' || $1 || '.history')", {timeline_hex}));
  const auto timeline = static_cast<Timeline>(std::stoul(timeline_hex, nullptr, 16));
  TRY_ASSIGN(TimelineHistory history, parse_timeline_history(text, timeline));
  if (history.entries.empty()) return fail(ErrorKind::kFailed, "the server was not promoted");
  return history.entries.back().switch_lsn;
}

Result<std::string> answer_of(const std::string& connect, const std::string& query) {
  TRY_ASSIGN(Connection connection, Connection::open(connect, {.statement_timeout = kSqlCheckLimit}));
  // The plan's author wrote it for an ordinary session of this database, whose names need no schema.
  auto path = connection.value(
      "select coalesce((select split_part(s, '=', 2) from pg_db_role_setting r, unnest(r.setconfig) s, "
      "pg_database d "
      "where d.oid = r.setdatabase and d.datname = current_database() and r.setrole = 0 and s like "
      "'search_path=%'), "
      "'\"$user\", public')");
  if (path) TRY(connection.run("set search_path = " + *path));
  TRY(connection.run("set default_transaction_read_only = on"));
  TRY_ASSIGN(QueryResult rows, connection.query(query));
  std::string text;
  for (size_t row = 0; row < std::min(rows.rows(), kAnswerRowsMax); ++row) {
    if (row > 0) text += '\n';
    for (size_t column = 0; column < rows.columns(); ++column) {
      if (column > 0) text += '|';
      text += rows.text(row, column);
    }
  }
  return text;
}

Result<std::vector<CheckResult>> run_checks(
    const std::function<std::string(const std::string& database)>& connect, const CheckPlan& plan,
    Clock& clock) {
  return Checker(connect, plan, clock).run();
}

}  // namespace kuramori::postgres
