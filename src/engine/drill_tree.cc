#include "engine/drill_tree.h"

#include <fmt/core.h>

#include "engine/open_vault.h"
#include "engine/proofs.h"
#include "engine/reading.h"
#include "engine/restore_tree.h"
#include "engine/roles.h"
#include "engine/snapshot_tree.h"
#include "os/file.h"
#include "vault/names.h"
#include "vault/session.h"

namespace kuramori {
namespace {

std::string said(const Error& error) {
  return error.what + (error.why.empty() ? "" : ": " + error.why);
}

// Written once, then every file read again and held against what the snapshot says of it.
ProofCheck restore_and_compare(const SnapshotReader& snapshot, const std::string& target, unsigned workers,
                               Reporter& reporter, const std::stop_token& stop, ProofRecord& proof) {
  TreeRestoreRequest request;
  request.to = target;
  request.workers = workers;
  TreeRestoreOutcome restored, compared;
  if (auto done = write_tree(snapshot, request, reporter, stop, restored); !done)
    return {"every entry comes back", "failed", said(done.error())};
  proof.bytes_restored = restored.bytes;
  request.delta = true;
  if (auto done = write_tree(snapshot, request, reporter, stop, compared); !done)
    return {"every entry comes back", "failed", said(done.error())};
  const bool same = compared.bytes_written == 0 && compared.bytes_fetched == 0 && compared.removed == 0;
  return {"every entry comes back", same ? "passed" : "failed",
          same ? fmt::format("{} entries, {} files, {} bytes read back and compared", restored.entries,
                             restored.files, restored.bytes)
               : fmt::format("of {} bytes, {} were not as the snapshot says", restored.bytes,
                             compared.bytes_fetched)};
}

}  // namespace

Result<TreeDrillOutcome> drill_tree(Vault& vault, Source& source, const TreeDrillRequest& request,
                                    Reporter& reporter, std::stop_token stop) {
  const Duration began = vault.clock().steady();
  TRY(must_be_allowed(vault, Act::kProve));
  TreeDrillOutcome outcome;
  TRY_ASSIGN(const ResourceSnapshots list, list_snapshots_of(vault, request.resource));
  if (list.snapshots.empty()) {
    return fail(ErrorKind::kRefused, fmt::format("{} has no snapshot to prove", request.resource), "",
                fmt::format("kuramori backup {}", request.resource));
  }
  TRY_ASSIGN(const Snapshot* wanted,
             find_snapshot(list.snapshots, request.snapshot.empty() ? "latest" : request.snapshot));
  outcome.base = *wanted;
  const CommitRecord& commit = outcome.base.commit;
  ProofRecord& proof = outcome.proof;
  proof.snapshot = commit.snapshot;
  proof.resource = commit.resource;
  proof.vault = request.vault_text;
  proof.target = "snapshot";
  proof.started_ns = to_unix_ns(vault.clock().now());

  const Protocol protocol = protocol_of(vault);
  TRY_ASSIGN(RenewedReading reading, read_for_long(protocol, outcome.base, reporter));
  auto prove = [&]() -> Result<void> {
    TRY_ASSIGN(const auto snapshot, SnapshotReader::open(vault.store(), vault.keys(), vault.codec(),
                                                         outcome.base.commit_name, commit));
    TRY_ASSIGN(const auto folder, TemporaryFolder::make("kuramori-drill-", request.state_folder));
    if (source.is_files()) {
      snapshot->expect_everything();
      proof.checks.push_back(
          restore_and_compare(*snapshot, folder / "tree", request.workers, reporter, stop, proof));
    } else {
      proof.bytes_restored = commit.size_bytes;
    }
    proof.seconds_to_open = std::chrono::duration<double>(vault.clock().steady() - began).count();
    if (source.is_files()) return {};
    const std::string sandbox = folder / "sandbox";
    TRY(make_folders(sandbox));
    auto checks = source.drill(SnapshotTree(*snapshot), sandbox, reporter, stop);
    if (!checks) {
      if (stop.stop_requested() || checks.error().kind == ErrorKind::kUsage) return checks.error();
      proof.checks.push_back({"it can be used", "failed", said(checks.error())});
    } else {
      for (CheckResult& check : *checks)
        proof.checks.push_back({std::move(check.name), std::move(check.verdict), std::move(check.detail)});
    }
    return {};
  };
  Result<void> proved = prove();
  if (auto ended = reading.end(); !ended)
    reporter.note(
        fmt::format("the reader's session stays until a collection ends it: {}", ended.error().what));
  if (stop.stop_requested())
    return fail(ErrorKind::kInterrupted, "the drill was interrupted", "no proof was written", "run it again");
  if (!proved) return explain_read(protocol, {outcome.base.commit_name}, std::move(proved).error());

  proof.passed = !proof.checks.empty() && std::ranges::none_of(proof.checks, [](const auto& check) {
    return check.verdict == "failed";
  });
  proof.seconds_total = std::chrono::duration<double>(vault.clock().steady() - began).count();
  proof.facts["host"] = host_name();
  TRY_ASSIGN(outcome.proof_name, keep_proof(vault, proof, reporter));
  return outcome;
}

}  // namespace kuramori
