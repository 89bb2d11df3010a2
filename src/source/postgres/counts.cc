#include "source/postgres/counts.h"

#include "source/postgres/connection.h"

namespace kuramori::postgres {
namespace {

struct Open {
  Connection connection;
  DatabaseCounts counts;
};

// Everything that holds rows of its own: partitions, not the partitioned table above them.
// The size is an estimate: pg_relation_size() would wait for whoever locks a table.
constexpr char kListTables[] =
    "SELECT n.nspname, c.relname, c.oid,"
    " greatest(c.relpages::bigint * 8192, coalesce(s.n_live_tup, 0) * 32) AS bytes, c.relpersistence,"
    " coalesce(s.n_tup_ins, 0), coalesce(s.n_tup_upd, 0), coalesce(s.n_tup_del, 0),"
    " coalesce(pg_relation_filenode(c.oid), 0), has_table_privilege(c.oid, 'SELECT')"
    " AND has_schema_privilege(n.oid, 'USAGE')"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid"
    " WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    " AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp\\_%'"
    " AND c.relpersistence <> 't' ORDER BY bytes, n.nspname, c.relname";

// Whoever writes holds a lock on its own transaction id until after its end is visible to others. A snapshot
// does not tell: its xmax is the last that ended, not the last that began.
constexpr char kWriters[] =
    "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted";

Result<void> list_tables(Open& open) {
  TRY_ASSIGN(const QueryResult listed, open.connection.query(kListTables));
  for (size_t row = 0; row < listed.rows(); ++row) {
    TableCount table;
    table.schema = listed.text(row, 0);
    table.table = listed.text(row, 1);
    TRY_ASSIGN(const int64_t oid, listed.number(row, 2));
    table.oid = static_cast<uint32_t>(oid);
    TRY_ASSIGN(const int64_t bytes, listed.number(row, 3));
    table.bytes = static_cast<uint64_t>(bytes);
    if (listed.text(row, 4) == "u") table.uncounted = "unlogged: empty after a restore";
    TRY_ASSIGN(table.inserted, listed.number(row, 5));
    TRY_ASSIGN(table.updated, listed.number(row, 6));
    TRY_ASSIGN(table.deleted, listed.number(row, 7));
    TRY_ASSIGN(const int64_t filenode, listed.number(row, 8));
    if (!listed.is_true(row, 9)) table.uncounted = "the role may not read it";
    table.file_number = static_cast<uint32_t>(filenode);
    open.counts.tables.push_back(std::move(table));
  }
  return {};
}

bool is_wanted(const CountsOptions& options, const std::string& database, const TableCount& table) {
  if (options.mode != CountsMode::kTables) return true;
  const std::string name = table.schema + "." + table.table;
  return std::any_of(options.tables.begin(), options.tables.end(), [&](const std::string& wanted) {
    return wanted == name || wanted == database + "." + name;
  });
}

// Counts one table, or says why not. An error of the connection alone is an error.
Result<void> count_table(Open& open, size_t index, Duration left) {
  TableCount& table = open.counts.tables[index];
  Connection& connection = open.connection;
  const auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(left).count();
  TRY(connection.run(fmt::format("SET LOCAL statement_timeout = {}", limit)));
  TRY(connection.run("SAVEPOINT one"));
  auto rows = connection.query("SELECT count(*) FROM ONLY " + connection.quoted_name(table.schema) + "." +
                               connection.quoted_name(table.table));
  if (!rows) {
    if (rows.error().kind == ErrorKind::kUnknown) return std::move(rows).error();
    const std::string& state = connection.sqlstate();
    table.uncounted = state == "57014"   ? "it takes longer than the budget"
                      : state == "55P03" ? "somebody holds a lock on it"
                      : state == "42P01" ? "dropped while counting"
                                         : rows.error().why;
    return connection.run("ROLLBACK TO SAVEPOINT one");
  }
  TRY_ASSIGN(const int64_t count, rows->number(0, 0));
  TRY(connection.run("RELEASE SAVEPOINT one"));
  // TRUNCATE and rewrites ignore snapshots: what was counted is then not what the snapshot saw.
  TRY_ASSIGN(const std::string filenode, connection.value("SELECT coalesce(pg_relation_filenode($1::oid), 0)",
                                                          {std::to_string(table.oid)}));
  if (filenode != std::to_string(table.file_number)) {
    table.uncounted = "rewritten or truncated while counting";
  } else {
    table.rows = static_cast<uint64_t>(count);
  }
  return {};
}

// Which tables' statistics moved since they were listed. Backends report with a delay, so an equal count is a
// hint, an unequal one a certainty; `exact` does not depend on it.
Result<void> mark_touched(Open& open) {
  std::map<uint32_t, std::array<int64_t, 3>> now;
  TRY_ASSIGN(const QueryResult stats,
             open.connection.query("SELECT relid, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_all_tables"));
  for (size_t row = 0; row < stats.rows(); ++row) {
    TRY_ASSIGN(const int64_t oid, stats.number(row, 0));
    for (size_t column = 0; column < 3; ++column) {
      TRY_ASSIGN(now[static_cast<uint32_t>(oid)][column], stats.number(row, column + 1));
    }
  }
  for (TableCount& table : open.counts.tables) {
    const auto found = now.find(table.oid);
    const std::array<int64_t, 3> before = {table.inserted, table.updated, table.deleted};
    table.touched = found == now.end() ? before != std::array<int64_t, 3>{} : found->second != before;
  }
  return {};
}

Result<std::vector<std::string>> database_names(Connection& connection) {
  TRY_ASSIGN(const QueryResult listed,
             connection.query("SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2"
                              " ORDER BY datname"));
  std::vector<std::string> names;
  for (size_t row = 0; row < listed.rows(); ++row) names.emplace_back(listed.text(row, 0));
  return names;
}

}  // namespace

Result<Counts> count_rows(const std::string& connect, const CountsOptions& options, Clock& clock,
                          Reporter& reporter) {
  Counts result;
  result.taken_ns = to_unix_ns(clock.now());
  if (options.mode == CountsMode::kOff) return result;
  TRY_ASSIGN(Connection main, Connection::open(connect));
  TRY_ASSIGN(const std::string recovering, main.value("SELECT pg_is_in_recovery()"));
  const bool standby = recovering == "t";
  TRY_ASSIGN(const std::vector<std::string> names, database_names(main));

  // All databases' snapshots first, close together; then the restore point; only then the counting.
  std::vector<Open> opened;
  for (const std::string& name : names) {
    auto connection = Connection::open(connect, {.database = name});
    if (!connection) {
      DatabaseCounts skipped;
      skipped.name = name;
      skipped.uncounted = connection.error().why;
      reporter.note(fmt::format("rows of database {} are not counted: {}", name, skipped.uncounted));
      result.databases.push_back(std::move(skipped));
      continue;
    }
    opened.push_back({.connection = std::move(*connection), .counts = {.name = name}});
    TRY_ASSIGN(const std::string oid, opened.back().connection.value(
                                          "SELECT oid FROM pg_database WHERE datname = current_database()"));
    opened.back().counts.oid = static_cast<uint32_t>(std::strtoul(oid.c_str(), nullptr, 10));
    TRY(list_tables(opened.back()));
  }
  for (Open& open : opened) {
    TRY(open.connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"));
    TRY(open.connection.run("SET LOCAL row_security = off"));
    TRY(open.connection.run(
        fmt::format("SET LOCAL lock_timeout = {}",
                    std::chrono::duration_cast<std::chrono::milliseconds>(kCountsLockWait).count())));
    TRY_ASSIGN(open.counts.snapshot, open.connection.value("SELECT pg_current_snapshot()"));
  }
  if (!standby && !options.restore_point.empty()) {
    auto made = main.value("SELECT pg_create_restore_point($1)", {options.restore_point});
    if (!made) {
      Error error = std::move(made).error();
      error.what = "no restore point for the row counts";
      if (error.kind == ErrorKind::kDenied)
        error.next = "psql -c 'GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO <role>'";
      return error;
    }
    TRY_ASSIGN(result.restore_point_lsn, parse_lsn(*made));
    result.restore_point = options.restore_point;
    // Nobody ended, nobody who had begun by then wrote: transactions in progress are the same before and
    // after.
    // In this order: one who ended before the look at the locks moved the snapshot after it; one who had its
    // commit in the WAL by the restore point and had not ended still holds its lock.
    TRY_ASSIGN(const std::string writers, main.value(kWriters));
    TRY_ASSIGN(const std::string after, main.value("SELECT pg_current_snapshot()"));
    for (Open& open : opened) open.counts.exact = writers == "0" && open.counts.snapshot == after;
  }

  const Duration begun = clock.steady();
  const Duration budget =
      options.mode == CountsMode::kBudget ? options.budget : std::chrono::hours(24 * 365 / 12);
  const std::string used_up = fmt::format(
      "budget of {} s used up", std::chrono::duration_cast<std::chrono::seconds>(options.budget).count());
  for (Open& open : opened) {
    for (size_t index = 0; index < open.counts.tables.size(); ++index) {
      TableCount& table = open.counts.tables[index];
      if (!table.uncounted.empty()) continue;
      if (!is_wanted(options, open.counts.name, table)) {
        table.uncounted = "not asked for";
        continue;
      }
      const Duration left = budget - (clock.steady() - begun);
      if (left < std::chrono::milliseconds(1)) {
        table.uncounted = used_up;
        continue;
      }
      TRY(count_table(open, index, std::min<Duration>(left, std::chrono::hours(24 * 20))));
    }
    TRY(open.connection.run("COMMIT"));
    TRY(mark_touched(open));
    result.databases.push_back(std::move(open.counts));
  }
  std::sort(result.databases.begin(), result.databases.end(),
            [](const DatabaseCounts& a, const DatabaseCounts& b) { return a.name < b.name; });
  return result;
}

}  // namespace kuramori::postgres
