#include "engine/drill.h"

#include <fmt/core.h>
#include <stdlib.h>

#include "base/time_text.h"
#include "engine/backup.h"
#include "engine/open_vault.h"
#include "engine/proofs.h"
#include "engine/roles.h"
#include "engine/wal_spool.h"
#include "source/postgres/connection.h"
#include "source/postgres/counts.h"
#include "source/postgres/sandbox.h"
#include "vault/holds.h"
#include "vault/session.h"
#include "vault/snapshot_reader.h"

namespace kuramori {
namespace {

std::string state_folder_of(const DrillRequest& request) {
  if (!request.state_folder.empty()) return request.state_folder;
  const char* temporary = getenv("TMPDIR");
  return temporary != nullptr && *temporary != '\0' ? temporary : "/var/tmp";
}

bool compared_nothing(const std::vector<ProofCheck>& checks) {
  bool tables = false;
  for (const ProofCheck& check : checks) {
    bool is_table = check.name.starts_with("table ");
    tables = tables || is_table;
    bool compared = check.verdict == "passed" || check.verdict == "bounded";
    if ((is_table || check.name.starts_with("sql:")) && compared) return false;
  }
  return tables;
}

std::map<std::string, std::string> read_answers(const SnapshotReader& snapshot) {
  std::map<std::string, std::string> answers;
  auto bytes = snapshot.read_small_file(".kuramori/answers");
  if (!bytes) return answers;
  std::string_view text = as_text(*bytes);
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    size_t space = line.find(' ');
    if (space == std::string_view::npos) continue;
    auto query = from_hex(line.substr(0, space)), answer = from_hex(line.substr(space + 1));
    if (query && answer) answers[std::string(as_text(*query))] = as_text(*answer);
  }
  return answers;
}

// For tests alone: KURAMORI_TEST_SANDBOX_SQL, one statement, is run in the restored copy before it is
// checked, so that a test can spoil it. It reaches nothing but a copy that is thrown away.
Result<void> spoil_for_tests(const std::string& connect) {
  const char* sql = getenv("KURAMORI_TEST_SANDBOX_SQL");
  if (sql == nullptr || *sql == '\0') return {};
  TRY_ASSIGN(auto connection, postgres::Connection::open(connect));
  return connection.run(sql);
}

// What the restored copy's WAL says of the rows since they were counted; nothing where recovery ended before
// that or it was not noted.
Result<std::optional<postgres::RowChanges>> changes_since(const postgres::Counts& counts,
                                                          const RestoreOutcome& restored,
                                                          const std::string& target) {
  std::optional<postgres::RowChanges> none;
  if (counts.restore_point_lsn == 0 || restored.plan.reached < counts.restore_point_lsn) return none;
  const std::optional<uint32_t> oldest = postgres::oldest_of_counts(counts);
  if (!oldest) return none;
  TRY_ASSIGN(const uint64_t start, number_fact(restored.base.commit, "postgres.start_lsn"));
  TRY_ASSIGN(const uint64_t segment_bytes, number_fact(restored.base.commit, "postgres.segment_bytes"));
  postgres::RowChanges changes(*oldest, start);
  Result<void> seen;
  TRY(scan_spool(restored.plan, target + std::string(kSpoolFolder), static_cast<uint32_t>(segment_bytes),
                 [&](const postgres::WalRecord& record) {
                   seen = changes.see(record);
                   return bool(seen);
                 }));
  TRY(seen);
  return std::optional(std::move(changes));
}

}  // namespace

Result<DrillOutcome> drill_postgres(Vault& vault, const DrillRequest& request, Reporter& reporter,
                                    std::stop_token stop) {
  TRY(must_be_allowed(vault, Act::kProve));
  DrillOutcome outcome;
  ProofRecord& proof = outcome.proof;
  Duration began = vault.clock().steady();
  proof.started_ns = to_unix_ns(vault.clock().now());
  proof.vault = request.vault_text;

  // 1. What killed drills left behind goes first; then our own folder, so that whatever kills us leaves
  // nothing.
  std::string state = state_folder_of(request);
  TRY_ASSIGN(outcome.swept, postgres::sweep_sandboxes(state));
  TRY_ASSIGN(auto account, postgres::server_account());
  TRY_ASSIGN(auto folder, postgres::SandboxFolder::make(state, account));

  // 2. Which snapshot, and to where: by default the moment its rows were counted at.
  TRY_ASSIGN(ResourceRecord resource, vault.resource(request.resource));
  TRY_ASSIGN(SnapshotList list, list_snapshots(vault, resource.id));
  RestoreRequest restore{.resource = request.resource,
                         .snapshot = request.snapshot,
                         .workers = request.workers,
                         .spool_wal = true,
                         .program = request.program};
  bool stops_at_counts = false;
  if (request.target) {
    restore.target = *request.target;
    proof.target = request.target_text;
  } else {
    TRY_ASSIGN(const Snapshot* wanted,
               find_snapshot(list.snapshots, request.snapshot.empty() ? "latest" : request.snapshot));
    restore.snapshot = wanted->commit.snapshot.hex();
    stops_at_counts = wanted->commit.facts.contains("postgres.counted_lsn");
    if (stops_at_counts) {
      restore.target.kind = postgres::TargetKind::kName;
      restore.target.name = restore_point_name(wanted->commit.snapshot);
      proof.target = "restore point " + restore.target.name;
    } else {
      restore.target.kind = postgres::TargetKind::kSnapshot;
      proof.target = "the snapshot's end";
    }
  }
  restore.to = folder.data_directory();
  TRY_ASSIGN(RestoreOutcome restored, restore_postgres(vault, restore, reporter, stop));
  outcome.base = restored.base;
  const CommitRecord& commit = restored.base.commit;
  proof.snapshot = commit.snapshot;
  proof.resource = commit.resource;
  proof.bytes_restored = restored.files.bytes;

  // 3. What it must answer.
  auto opened =
      SnapshotReader::open(vault.store(), vault.keys(), vault.codec(), restored.base.commit_name, commit);
  if (!opened)
    return explain_read(protocol_of(vault), {restored.base.commit_name}, std::move(opened).error());
  auto snapshot = std::move(*opened);
  postgres::CheckPlan plan{
      .sql = request.sql, .count_budget = request.count_budget, .with_amcheck = request.with_amcheck};
  plan.must_reach = restored.plan.inclusive ? restored.plan.reached : 0;
  auto origin = read_origin(*snapshot);
  if (!origin["database"].empty()) plan.default_database = origin["database"];
  auto counts_bytes = snapshot->read_small_file(postgres::kCountsPath);
  plan.knows_tables = false;
  if (counts_bytes) {
    TRY_ASSIGN(auto counts, postgres::decode_counts(*counts_bytes));
    TRY_ASSIGN(auto changes, changes_since(counts, restored, restore.to));
    postgres::expect_counts(counts, changes ? &*changes : nullptr, plan);
    plan.at_restore_point = stops_at_counts;
  }
  auto answers = read_answers(*snapshot);
  for (postgres::SqlCheck& check : plan.sql) {
    if (auto answer = answers.find(check.query); answer != answers.end()) check.at_capture = answer->second;
  }

  // 4. Start it where it can reach nothing, and ask.
  reporter.phase("starting the sandbox", 0);
  TRY_ASSIGN(uint64_t version, number_fact(commit, "postgres.version"));
  TRY_ASSIGN(auto programs, postgres::find_programs(postgres::major_of(static_cast<uint32_t>(version))));
  postgres::SandboxOptions options{.programs = programs, .data_directory = restore.to};
  if (!origin["superuser"].empty()) options.superuser = origin["superuser"];
  if (!origin["data_directory"].empty()) options.originals.push_back(origin["data_directory"]);
  for (const auto& tablespace : restored.tablespaces) {
    if (tablespace.in_place) continue;
    options.tablespaces.push_back(tablespace.place);
    TRY(folder.also_remove(tablespace.place));
    options.originals.push_back(tablespace.original);
  }
  auto fail_proof = [&](std::string name, const Error& error) {
    proof.checks.push_back(
        {std::move(name), "failed", error.what + (error.why.empty() ? "" : ": " + error.why)});
  };
  auto sandbox = postgres::Sandbox::start(std::move(folder), options, vault.clock());
  if (!sandbox) {
    fail_proof("the server opens", sandbox.error());
  } else {
    proof.checks.push_back(
        {"the server opens", "passed",
         fmt::format("in {:.1f} s after the files were there", (*sandbox)->seconds_to_open())});
    proof.seconds_to_open = std::chrono::duration<double>(vault.clock().steady() - began).count();
    if (auto spoiled = spoil_for_tests((*sandbox)->connect()); !spoiled)
      reporter.warning("KURAMORI_TEST_SANDBOX_SQL: " + spoiled.error().what);
    reporter.phase("checking", 0);
    auto results = postgres::run_checks(
        [&](const std::string& database) { return (*sandbox)->connect(database); }, plan, vault.clock());
    if (!results) {
      fail_proof("checks", results.error());
    } else {
      for (const auto& result : *results)
        proof.checks.push_back({result.name, std::string(postgres::name_of(result.verdict)), result.detail});
    }
    std::string isolation;
    for (const std::string& line : (*sandbox)->isolation())
      isolation += (isolation.empty() ? "" : "; ") + line;
    proof.facts["isolation"] = isolation;
    std::string missing;
    for (const std::string& library : (*sandbox)->missing_libraries())
      missing += (missing.empty() ? "" : ", ") + library;
    if (!missing.empty()) proof.facts["missing_libraries"] = missing;
    if (auto stopped = (*sandbox)->stop(); !stopped) reporter.warning(stopped.error().what);
  }
  if (stop.stop_requested())
    return fail(ErrorKind::kInterrupted, "the drill was interrupted", "no proof was written", "run it again");

  // 5. Sign and keep what was found, good or bad.
  proof.passed = !proof.checks.empty() &&
                 std::none_of(proof.checks.begin(), proof.checks.end(),
                              [](const ProofCheck& check) { return check.verdict == "failed"; });
  // A server that opens and a sound index prove no row: where there are tables, some must have been compared.
  if (proof.passed && compared_nothing(proof.checks)) {
    proof.passed = false;
    outcome.partial =
        "no table's rows could be compared with the snapshot's, and no query of a plan was asked";
    proof.checks.push_back({"comparison", "uncounted", outcome.partial});
  }
  proof.seconds_total = std::chrono::duration<double>(vault.clock().steady() - began).count();
  proof.facts["reached"] = restored.plan.explanation;
  proof.facts["server"] = programs.folder;
  proof.facts["host"] = host_name();
  TRY_ASSIGN(outcome.proof_name, keep_proof(vault, proof, reporter));
  return outcome;
}

}  // namespace kuramori
