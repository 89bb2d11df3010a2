#include "engine/keys.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "crypto/digest.h"
#include "engine/key_files.h"
#include "engine/open_vault.h"
#include "engine/roles.h"
#include "os/file.h"
#include "os/process.h"
#include "vault/names.h"

namespace kuramori {
namespace {

constexpr size_t kFingerprintDigits = 40;
constexpr size_t kIdPrefixMin = 4;
constexpr size_t kKeyNameMax = 200;
constexpr Duration kGpgLimit = std::chrono::minutes(2);
constexpr int kAuditTriesMax = 100;  // audit records put by others meanwhile

// Large objects, which are no signed records: packs and maps are bound by commits, WAL is listed by name.
bool is_small_record(std::string_view name) {
  for (std::string_view prefix :
       {names::kPacks, names::kMaps, names::kLive, names::kWal, names::kSigners, names::kKeys, names::kVault})
    if (name.starts_with(prefix)) return false;
  return true;
}

Result<std::string> encrypt_to(const std::string& fingerprint, std::string plain) {
  bool sound = fingerprint.size() == kFingerprintDigits &&
               std::ranges::all_of(fingerprint, [](unsigned char c) { return std::isxdigit(c); });
  if (!sound) {
    return fail(ErrorKind::kUsage, fmt::format("\"{}\" is no OpenPGP fingerprint", fingerprint),
                "all 40 digits are needed: a short id may be somebody else's key",
                "gpg --list-keys --with-colons shows it");
  }
  Command command{.argv = {"gpg", "--batch", "--no-tty", "--quiet", "--trust-model", "always", "--armor",
                           "--recipient", fingerprint, "--encrypt"}};
  command.input = std::move(plain);
  command.timeout = kGpgLimit;
  // The recipient is named by its whole fingerprint, so whose key it is needs no web of trust.
  auto finished = run(command);
  wipe({reinterpret_cast<uint8_t*>(command.input.data()), command.input.size()});
  if (!finished) {
    return fail(ErrorKind::kFailed, "gpg could not be run",
                finished.error().what + " " + finished.error().why,
                "install gnupg, or hand the key over in another way: --to FILE alone");
  }
  if (!finished->exit.ok()) {
    return fail(
        ErrorKind::kUsage, fmt::format("gpg does not encrypt to {}", fingerprint), finished->errors,
        fmt::format("import the public key first: gpg --import, then gpg --list-keys {}", fingerprint));
  }
  return std::move(finished->output);
}

// If `signer` made this object, or the one that a copy carries, its digest counts.
Result<void> count(Vault& vault, const Signer& signer, const std::string& name, ByteView object,
                   std::vector<Digest>& counted) {
  auto in_epoch = names::parse_in_epoch(name);
  for (std::string_view bound : {std::string_view(name), in_epoch ? in_epoch->name : std::string_view()}) {
    if (bound.empty()) continue;
    auto envelope = parse_envelope(bound, object);
    if (!envelope || !(envelope->flags & kSigned)) continue;
    if (envelope->signer == signer.id) {
      auto opened = open_record_of(vault.keys(), signer.key, bound, object);
      if (opened) counted.push_back(opened->digest);
    } else if (envelope->type == RecordType::kCopy) {
      auto opened = vault.codec().decode(bound, object);
      auto copy = opened ? decode<CopyRecord>(opened->body) : Result<CopyRecord>(opened.error());
      if (!copy) continue;
      auto inner = open_record_of(vault.keys(), signer.key, copy->origin, copy->commit);
      if (inner) counted.push_back(inner->digest);
    } else if (envelope->type == RecordType::kAuditArchive) {
      auto opened = vault.codec().decode(bound, object);
      auto archive =
          opened ? decode<AuditArchiveRecord>(opened->body) : Result<AuditArchiveRecord>(opened.error());
      if (!archive) continue;
      for (const AuditArchiveRecord::Entry& entry : archive->entries) {
        auto inner = open_record_of(vault.keys(), signer.key, entry.name, entry.object);
        if (inner) counted.push_back(inner->digest);
      }
    }
  }
  return {};
}

Result<std::vector<KeyEntry>> read_grants(Vault& vault) {
  std::map<SignerId, bool> found;  // whether a grant is there
  TRY(for_each_object(vault.store(), names::kSigners, [&](const ObjectInfo& object) -> Result<void> {
    if (auto name = names::parse_signer(object.name)) found[name->signer] |= !name->revoked;
    return {};
  }));
  std::vector<KeyEntry> entries;
  for (const auto& [id, granted] : found) {
    KeyEntry entry{.id = id};
    auto signer = vault.codec().signers().find(id);
    if (!signer && signer.error().kind != ErrorKind::kDamaged) return signer.error();
    if (!signer) {
      entry.defect = granted ? signer.error().what : "its grant is missing";
    } else {
      entry.role = (*signer)->role;
      entry.name = (*signer)->name;
      entry.granted_ns = (*signer)->granted_ns;
      if ((*signer)->revoked) {
        entry.revoked_ns = (*signer)->revoked->at_ns;
        entry.revoked_reason = (*signer)->revoked->reason;
      }
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace

Result<std::vector<KeyEntry>> list_keys(Vault& vault) {
  const KeyBundle& keys = vault.keys();
  TRY_ASSIGN(std::vector<KeyEntry> entries, read_grants(vault));
  KeyEntry owner{.id = signer_id(keys.owner_verify)};
  if (keys.role == Role::kOwner) owner.name = keys.name;
  entries.insert(entries.begin(), std::move(owner));
  SignerId self = signer_id(keys.signing->verify_key());
  bool listed = false;
  for (KeyEntry& entry : entries) {
    entry.in_use = entry.id == self;
    listed = listed || entry.in_use;
  }
  if (!listed) {
    entries.push_back({.id = self,
                       .role = keys.role,
                       .name = keys.name,
                       .in_use = true,
                       .defect = "the owner of this vault granted it nothing"});
  }
  std::sort(entries.begin() + 1, entries.end(), [](const KeyEntry& a, const KeyEntry& b) {
    return std::tie(a.role, a.name, a.id) < std::tie(b.role, b.name, b.id);
  });
  return entries;
}

Result<KeyEntry> find_key(Vault& vault, const std::string& wanted) {
  TRY_ASSIGN(std::vector<KeyEntry> entries, list_keys(vault));
  std::erase_if(entries, [&](const KeyEntry& entry) {
    bool by_id = wanted.size() >= kIdPrefixMin && entry.id.hex().starts_with(wanted);
    return !by_id && (wanted.empty() || entry.name != wanted);
  });
  if (entries.size() == 1) return entries.front();
  return fail(
      ErrorKind::kUsage, fmt::format("\"{}\" names {}", wanted, entries.empty() ? "no key" : "several keys"),
      "a key is named by its name, or by the beginning of its id", "kuramori vault key list lists them");
}

Result<KeyEntry> new_key(Vault& vault, const NewKeyRequest& request) {
  TRY(must_be_allowed(vault, Act::kManageKeys));
  if (request.role == Role::kOwner) {
    return fail(ErrorKind::kUsage, "a vault has one owner", "its key was made with the vault",
                "the same key under another passphrase: kuramori vault key rewrap");
  }
  std::string name =
      request.name.empty() ? fmt::format("{}.{}", host_name(), name_of(request.role)) : request.name;
  if (name.size() > kKeyNameMax || std::ranges::any_of(name, [](unsigned char c) { return c < 0x20; })) {
    return fail(ErrorKind::kUsage, "the key's name is too long, or holds what cannot be printed", "",
                "give another --name");
  }
  KeyBundle keys = KeyBundle::new_role(vault.keys(), request.role, name, vault.random());
  if (request.gpg_fingerprint.empty()) {
    TRY(write_key_file(keys, request.to, request.passphrase));
  } else {
    TRY_ASSIGN(std::string text, write_bundle(keys, request.passphrase, {}, vault.random()));
    TRY_ASSIGN(std::string sealed, encrypt_to(request.gpg_fingerprint, std::move(text)));
    TRY(write_new_key_file(request.to, sealed));
  }
  GrantRecord record{.key = keys.signing->verify_key(),
                     .role = static_cast<uint32_t>(request.role),
                     .name = name,
                     .at_ns = to_unix_ns(vault.clock().now())};
  SignerId id = signer_id(keys.signing->verify_key());
  for (int copy = names::kSignerCopies; copy >= 1; --copy)
    TRY(vault.put(RecordType::kSigner, names::grant(id, copy), {}, encode(record)));
  TRY(put_audit(
      vault, "key made", id.hex(),
      fmt::format("{} \"{}\"{}", name_of(request.role), name,
                  request.gpg_fingerprint.empty() ? "" : ", handed to " + request.gpg_fingerprint)));
  return KeyEntry{.id = id, .role = request.role, .name = name, .granted_ns = record.at_ns};
}

Result<RevokeOutcome> revoke_key(Vault& vault, const KeyEntry& key, const std::string& reason,
                                 Reporter& reporter) {
  TRY(must_be_allowed(vault, Act::kManageKeys));
  if (key.role == Role::kOwner && key.granted_ns == 0 && key.defect.empty()) {
    return fail(ErrorKind::kRefused, "the owner's own key cannot be revoked",
                "it is what everything in this vault is verified by",
                "if it was stolen: make a vault of a new family and copy what is sound into it");
  }
  if (!key.defect.empty()) {
    return fail(ErrorKind::kRefused, fmt::format("key {} counts for nothing anyway", key.id.hex()),
                key.defect, "nothing needs to be revoked");
  }
  if (key.revoked_ns) {
    return fail(ErrorKind::kRefused, fmt::format("key {} is revoked already", key.id.hex()),
                key.revoked_reason, "kuramori vault key list");
  }
  TRY_ASSIGN(const Signer* signer, vault.codec().signers().find(key.id));
  RevocationRecord record{.signer = key.id, .reason = reason, .at_ns = to_unix_ns(vault.clock().now())};
  reporter.phase("listing what the key signed", 0);
  std::vector<std::string> small;
  TRY(for_each_object(vault.store(), "", [&](const ObjectInfo& object) -> Result<void> {
    if (object.name.starts_with(names::kWal)) record.wal.push_back(object.name);
    if (is_small_record(object.name)) small.push_back(object.name);
    return {};
  }));
  for (const std::string& name : small) {
    auto object = vault.store().get(name);
    if (!object && object.error().kind == ErrorKind::kNotFound) continue;  // removed meanwhile
    if (!object) return object.error();
    TRY(count(vault, *signer, name, *object, record.counted));
  }
  std::ranges::sort(record.counted);
  std::ranges::sort(record.wal);
  RevokeOutcome outcome{.key = key, .counted = record.counted.size(), .wal = record.wal.size()};
  // The same bytes are not asked for: each copy binds its own name.
  for (int copy = names::kSignerCopies; copy >= 1; --copy)
    TRY(vault.put(RecordType::kRevocation, names::revocation(key.id, copy), {}, encode(record)));
  outcome.key.revoked_ns = record.at_ns;
  outcome.key.revoked_reason = reason;
  TRY(put_audit(vault, std::string(kAuditKeyRevoked), key.id.hex(),
                fmt::format("{} \"{}\": {}", name_of(key.role), key.name, reason)));
  return outcome;
}

Result<void> put_audit(Vault& vault, const std::string& action, const std::string& object,
                       const std::string& detail) {
  AuditRecord record{.action = action,
                     .object = object,
                     .detail = detail,
                     .host = host_name(),
                     .at_ns = to_unix_ns(vault.clock().now()),
                     .vault = vault.info().id};
  for (int tries = 0; tries < kAuditTriesMax; ++tries) {
    std::string last;
    uint64_t n = 0;
    TRY(for_each_object(vault.store(), names::kAudit, [&](const ObjectInfo& there) -> Result<void> {
      const auto parsed = names::parse_audit(there.name);
      if (!parsed) return fail(ErrorKind::kDamaged, fmt::format("{} is no audit record", there.name));
      if (parsed->signer) return {};  // an act, in its key's own chain
      last = there.name;
      n = parsed->from;
      return {};
    }));
    record.number = 1;
    record.previous = {};
    if (!last.empty()) {
      record.number = n + 1;
      TRY_ASSIGN(Bytes before, vault.store().get(last));
      record.previous = sha256(before);
    }
    auto put = vault.put(RecordType::kAudit, names::audit(record.number), {}, encode(record));
    if (put) return {};
    if (put.error().kind != ErrorKind::kExists) return put.error();
  }
  return fail(ErrorKind::kFailed, "the audit record could not be put", "others put theirs all the time",
              "run the command again");
}

}  // namespace kuramori
