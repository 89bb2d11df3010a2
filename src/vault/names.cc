#include "vault/names.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

namespace kuramori::names {
namespace {

std::string numbered(std::string_view prefix, uint64_t n, std::string_view leaf) {
  return fmt::format("{}{:010}/{}", prefix, n, leaf);
}

constexpr std::string_view kWalKinds[] = {"seg", "part", "history", "partial", "label"};

constexpr std::string_view kSessionEnd = ".end";

std::optional<uint64_t> parse_hex(std::string_view text, size_t digits) {
  if (text.size() != digits) return {};
  if (std::any_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'F'; })) return {};
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

// Splits off what stands before `separator`; nothing when it is not there.
std::optional<std::string_view> take_until(std::string_view& text, char separator) {
  size_t at = text.find(separator);
  if (at == std::string_view::npos) return {};
  std::string_view head = text.substr(0, at);
  text.remove_prefix(at + 1);
  return head;
}

std::optional<uint64_t> parse_ten_digits(std::string_view digits) {
  if (digits.size() != 10) return {};
  uint64_t n = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n, 10);
  if (error != std::errc() || end != digits.data() + digits.size()) return {};
  return n;
}

// Upper case would be a second name for the same thing.
int digit_of(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

template <class IdType>
std::optional<IdType> id_of(std::string_view hex) {
  if (hex.size() != 2 * IdType::kBytes) return {};
  IdType id;
  for (size_t i = 0; i < IdType::kBytes; ++i) {
    const int high = digit_of(hex[2 * i]), low = digit_of(hex[2 * i + 1]);
    if (high < 0 || low < 0) return {};
    id.raw[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return id;
}

// "0000000007.<id>" below `prefix` → 7
template <class IdType>
std::optional<uint64_t> parse_numbered_id(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {};
  std::string_view id = name.substr(prefix.size());
  auto digits = take_until(id, '.');
  if (!digits || !id_of<IdType>(id)) return {};
  return parse_ten_digits(*digits);
}

}  // namespace

std::string session(const SessionId& sid) {
  return fmt::format("{}{}", kSessions, sid.hex());
}
std::string session_end(const SessionId& sid) {
  return session(sid) + std::string(kSessionEnd);
}
std::string commit(const ResourceId& resource, const SnapshotId& snapshot, const SessionId& sid) {
  return fmt::format("{}{}/{}.{}", kCommits, resource.hex(), snapshot.hex(), sid.hex());
}
std::string pack(const SessionId& sid, uint32_t n) {
  return fmt::format("{}{:02x}/{}-{}", kPacks, (sid.raw[15] + n) & 0xff, sid.hex(), n);
}
std::string map(const SessionId& sid, uint32_t n) {
  return fmt::format("{}{:02x}/{}-{}", kMaps, (sid.raw[15] + n) & 0xff, sid.hex(), n);
}
std::string live(const SessionId& sid) {
  return fmt::format("{}{:02x}/{}-0", kLive, sid.raw[15], sid.hex());
}
std::string gc_plan(uint64_t n) {
  return numbered(kGc, n, "plan");
}
std::string gc_waits(uint64_t n) {
  return numbered(kGc, n, "waits");
}
std::string gc_sweep(uint64_t n) {
  return numbered(kGc, n, "sweep");
}
std::string prune_intent(uint64_t n) {
  return numbered(kPrune, n, "intent");
}
std::string prune_final(uint64_t n) {
  return numbered(kPrune, n, "final");
}
std::string hold(const SnapshotId& snapshot, std::string_view hold_id) {
  return fmt::format("{}{}/{}", kHolds, snapshot.hex(), hold_id);
}
std::string hold_release(const SnapshotId& snapshot, std::string_view hold_id) {
  return fmt::format("{}{}/{}.released", kHolds, snapshot.hex(), hold_id);
}
std::string retain(const SnapshotId& snapshot, uint64_t n) {
  return fmt::format("{}{}/{:010}", kRetain, snapshot.hex(), n);
}
std::string proof(const SnapshotId& snapshot, std::string_view proof_id) {
  return fmt::format("{}{}/{}", kProofs, snapshot.hex(), proof_id);
}
std::string resource(const ResourceId& id) {
  return fmt::format("{}{}", kResources, id.hex());
}
std::string disowned(std::string_view commit_digest_hex) {
  return fmt::format("{}{}", kDisowned, commit_digest_hex);
}

std::string signer_prefix(const SignerId& signer) {
  return fmt::format("{}{}/", kSigners, signer.hex());
}
std::string grant(const SignerId& signer, int copy) {
  return signer_prefix(signer) + (copy == 1 ? "grant" : "grant.2");
}
std::string revocation(const SignerId& signer, int copy) {
  return signer_prefix(signer) + (copy == 1 ? "revoked" : "revoked.2");
}
std::string audit(uint64_t n) {
  return fmt::format("{}{:010}", kAudit, n);
}
std::string audit_prefix(const SignerId& signer) {
  return fmt::format("{}{}/", kAudit, signer.hex());
}
std::string audit(const SignerId& signer, uint64_t n) {
  return fmt::format("{}{:010}", audit_prefix(signer), n);
}
std::string audit_archive(const SignerId& signer, uint64_t from, uint64_t to) {
  return fmt::format("{}{:010}-{:010}", audit_prefix(signer), from, to);
}
std::optional<AuditName> parse_audit(std::string_view name) {
  if (!name.starts_with(kAudit)) return {};
  std::string_view rest = name.substr(kAudit.size());
  AuditName parsed;
  if (auto hex = take_until(rest, '/')) {
    parsed.signer = id_of<SignerId>(*hex);
    if (!parsed.signer) return {};
  }
  if (auto from = parsed.signer ? take_until(rest, '-') : std::nullopt) {
    const auto first = parse_ten_digits(*from), last = parse_ten_digits(rest);
    if (!first || !last || *first == 0 || *last < *first) return {};
    return AuditName{parsed.signer, *first, *last, true};
  }
  const auto n = parse_ten_digits(rest);
  if (!n || *n == 0) return {};
  parsed.from = parsed.to = *n;
  return parsed;
}

std::string approval_request(const ApprovalId& id) {
  return fmt::format("{}{}/request", kApprovals, id.hex());
}
std::string approval_by(const ApprovalId& id, const SignerId& signer) {
  return fmt::format("{}{}/by.{}", kApprovals, id.hex(), signer.hex());
}
std::string approval_used(const ApprovalId& id) {
  return fmt::format("{}{}/used", kApprovals, id.hex());
}

std::string catalog(uint64_t n, const CatalogId& id) {
  return fmt::format("{}{:010}.{}", kCatalog, n, id.hex());
}
std::optional<uint64_t> parse_catalog(std::string_view name) {
  return parse_numbered_id<CatalogId>(name, kCatalog);
}

std::string applied(uint64_t n, const AppliedId& id) {
  return fmt::format("{}{:010}.{}", kApplied, n, id.hex());
}
std::optional<uint64_t> parse_applied(std::string_view name) {
  return parse_numbered_id<AppliedId>(name, kApplied);
}

std::string lease_prefix(const SignerId& signer, const JobKey& job) {
  return fmt::format("{}{}/{}/", kLeases, signer.hex(), job.hex());
}
std::string lease(const SignerId& signer, const JobKey& job, uint64_t n) {
  return fmt::format("{}{:010}", lease_prefix(signer, job), n);
}
std::optional<LeaseName> parse_lease(std::string_view name) {
  if (!name.starts_with(kLeases)) return {};
  std::string_view rest = name.substr(kLeases.size());
  auto signer_hex = take_until(rest, '/');
  if (!signer_hex) return {};
  auto job_hex = take_until(rest, '/');
  if (!job_hex) return {};
  auto signer = id_of<SignerId>(*signer_hex);
  auto job = id_of<JobKey>(*job_hex);
  auto number = parse_ten_digits(rest);
  if (!signer || !job || !number) return {};
  return LeaseName{*signer, *job, *number};
}

std::string probe(int64_t at_ns, const Id<8, struct ProbeIdTag>& id) {
  return fmt::format("{}{:016x}-{}", kProbes, static_cast<uint64_t>(at_ns), id.hex());
}

std::optional<SignerName> parse_signer(std::string_view name) {
  if (!name.starts_with(kSigners)) return {};
  std::string_view rest = name.substr(kSigners.size());
  auto hex = take_until(rest, '/');
  auto signer = hex ? id_of<SignerId>(*hex) : std::nullopt;
  if (!signer) return {};
  for (int copy = 1; copy <= kSignerCopies; ++copy) {
    if (name == grant(*signer, copy)) return SignerName{*signer, false};
    if (name == revocation(*signer, copy)) return SignerName{*signer, true};
  }
  return {};
}

std::string epoch_prefix(uint64_t epoch) {
  return fmt::format("{:010}/", epoch);
}
std::string epoch_begin(uint64_t epoch, std::string_view token_hex) {
  return numbered(kEpochs, epoch, fmt::format("begin.{}", token_hex));
}
std::string epoch_seal(uint64_t epoch) {
  return numbered(kEpochs, epoch, "seal");
}
bool is_of_ledger(std::string_view name) {
  return name.starts_with(kSessions) || name.starts_with(kCommits) || name.starts_with(kPrune) ||
         name.starts_with(kGc) || name.starts_with(kLeases);
}
std::optional<InEpoch> parse_in_epoch(std::string_view name) {
  auto epoch = parse_number(name, "");
  if (!epoch) return {};
  return InEpoch{*epoch, name.substr(name.find('/') + 1)};
}

std::string incarnation(std::string_view origin, const SessionId& by) {
  return fmt::format("{}.{}", origin, by.hex());
}
bool is_content(std::string_view name) {
  return name.starts_with(kPacks) || name.starts_with(kMaps) || name.starts_with(kLive);
}
std::string_view origin_of(std::string_view name) {
  if (!is_content(name)) return name;
  return name.substr(0, name.find('.'));
}

std::optional<CommitName> parse_commit(std::string_view name) {
  if (!name.starts_with(kCommits)) return {};
  name.remove_prefix(kCommits.size());
  auto resource_hex = take_until(name, '/');
  if (!resource_hex) return {};
  auto snapshot_hex = take_until(name, '.');
  if (!snapshot_hex) return {};
  auto resource_id = id_of<ResourceId>(*resource_hex);
  auto snapshot_id = id_of<SnapshotId>(*snapshot_hex);
  auto session_id = id_of<SessionId>(name);
  if (!resource_id || !snapshot_id || !session_id) return {};
  return CommitName{*resource_id, *snapshot_id, *session_id};
}

std::optional<SessionId> parse_session(std::string_view name) {
  if (!name.starts_with(kSessions)) return {};
  return id_of<SessionId>(name.substr(kSessions.size()));
}

std::optional<SessionId> parse_session_end(std::string_view name) {
  if (!name.ends_with(kSessionEnd)) return {};
  return parse_session(name.substr(0, name.size() - kSessionEnd.size()));
}

std::optional<SessionId> owner_of(std::string_view name) {
  if (!name.starts_with(kPacks) && !name.starts_with(kMaps) && !name.starts_with(kLive)) return {};
  name.remove_prefix(name.find('/') + 1);
  if (!take_until(name, '/')) return {};
  auto sid = take_until(name, '-');
  if (!sid) return {};
  if (take_until(name, '.')) return id_of<SessionId>(name);
  return id_of<SessionId>(*sid);
}

std::optional<uint64_t> parse_number(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {};
  name.remove_prefix(prefix.size());
  auto digits = take_until(name, '/');
  if (!digits) return {};
  return parse_ten_digits(*digits);
}

std::string wal_prefix(const ResourceId& resource) {
  return fmt::format("{}{}/", kWal, resource.hex());
}
std::string wal_prefix(const ResourceId& resource, uint32_t timeline) {
  return fmt::format("{}{}/{:08x}/", kWal, resource.hex(), timeline);
}

std::string wal(const WalName& name) {
  return fmt::format("{}{:016x}-{:016x}.{}.{}", wal_prefix(name.resource, name.timeline), name.from, name.to,
                     kWalKinds[static_cast<size_t>(name.kind)], name.digest);
}

std::string wal_claim(const WalName& name) {
  return fmt::format("{:08x}/{:016x}-{:016x}.{}", name.timeline, name.from, name.to,
                     kWalKinds[static_cast<size_t>(name.kind)]);
}

std::optional<WalName> parse_wal(std::string_view name) {
  if (!name.starts_with(kWal)) return {};
  name.remove_prefix(kWal.size());
  auto resource_hex = take_until(name, '/');
  if (!resource_hex) return {};
  auto timeline_hex = take_until(name, '/');
  if (!timeline_hex) return {};
  auto from_hex_text = take_until(name, '-');
  if (!from_hex_text) return {};
  auto to_hex_text = take_until(name, '.');
  if (!to_hex_text) return {};
  auto kind_text = take_until(name, '.');
  if (!kind_text) return {};
  auto resource_id = id_of<ResourceId>(*resource_hex);
  auto timeline = parse_hex(*timeline_hex, 8);
  auto from = parse_hex(*from_hex_text, 16), to = parse_hex(*to_hex_text, 16);
  if (!resource_id || !timeline || !from || !to || !parse_hex(name, 16)) return {};
  for (size_t kind = 0; kind < std::size(kWalKinds); ++kind) {
    if (*kind_text == kWalKinds[kind]) {
      return WalName{*resource_id, static_cast<uint32_t>(*timeline), *from,
                     *to,          static_cast<WalKind>(kind),       std::string(name)};
    }
  }
  return {};
}

}  // namespace kuramori::names
