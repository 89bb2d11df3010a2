#include "vault/holds.h"

#include <fmt/core.h>

#include "vault/epochs.h"

namespace kuramori {
namespace {

constexpr int kRetainNumbersMax = 1000;  // retain records of one snapshot

}  // namespace

Result<void> confirm_hold(const Protocol& protocol, const SnapshotId& snapshot) {
  Ledger ledger(protocol);
  TRY_ASSIGN(std::vector<PruneRound> rounds, ledger.read_prunes());
  for (const PruneRound& round : rounds) {
    for (const std::string& commit : round.commits) {
      auto key = names::parse_commit(commit);
      if (!key || key->snapshot != snapshot) continue;
      if (round.finished) {
        return fail(ErrorKind::kRefused, fmt::format("snapshot {} was pruned", snapshot.hex()),
                    "a hold cannot bring it back", "kuramori snapshots");
      }
      return fail(ErrorKind::kPartial, fmt::format("snapshot {} is being pruned", snapshot.hex()),
                  fmt::format("prune {} began before the hold stood; the hold may be too late", round.number),
                  "kuramori prune, then kuramori hold again");
    }
  }
  const Epoch* epoch = protocol.epoch;
  if (epoch && !epoch->ledger) {
    return fail(ErrorKind::kPartial,
                fmt::format("whether snapshot {} is being pruned cannot be told", snapshot.hex()),
                "the vault's ledger is not at hand", "run the command again when it is");
  }
  // A newer ledger's pruner is not seen here: only if none was begun does every later one see the hold.
  return must_be_in_force(ledger.log());
}

Result<std::string> place_hold(const Protocol& protocol, const SnapshotId& snapshot, std::string name,
                               std::string reason) {
  std::string id = protocol.random.id<Id<8, struct HoldTag>>().hex();
  HoldRecord record{snapshot, std::move(name), std::move(reason), to_unix_ns(protocol.clock.now())};
  std::string object = names::hold(snapshot, id);
  TRY_ASSIGN(PutResult put, RecordLog(protocol).put(RecordType::kHold, object, {}, encode(record)));
  if (!put.ours())
    return fail(ErrorKind::kFailed, fmt::format("{} is taken", object), "", "run the command again");
  Result<void> confirmed = confirm_hold(protocol, snapshot);
  if (confirmed) return id;
  // Too late for good: a hold that stays would only keep the remains from being collected.
  if (confirmed.error().kind == ErrorKind::kRefused)
    (void)release_hold(protocol, snapshot, id, "came too late");
  return std::move(confirmed).error();
}

Result<void> release_hold(const Protocol& protocol, const SnapshotId& snapshot, std::string_view hold_id,
                          std::string reason) {
  HoldRecord record{snapshot, std::string(hold_id), std::move(reason), to_unix_ns(protocol.clock.now())};
  TRY_ASSIGN(PutResult put,
             RecordLog(protocol).put(RecordType::kHoldRelease, names::hold_release(snapshot, hold_id), {},
                                     encode(record)));
  if (!put.ours() && put.theirs->signer != protocol.self && !protocol.may_delete(put.theirs->signer)) {
    return fail(ErrorKind::kDenied,
                fmt::format("the release of hold {} was put by somebody who may not", hold_id));
  }
  return {};
}

Result<void> retain_until(const Protocol& protocol, const SnapshotId& snapshot, Time keep_until) {
  RetainRecord record{snapshot, to_unix_ns(keep_until), to_unix_ns(protocol.clock.now())};
  // Objects beside a ledger may ignore conditions: then a number that nobody else draws.
  uint64_t first = 1;
  if (protocol.epoch) {
    uint8_t drawn[4];
    protocol.random.fill(drawn);
    first += load_le<uint32_t>(drawn);
  }
  for (uint64_t n = first; n < first + kRetainNumbersMax; ++n) {
    TRY_ASSIGN(PutResult put,
               RecordLog(protocol).put(RecordType::kRetain, names::retain(snapshot, n), {}, encode(record)));
    if (put.ours()) return confirm_hold(protocol, snapshot);
  }
  return fail(ErrorKind::kFailed,
              fmt::format("snapshot {} has {} retain records", snapshot.hex(), kRetainNumbersMax));
}

Result<void> put_proof(const Protocol& protocol, const ProofRecord& proof, std::string_view proof_id) {
  std::string name = names::proof(proof.snapshot, proof_id);
  TRY_ASSIGN(PutResult put, RecordLog(protocol).put(RecordType::kProof, name, {}, encode(proof)));
  if (!put.ours()) {
    return fail(ErrorKind::kFailed, fmt::format("{} is taken", name), "", "run the command again");
  }
  return confirm_hold(protocol, proof.snapshot);
}

}  // namespace kuramori
