#include "vault/signers.h"

#include <fmt/core.h>

#include "vault/envelope.h"
#include "vault/names.h"
#include "vault/older_versions.h"

namespace kuramori {
namespace {

Error unknown_signer(const SignerId& id) {
  return fail(ErrorKind::kDamaged, fmt::format("its signer {} is not known here", id.hex()),
              "the owner of this vault granted it nothing");
}

// A record of the owner's that stands in two copies: the first whole one. Nothing: neither is there.
template <class Record>
Result<std::optional<Record>> read_owners(Store& store, const KeyBundle& keys, RecordType type,
                                          const std::vector<std::string>& copies) {
  std::optional<Error> bad;
  for (const std::string& name : copies) {
    auto record = read_sound<Record>(store, name, [&](ByteView object) -> Result<Record> {
      TRY_ASSIGN(OpenedRecord opened, open_record_of(keys, keys.owner_verify, name, object));
      if (opened.type != type)
        return fail(ErrorKind::kDamaged, fmt::format("{} is a record of another type", name));
      return decode<Record>(opened.body);
    });
    if (record) return std::optional(std::move(*record));
    if (record.error().kind == ErrorKind::kNotFound) continue;
    if (record.error().kind != ErrorKind::kDamaged && record.error().kind != ErrorKind::kRefused)
      return record.error();
    bad = record.error();
  }
  if (bad) return std::move(*bad);
  return std::optional<Record>();
}

}  // namespace

bool may_sign(Role role, RecordType type) {
  const bool writer = role == Role::kWriter, reader = role == Role::kReader, keeper = role == Role::kKeeper;
  if (role == Role::kOwner) return true;
  switch (type) {
    case RecordType::kVault:
    case RecordType::kSigner:
    case RecordType::kRevocation:
    case RecordType::kEpoch:
      return false;
    case RecordType::kResource:
    case RecordType::kCommit:
      return writer;
    case RecordType::kGcPlan:
    case RecordType::kGcSweep:
    case RecordType::kPruneIntent:
    case RecordType::kPruneFinal:
    case RecordType::kDisowned:
    case RecordType::kCopy:
    case RecordType::kCatalog:
    case RecordType::kApplied:
    case RecordType::kAuditArchive:
      return keeper;
    case RecordType::kHold:
    case RecordType::kHoldRelease:
    case RecordType::kRetain:
      return writer || keeper;
    case RecordType::kProof:
      return reader;
    default:  // sessions, fences, audit: anybody's own; the reader of a record looks whose it is
      return true;
  }
}

bool may_archive(Role role) {
  return role == Role::kOwner || role == Role::kWriter;
}

Signers::Signers(const KeyBundle& keys) : keys_(keys) {
  SignerId owner = signer_id(keys.owner_verify);
  known_.emplace(owner, Signer{.id = owner, .key = keys.owner_verify, .role = Role::kOwner});
}

Result<const Signer*> Signers::find(const SignerId& id) const {
  {
    std::lock_guard lock(mutex_);
    if (auto it = known_.find(id); it != known_.end()) return &it->second;
  }
  TRY_ASSIGN(Signer signer, read(id, store_));
  std::lock_guard lock(mutex_);
  return &known_.try_emplace(id, std::move(signer)).first->second;
}

Result<const Signer*> Signers::verified(const SignerId& id, ByteView message,
                                        const Signature& signature) const {
  TRY_ASSIGN(const Signer* signer, find(id));
  if (!verify(signer->key, message, signature))
    return fail(ErrorKind::kDamaged, "its signature does not fit");
  return signer;
}

void Signers::meet(const SignerId& id, Store& store) const {
  {
    std::lock_guard lock(mutex_);
    if (known_.contains(id)) return;
  }
  Result<Signer> signer = read(id, &store);
  if (!signer) return;
  std::lock_guard lock(mutex_);
  known_.try_emplace(id, std::move(*signer));
}

Result<Signer> Signers::read(const SignerId& id, Store* store) const {
  if (store == nullptr) return unknown_signer(id);
  std::vector<std::string> grants, revocations;
  for (int copy = 1; copy <= names::kSignerCopies; ++copy) {
    grants.push_back(names::grant(id, copy));
    revocations.push_back(names::revocation(id, copy));
  }
  TRY_ASSIGN(auto grant, read_owners<GrantRecord>(*store, keys_, RecordType::kSigner, grants));
  if (!grant) return unknown_signer(id);
  Signer signer{.id = id,
                .key = grant->key,
                .role = static_cast<Role>(grant->role),
                .name = std::move(grant->name),
                .granted_ns = grant->at_ns};
  const bool is_role = signer.role >= Role::kWriter && signer.role <= Role::kKeeper;
  if (signer_id(signer.key) != id || !is_role) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold what its name says", grants[0]));
  }
  // A revocation that cannot be read must not leave the signer in force: the error stands for "not known".
  TRY_ASSIGN(auto word, read_owners<RevocationRecord>(*store, keys_, RecordType::kRevocation, revocations));
  if (word) {
    if (word->signer != id)
      return fail(ErrorKind::kDamaged, fmt::format("{} does not hold what its name says", revocations[0]));
    Revocation revoked{.reason = std::move(word->reason), .at_ns = word->at_ns, .counted = {}, .wal = {}};
    revoked.counted.insert(word->counted.begin(), word->counted.end());
    for (std::string& name : word->wal) revoked.wal.insert(std::move(name));
    signer.revoked = std::move(revoked);
  }
  return signer;
}

}  // namespace kuramori
