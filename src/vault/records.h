// What a vault's small objects say: one struct a record type, and its bytes.
//
// Bodies are protocol-buffer wire format (fields ascending, so that one value has one encoding; unknown
// fields are skipped; docs/vault-format.md lists the numbers). How a body becomes an object — sealed, signed,
// bound to its name — is RecordCodec's business (vault/record_codec.h).
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/id.h"
#include "base/world.h"

namespace kuramori {

enum class RecordType : uint8_t {
  kVault = 1,
  kSigner = 2,
  kResource = 3,
  kSession = 4,
  kCommit = 5,
  kFence = 6,
  kGcPlan = 7,
  kGcSweep = 8,
  kPruneIntent = 9,
  kPruneFinal = 10,
  kHold = 11,
  kHoldRelease = 12,
  kRetain = 13,
  kProof = 14,
  kLive = 15,
  kPageMap = 16,
  kPack = 17,
  kDisowned = 18,
  // 19, 20 and 22 were set aside and never used
  kCatalog = 21,
  kAudit = 23,
  kEpoch = 24,
  kChunkRun = 25,
  kRevocation = 26,
  kCopy = 27,
  kProbe = 28,
  kAuditArchive = 29,
  kApprovalRequest = 30,
  kApproval = 31,
  kApprovalUse = 32,
  kApplied = 33,
  kLease = 34,
};
constexpr uint8_t kFormatVersion = 1;

// "Kept until the end of time."
constexpr int64_t kKeepForever = INT64_MAX;

// A structure object that another record binds.
struct ObjectRef {
  std::string name;
  uint64_t size = 0;
  Digest digest;  // of the object's bytes
  bool operator==(const ObjectRef&) const = default;
};

struct ResourceRecord {
  ResourceId id;
  std::string name;    // "orders-db"; may hold '/'
  std::string kind;    // "postgres"
  std::string system;  // what the thing calls itself: PostgreSQL's system identifier, in decimal
  bool operator==(const ResourceRecord&) const = default;
};

enum class SessionKind : uint8_t { kWrite = 1, kRead = 2, kCopy = 3 };

// A writer (or reader) is at work.
struct SessionRecord {
  SessionKind kind = SessionKind::kWrite;
  // Closed: everything foreign it may refer to is in `parents`' snapshots; a collector need not wait for it.
  bool closed = false;
  std::string commit_key;            // where its COMMIT or FENCED will stand; empty for a reader
  std::vector<std::string> parents;  // commit names it builds on, or (reader) reads
  std::vector<std::string> foreign;  // closed mode: every object of other sessions it may refer to
  ResourceId resource;
  uint32_t wal_timeline =
      0;  // no WAL from here on may be collected while this session is open; 0: it needs none
  uint64_t wal_floor = 0;
  int64_t started_ns = 0;
  std::string host;
  bool operator==(const SessionRecord&) const = default;
};

// Frames first … first+count-1 of a pack.
struct FrameRange {
  uint32_t first = 0, count = 0;
  bool operator==(const FrameRange&) const = default;
};

// A pack that a snapshot needs, and exactly which of its frames. The trailer (directory and checksums, hence
// every byte of the pack) is bound by its digest.
struct LivePack {
  std::string name;
  uint64_t size = 0;           // of the object
  uint32_t trailer_bytes = 0;  // of one copy
  Digest trailer_digest;
  std::vector<FrameRange> frames;
  bool operator==(const LivePack&) const = default;
};

// Everything a snapshot needs besides its commit. Its own object, so that a listing reads commits alone.
struct LiveRecord {
  std::vector<LivePack> packs;
  std::vector<ObjectRef> maps;
  bool operator==(const LiveRecord&) const = default;
};

// Consecutive frames of one pack that hold a stream of bytes for the reader alone.
struct FrameSpan {
  std::string pack;
  uint32_t first = 0, count = 0;
  bool operator==(const FrameSpan&) const = default;
};

// The WAL a snapshot cannot be restored without.
struct WalSpan {
  uint32_t timeline = 0;
  uint64_t from = 0, to = 0;  // LSNs
  bool operator==(const WalSpan&) const = default;
};

// A snapshot exists.
struct CommitRecord {
  SnapshotId snapshot;
  SessionId session;
  ResourceId resource;
  std::string kind;
  int64_t started_ns = 0, finished_ns = 0;
  int64_t keep_until_ns = kKeepForever;
  std::string plan, label;
  std::map<std::string, std::string> tags;
  std::vector<std::string> parents;  // commit names it was built on
  uint64_t newest_gc = 0;            // the highest collection its writer saw
  ObjectRef live;
  std::vector<ObjectRef> maps;  // page maps, newest first; at most 8
  std::vector<FrameSpan> tree;  // names and attributes: for the reader
  std::optional<WalSpan> wal;
  std::string previous;  // this writer's commit of this resource before this one, "" for the first
  Digest previous_digest;
  uint64_t size_bytes = 0;                   // of what it restores to
  uint64_t added_bytes = 0;                  // what it put into the vault
  std::map<std::string, std::string> facts;  // of the kind: LSNs, versions, counts; never content or names
  std::vector<std::string> defects;          // what was broken at the source (a partial snapshot)
  bool operator==(const CommitRecord&) const = default;
};

// This attempt never will be a snapshot.
struct FenceRecord {
  std::string reason;
  int64_t at_ns = 0;
  bool operator==(const FenceRecord&) const = default;
};

// That an object may go because another incarnation of the same origin holds what is needed of it.
struct ReplacedObject {
  std::string object;              // what may go
  std::string by;                  // what stays instead
  std::vector<FrameRange> frames;  // that `by` holds; none: it is whole
  bool operator==(const ReplacedObject&) const = default;
};

// gc/<n>/plan and /sweep: names that are condemned, and names that may be deleted.
struct GcRecord {
  uint64_t number = 0;
  std::vector<std::string> objects;  // sorted
  std::string reason;                // of an empty sweep: why the plan was given up
  int64_t at_ns = 0;
  std::vector<ReplacedObject> replaced;  // by object: of `objects`, those that are needed and not here alone
  bool operator==(const GcRecord&) const = default;
};

// prune/<n>/intent and /final: commits that are no longer visible once the final stands.
struct PruneRecord {
  uint64_t number = 0;
  std::vector<std::string> commits;  // sorted
  std::vector<std::string> reasons;  // beside them
  int64_t at_ns = 0;
  bool operator==(const PruneRecord&) const = default;
};

struct HoldRecord {
  SnapshotId snapshot;
  std::string name;  // what a person called it
  std::string reason;
  int64_t at_ns = 0;
  bool operator==(const HoldRecord&) const = default;
};

// A run of a job that may have made its snapshot without a word of it.
struct TriedRun {
  std::string run;     // the tag of the snapshot
  std::string holder;  // whose run it was
  int64_t due_ns = 0;  // the moment it was for, by which it serves others or does not
  bool operator==(const TriedRun&) const = default;
};

// Which daemon does a job's next run, and what was done of it (vault/leases.h). Numbered: the highest counts.
struct LeaseRecord {
  enum class State : uint8_t { kWorking = 1, kDone = 2, kReleased = 3 };
  State state = State::kWorking;
  std::string holder, host;     // the daemon's journal, and where it runs
  std::string run;              // the tag of the snapshot it would make
  int64_t due_ns = 0;           // the moment it works for
  int64_t length_ns = 0;        // renewed more often than that, or up for taking
  std::string done_by;          // the holder whose run succeeded last; "": none is known
  int64_t done_due_ns = 0;      // of that run
  std::vector<TriedRun> tried;  // for moments that are not known to be done
  int64_t at_ns = 0;            // by the holder's clock, for people
  bool operator==(const LeaseRecord&) const = default;
};

struct RetainRecord {
  SnapshotId snapshot;
  int64_t keep_until_ns = 0;
  int64_t at_ns = 0;
  bool operator==(const RetainRecord&) const = default;
};

struct ProofCheck {
  std::string name;     // "row counts", "amcheck", "select count(*) from orders"
  std::string verdict;  // "passed", "failed", "bounded", "uncounted"
  std::string detail;
  bool operator==(const ProofCheck&) const = default;
};

// A drill's result.
struct ProofRecord {
  SnapshotId snapshot;
  ResourceId resource;
  std::string vault;   // location it was read from
  std::string target;  // "2026-11-21T10:00:00Z", "latest", an LSN …
  bool passed = false;
  std::vector<ProofCheck> checks;
  int64_t started_ns = 0;
  double seconds_to_open = 0, seconds_total = 0;
  uint64_t bytes_restored = 0;
  std::map<std::string, std::string> facts;
  bool operator==(const ProofRecord&) const = default;
};

struct DisownedRecord {
  std::string commit_name;
  Digest object_digest;
  std::string reason;
  int64_t at_ns = 0;
  bool operator==(const DisownedRecord&) const = default;
};

// signers/<id>/grant: the owner lets this key sign what its role may (vault/signers.h).
struct GrantRecord {
  Id<32, struct VerifyKeyTag> key;  // Ed25519; the signer's id follows from it
  uint32_t role = 0;                // as Role in a key bundle
  std::string name;                 // for people: "db1.writer"
  int64_t at_ns = 0;
  bool operator==(const GrantRecord&) const = default;
};

// signers/<id>/revoked: what the signer made counts only if it is listed here. What counts is said by name
// and digest of what stood when the owner looked, never by a time that a thief could write.
struct RevocationRecord {
  SignerId signer;
  std::string reason;
  int64_t at_ns = 0;
  std::vector<Digest> counted;   // signed objects that stood; sorted
  std::vector<std::string> wal;  // names of all WAL objects that stood, whoever put them; sorted
  bool operator==(const RevocationRecord&) const = default;
};

// Actions that a scrub looks after.
constexpr std::string_view kAuditKeyMade = "key made";
constexpr std::string_view kAuditKeyRevoked = "key revoked";
constexpr std::string_view kAuditKitMade = "recovery kit made";

// The newest record of one key's chain, as somebody saw it.
struct AuditHead {
  SignerId signer;
  uint64_t number = 0;
  Digest digest;  // of the object
  bool operator==(const AuditHead&) const = default;
};

// audit/<n>: what the owner did about keys. audit/<signer>/<n>: an act of this key's holder; what it was is
// in `sealed`, for the reader alone, and the rest is what the chain needs.
struct AuditRecord {
  uint64_t number = 0;
  std::string action;  // "recovery kit made"
  std::string object;  // what it was done to
  std::string detail;
  std::string host;
  int64_t at_ns = 0;
  Digest previous;               // of the object with the number before; zero for the first
  VaultId vault;                 // zero in records from before it was written
  std::vector<AuditHead> heads;  // of other chains, as its writer saw them: they are bound by this one
  Bytes sealed;                  // an AuditAct, sealed to the reader's public key
  std::vector<AuditHead>
      expired;  // up to there a chain went, its time being over; an owner's or keeper's word
  bool operator==(const AuditRecord&) const = default;
};

// Who did what, with what result.
struct AuditAct {
  std::string verb;      // "restore"
  std::string resource;  // "" when it is about none
  std::string object;    // a snapshot, a hold, a key
  std::string result;    // "done", "partial", "broken promise", or the kind of error
  std::string reason;    // what failed, and why
  std::string host;
  std::string user;    // of the operating system
  std::string detail;  // as it was typed
  bool operator==(const AuditAct&) const = default;
};

// audit/<signer>/<from>-<to>: records of a chain whose time at hand is over, each as it stood at its own
// name.
struct AuditArchiveRecord {
  struct Entry {
    std::string name;
    Bytes object;
    int64_t stored_ns = 0;  // when the store had it, as it said itself; 0: it did not
    bool operator==(const Entry&) const = default;
  };
  VaultId vault;
  int64_t at_ns = 0;
  std::vector<Entry> entries;  // by number
  bool operator==(const AuditArchiveRecord&) const = default;
};

using ApprovalId = Id<8, struct ApprovalTag>;

// approvals/<id>/request: exactly what somebody wants to do, and needs others' word for.
struct ApprovalRequestRecord {
  ApprovalId id;
  VaultId vault;
  std::string act;                 // of approved_acts(): "hold-remove"
  std::vector<std::string> lines;  // what would be done, a line each, in their order
  int64_t at_ns = 0, until_ns = 0;
  std::string host, user;
  bool operator==(const ApprovalRequestRecord&) const = default;
};
// approvals/<id>/by.<signer>: this key's holder agrees to that. approvals/<id>/used: it was made use of.
struct ApprovalRecord {
  ApprovalId id;
  Digest request;  // of the request object that was seen
  int64_t at_ns = 0;
  std::string host, user;
  bool operator==(const ApprovalRecord&) const = default;
};

Bytes encode(const ApprovalRequestRecord&);
Bytes encode(const ApprovalRecord&);
Bytes encode(const GrantRecord&);
Bytes encode(const RevocationRecord&);
Bytes encode(const AuditRecord&);
Bytes encode(const AuditAct&);
Bytes encode(const AuditArchiveRecord&);
// probes/<at>-<id>: what the store was found to do, when somebody looked again.
struct ProbeRecord {
  int64_t at_ns = 0;
  std::string objects;  // in words
  std::string ledger;   // the same for the second place, where there is one
  std::string host;     // that looked
  bool operator==(const ProbeRecord&) const = default;
};

// applied/<n>.<id>: what a configuration said when somebody applied it, so that whoever looks next, on
// whatever machine, sees what changed since. The text has no secrets (policy/config_text.h).
struct AppliedRecord {
  uint64_t number = 0;
  std::string configuration;  // its name, where several share the vault; "" for the only one
  std::string text;
  std::string host, user;  // who applied it
  int64_t at_ns = 0;
  bool operator==(const AppliedRecord&) const = default;
};

// A snapshot of another vault of the family exists here too. Stands where a commit would.
struct CopyRecord {
  std::string origin;                    // the commit's name in the vault it was made in
  Bytes commit;                          // the commit object itself, as its writer signed it
  int64_t keep_until_ns = kKeepForever;  // by this vault's own rule
  int64_t copied_ns = 0;
  std::string from;  // the id of the vault it was read from, in hex
  bool operator==(const CopyRecord&) const = default;
};

// A commit that an epoch began with, and where it stands.
struct AcceptedCommit {
  std::string name;
  uint64_t epoch = 0;
  Digest digest;  // of the commit object
  bool operator==(const AcceptedCommit&) const = default;
};

// epochs/<e>/begin.<token> and /seal: a ledger is (being) founded. A begin holds number and token alone.
struct EpochRecord {
  uint64_t number = 0;
  Id<16, struct EpochTokenTag> token;    // the same in begin and seal: they belong together
  std::vector<AcceptedCommit> accepted;  // by name: what older ledgers decided and this one knows of
  std::vector<std::string> pruned;       // sorted: of these, no longer visible
  std::vector<std::string> swept;        // sorted: dead for ever, and still standing
  int64_t at_ns = 0;
  bool operator==(const EpochRecord&) const = default;
};

// catalog/<n>.<id>: many small records of the vault in one object, each whole, as it stands at its own name.
// Only a cache: a record in it counts for what it is itself, signature and all, and for nothing else.
struct CatalogRecord {
  struct Entry {
    std::string name;  // with its epoch, where there is one
    Bytes object;
    bool operator==(const Entry&) const = default;
  };
  uint64_t number = 0;
  int64_t at_ns = 0;
  std::vector<Entry> entries;  // by name
  bool operator==(const CatalogRecord&) const = default;
};

Bytes encode(const CatalogRecord&);
Bytes encode(const AppliedRecord&);
Bytes encode(const CopyRecord&);
Bytes encode(const EpochRecord&);
Bytes encode(const ResourceRecord&);
Bytes encode(const SessionRecord&);
Bytes encode(const LiveRecord&);
Bytes encode(const CommitRecord&);
Bytes encode(const FenceRecord&);
Bytes encode(const GcRecord&);
Bytes encode(const PruneRecord&);
Bytes encode(const HoldRecord&);
Bytes encode(const LeaseRecord&);
Bytes encode(const RetainRecord&);
Bytes encode(const ProofRecord&);
Bytes encode(const DisownedRecord&);
Bytes encode(const ProbeRecord&);

// decode<CommitRecord>(body); kDamaged when the bytes are not such a record.
template <class Record>
Result<Record> decode(ByteView body);
template <>
Result<ResourceRecord> decode(ByteView body);
template <>
Result<SessionRecord> decode(ByteView body);
template <>
Result<LiveRecord> decode(ByteView body);
template <>
Result<CommitRecord> decode(ByteView body);
template <>
Result<FenceRecord> decode(ByteView body);
template <>
Result<GcRecord> decode(ByteView body);
template <>
Result<PruneRecord> decode(ByteView body);
template <>
Result<HoldRecord> decode(ByteView body);
template <>
Result<LeaseRecord> decode(ByteView body);
template <>
Result<RetainRecord> decode(ByteView body);
template <>
Result<ProofRecord> decode(ByteView body);
template <>
Result<DisownedRecord> decode(ByteView body);
template <>
Result<ProbeRecord> decode(ByteView body);
template <>
Result<AppliedRecord> decode(ByteView body);
template <>
Result<GrantRecord> decode(ByteView body);
template <>
Result<RevocationRecord> decode(ByteView body);
template <>
Result<ApprovalRequestRecord> decode(ByteView body);
template <>
Result<ApprovalRecord> decode(ByteView body);
template <>
Result<AuditRecord> decode(ByteView body);
template <>
Result<AuditAct> decode(ByteView body);
template <>
Result<AuditArchiveRecord> decode(ByteView body);
template <>
Result<CopyRecord> decode(ByteView body);
template <>
Result<EpochRecord> decode(ByteView body);
template <>
Result<CatalogRecord> decode(ByteView body);

// How much of each commit is held: with a hundred thousand of them it counts.
enum class Detail {
  kWhole,
  kSummary,  // not what it is made of (live, maps, tree), nor its facts
  kNeeds,    // for whoever decides what may go: not what people and sources say of it
};
// Every field is taken apart all the same: what does not open as the one does not as the other.
Result<CommitRecord> decode_commit(ByteView body, Detail detail);

}  // namespace kuramori
