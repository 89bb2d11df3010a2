// What a drill asks a restored server: does it open, is every table there with the rows it had, are its
// indexes and pages sound, do the plan's own questions get the expected answers. Every table is named;
// nothing is left out in silence (S32).
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/world.h"
#include "source/postgres/counts.h"
#include "source/postgres/lsn.h"
#include "source/postgres/row_changes.h"

namespace kuramori::postgres {

enum class Verdict : uint8_t {
  kPassed,
  kBounded,    // it cannot be exact here: what was counted then and what is there now are both told
  kUncounted,  // not checked, and why
  kFailed,
};
std::string_view name_of(Verdict verdict);

struct CheckResult {
  std::string name;  // "table orders.public.lines", "sql: select …", "index orders.public.lines_pkey"
  Verdict verdict = Verdict::kFailed;
  std::string detail;
};

// A table as the snapshot saw it.
struct ExpectedTable {
  std::string database, schema, name;
  std::optional<int64_t> rows;  // counted there; nothing: it was not counted, only there
  std::string uncounted;        // why not
  bool exact = true;            // at the restore point it must have exactly these rows
  // Where its count need not be equal: what the WAL says about the difference.
  std::optional<int64_t> fewest, most;
};

struct SqlCheck {
  std::string database;
  std::string query;
  std::string expect;                     // literal text, or "unchanged"
  std::optional<std::string> at_capture;  // what the same query answered at the snapshot
};

constexpr Duration kCountBudget = std::chrono::seconds(30);
constexpr Duration kAmcheckBudget = std::chrono::minutes(5);
constexpr Duration kSqlCheckLimit = std::chrono::minutes(10);  // of one of the plan's queries

struct CheckPlan {
  std::vector<ExpectedTable> tables;
  // Recovery stopped at the restore point that was made with the counts: they must be equal.
  bool at_restore_point = false;
  std::vector<std::string> unlisted_databases;  // whose tables the snapshot did not record
  bool knows_tables =
      true;  // false: the snapshot recorded none (a standby, counts off): tables are only listed
  // Recovery must have replayed at least up to here: what the plan found before the restore. 0: not checked.
  Lsn must_reach = 0;
  std::vector<SqlCheck> sql;
  std::string default_database = "postgres";
  Duration count_budget = kCountBudget;
  bool with_amcheck = true;
  Duration amcheck_budget = kAmcheckBudget;
};

// What a snapshot's counts ask of a restored copy: fills tables, unlisted_databases and knows_tables.
// `changes`: what the WAL from the snapshot's start to where recovery ended says; null where that is not
// known.
void expect_counts(const Counts& counts, const RowChanges* changes, CheckPlan& plan);

// `connect` gives the libpq string for a database. The server must be out of recovery for amcheck to be
// installed in the copy. kFailed only if nothing could be asked at all; everything else is a verdict.
Result<std::vector<CheckResult>> run_checks(
    const std::function<std::string(const std::string& database)>& connect, const CheckPlan& plan,
    Clock& clock);

// Where the recovery of a promoted server ended: what its new timeline's history says.
Result<Lsn> recovery_end(const std::string& connect);

// kFailed if any failed; otherwise the weakest there is (kUncounted, kBounded, kPassed).
Verdict overall(const std::vector<CheckResult>& results);
// The plan's query as it is asked at the snapshot and in the drill: rows by newline, fields by '|'.
Result<std::string> answer_of(const std::string& connect, const std::string& query);

}  // namespace kuramori::postgres
