// Where things stand in a vault. The only place that builds or takes apart an object's name.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/id.h"

namespace kuramori {
using ApprovalId = Id<8, struct ApprovalTag>;  // a request for others' word
}

namespace kuramori::names {

constexpr std::string_view kVault = "vault";  // three copies: vault, vault.2, vault.3 (V12)
constexpr std::string_view kSessions = "sessions/";
constexpr std::string_view kCommits = "commits/";
constexpr std::string_view kPacks = "packs/";
constexpr std::string_view kMaps = "maps/";
constexpr std::string_view kLive = "live/";
constexpr std::string_view kWal = "wal/";
constexpr std::string_view kGc = "gc/";
constexpr std::string_view kPrune = "prune/";
constexpr std::string_view kHolds = "holds/";
constexpr std::string_view kRetain = "retain/";
constexpr std::string_view kProofs = "proofs/";
constexpr std::string_view kResources = "resources/";
constexpr std::string_view kSigners = "signers/";
constexpr std::string_view kDisowned = "disowned/";
constexpr std::string_view kEpochs = "epochs/";
constexpr std::string_view kAudit = "audit/";
constexpr std::string_view kApprovals = "approvals/";
constexpr std::string_view kKeys = "keys/";
constexpr std::string_view kProbes = "probes/";
constexpr std::string_view kApplied = "applied/";
constexpr std::string_view kCatalog = "catalog/";
constexpr std::string_view kLeases = "leases/";
// What a probe of the store puts and removes again; where nothing can be removed, some of it stays.
constexpr std::string_view kProbeTrials = "probe/";

// sessions/<sid>
std::string session(const SessionId& sid);
// sessions/<sid>.end: a reader's session is over (its own word, or a keeper's)
std::string session_end(const SessionId& sid);
// commits/<resource>/<snapshot>.<sid>: COMMIT or FENCED, decided once, occupied for ever
std::string commit(const ResourceId& resource, const SnapshotId& snapshot, const SessionId& sid);
// packs/<xx>/<sid>-<n>: <xx> spreads a session's packs over 256 folders, so that none grows past 4,096 names
std::string pack(const SessionId& sid, uint32_t n);
std::string map(const SessionId& sid, uint32_t n);
std::string live(const SessionId& sid);
// gc/<n>/plan, gc/<n>/sweep, prune/<n>/intent, prune/<n>/final; <n> has ten digits, so that names sort by
// number
std::string gc_plan(uint64_t n);
// gc/<n>/waits: the sessions that plan n waits for
std::string gc_waits(uint64_t n);
std::string gc_sweep(uint64_t n);
std::string prune_intent(uint64_t n);
std::string prune_final(uint64_t n);
std::string hold(const SnapshotId& snapshot, std::string_view hold_id);
std::string hold_release(const SnapshotId& snapshot, std::string_view hold_id);
std::string retain(const SnapshotId& snapshot, uint64_t n);
std::string proof(const SnapshotId& snapshot, std::string_view proof_id);
std::string resource(const ResourceId& id);
std::string disowned(std::string_view commit_digest_hex);
// signers/<signer>/grant and grant.2; signers/<signer>/revoked and revoked.2: each twice, for without them
// what a signer made could not be believed (V12).
std::string signer_prefix(const SignerId& signer);
std::string grant(const SignerId& signer, int copy);
std::string revocation(const SignerId& signer, int copy);
constexpr int kSignerCopies = 2;  // copies are numbered 1, 2
struct SignerName {
  SignerId signer;
  bool revoked;
};
std::optional<SignerName> parse_signer(std::string_view name);
// audit/<n>: ten digits, counted from 1
std::string audit(uint64_t n);
// audit/<signer>/<n>, and audit/<signer>/<from>-<to> for those of them that were archived
std::string audit_prefix(const SignerId& signer);
std::string audit(const SignerId& signer, uint64_t n);
std::string audit_archive(const SignerId& signer, uint64_t from, uint64_t to);
struct AuditName {
  std::optional<SignerId> signer;  // none: the chain of what the owner did about keys
  uint64_t from = 0, to = 0;       // of a single record both its number
  bool is_archive = false;
};
std::optional<AuditName> parse_audit(std::string_view name);
// approvals/<id>/request, approvals/<id>/by.<signer>, approvals/<id>/used
std::string approval_request(const ApprovalId& id);
std::string approval_by(const ApprovalId& id, const SignerId& signer);
std::string approval_used(const ApprovalId& id);
// catalog/<n>.<id>: ten digits; the id makes each a name of its own, whoever wrote it
using CatalogId = Id<8, struct CatalogIdTag>;
std::string catalog(uint64_t n, const CatalogId& id);
std::optional<uint64_t> parse_catalog(std::string_view name);
// probes/<at, 16 hex>-<id>: names sort by time
std::string probe(int64_t at_ns, const Id<8, struct ProbeIdTag>& id);

// applied/<n>.<id>: ten digits, counted from 1; the id makes each a name of its own, whoever wrote it
using AppliedId = Id<8, struct AppliedIdTag>;
std::string applied(uint64_t n, const AppliedId& id);
std::optional<uint64_t> parse_applied(std::string_view name);

// leases/<signer>/<job>/<n>: ten digits, counted from 1; the highest counts. A job is named by a keyed
// digest.
using JobKey = Id<8, struct JobKeyTag>;
std::string lease_prefix(const SignerId& signer, const JobKey& job);
std::string lease(const SignerId& signer, const JobKey& job, uint64_t n);
struct LeaseName {
  SignerId signer;
  JobKey job;
  uint64_t number = 0;
};
std::optional<LeaseName> parse_lease(std::string_view name);

struct CommitName {
  ResourceId resource;
  SnapshotId snapshot;
  SessionId session;
};
std::optional<CommitName> parse_commit(std::string_view name);
std::optional<SessionId> parse_session(std::string_view name);
std::optional<SessionId> parse_session_end(std::string_view name);
// epochs/<e>/begin.<token>, epochs/<e>/seal (two places only)
std::string epoch_begin(uint64_t epoch, std::string_view token_hex);
std::string epoch_seal(uint64_t epoch);
// "0000000007/": before what is put exactly once, in both places (two places only)
std::string epoch_prefix(uint64_t epoch);
// Whether this is put exactly once, and so belongs to the ledger where there is one.
bool is_of_ledger(std::string_view name);
// "0000000007/commits/…" → 7 and "commits/…"; nothing for other names.
struct InEpoch {
  uint64_t epoch;
  std::string_view name;
};
std::optional<InEpoch> parse_in_epoch(std::string_view name);

// Packs, maps, live records: put once by a session.
bool is_content(std::string_view name);
// packs/<xx>/<sid>-<n>.<incarnation>: the same bytes, put again by that session (a copy, a healed one).
std::string incarnation(std::string_view origin, const SessionId& by);
// The name those bytes were made under: without the incarnation, if there is one.
std::string_view origin_of(std::string_view name);

// The session that put a pack, map or live object ("packs/3f/<sid>-17" → sid; an incarnation's is who put
// it again); nothing for other names.
std::optional<SessionId> owner_of(std::string_view name);
// "gc/0000000007/plan" → 7
std::optional<uint64_t> parse_number(std::string_view name, std::string_view prefix);

// One durable stretch of WAL or a small file of the archive:
//   wal/<resource>/<timeline, 8 hex>/<from, 16 hex>-<to, 16 hex>.<kind>.<digest, 16 hex>
// Names sort by timeline and LSN, so that gaps are visible from a listing alone. The digest is keyed over the
// plain bytes: two contents are two objects, never one overwritten.
enum class WalKind { kSegment, kPart, kHistory, kPartial, kLabel };
struct WalName {
  ResourceId resource;
  uint32_t timeline = 0;
  uint64_t from = 0, to = 0;  // LSN range; for kHistory both 0, for kLabel the LSN of the label
  WalKind kind = WalKind::kSegment;
  std::string digest;  // 16 hex digits
};
std::string wal(const WalName& name);
std::optional<WalName> parse_wal(std::string_view name);
// What it says it is, apart from the content: timeline, range and kind. Two objects of a resource with one
// claim and different digests are a split brain, or of two key families.
std::string wal_claim(const WalName& name);
std::string wal_prefix(const ResourceId& resource);
std::string wal_prefix(const ResourceId& resource, uint32_t timeline);

}  // namespace kuramori::names
