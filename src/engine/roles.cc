#include "engine/roles.h"

#include <fmt/core.h>

namespace kuramori {
namespace {

constexpr uint8_t kWriter = 1, kReader = 2, kKeeper = 4;  // the owner may everything

struct Row {
  Act act;
  std::string_view what;  // "a writer key may not …"
  uint8_t roles;
  std::string_view whose;  // the key that may
};
constexpr Row kTable[] = {
    {Act::kAddSnapshots, "make snapshots", kWriter, "a writer's or the owner's"},
    {Act::kArchive, "archive WAL", kWriter, "a writer's or the owner's"},
    {Act::kReadContent, "read what is kept", kReader, "a reader's or the owner's"},
    {Act::kProve, "prove a snapshot", kReader, "a reader's or the owner's"},
    {Act::kPrune, "prune", kKeeper, "a keeper's or the owner's"},
    {Act::kCopy, "copy or heal", kKeeper, "a keeper's or the owner's"},
    {Act::kCollect, "free space", kKeeper, "a keeper's or the owner's"},
    {Act::kExtend, "change how long a snapshot is kept", kKeeper, "a keeper's or the owner's"},
    {Act::kHold, "place a hold", kWriter | kKeeper, "a keeper's or the owner's"},
    {Act::kRelease, "take a hold back", kKeeper, "a keeper's or the owner's"},
    {Act::kScrub, "read every object", kReader | kKeeper, "a keeper's, a reader's or the owner's"},
    {Act::kDisown, "disown a commit", 0, "the owner's"},
    {Act::kApply, "apply a configuration", kKeeper, "a keeper's or the owner's"},
    {Act::kManageKeys, "make, revoke or print keys and policies", 0, "the owner's"},
};

const Row& row_of(Act act) {
  for (const Row& row : kTable)
    if (row.act == act) return row;
  return kTable[std::size(kTable) - 1];
}

uint8_t bit_of(Role role) {
  switch (role) {
    case Role::kWriter:
      return kWriter;
    case Role::kReader:
      return kReader;
    case Role::kKeeper:
      return kKeeper;
    case Role::kOwner:
      return 0xff;
  }
  return 0;
}

}  // namespace

std::string_view verbs_of(Role role) {
  switch (role) {
    case Role::kOwner:
      return "everything";
    case Role::kWriter:
      return "backup, wal push";
    case Role::kReader:
      return "restore, window, wal get, drill, scrub";
    case Role::kKeeper:
      return "prune, collect, extend, hold, copy, scrub; reads nothing";
  }
  return "";
}

bool role_may(Role role, Act act) {
  return role == Role::kOwner || (row_of(act).roles & bit_of(role)) != 0;
}

namespace {

Result<void> must_be_allowed_by(const Signers& signers, Vault& vault, Act act) {
  const KeyBundle& keys = vault.keys();
  const Row& row = row_of(act);
  if (!role_may(keys.role, act)) {
    return fail(ErrorKind::kRefused, fmt::format("a {} key may not {}", name_of(keys.role), row.what),
                fmt::format("{} is a {}'s: whoever holds it can do no more than its role needs",
                            keys.name.empty() ? "this key" : keys.name, name_of(keys.role)),
                fmt::format("use {} key: --key-file FILE", row.whose));
  }
  if (keys.role == Role::kOwner) return {};
  // What it will sign must count with those who read it.
  auto self = signers.find(signer_id(keys.signing->verify_key()));
  if (!self) {
    if (self.error().kind != ErrorKind::kDamaged) return std::move(self.error());
    return fail(ErrorKind::kRefused,
                fmt::format("the vault at {} does not know this {} key", vault.store().location(),
                            name_of(keys.role)),
                self.error().why.empty() ? self.error().what : self.error().why,
                "the owner makes one for this vault: kuramori vault key new NAME --role ROLE --to FILE");
  }
  if ((*self)->role != keys.role) {
    return fail(ErrorKind::kRefused,
                fmt::format("the vault grants this {} key the role of a {}", name_of(keys.role),
                            name_of((*self)->role)),
                "key file and grant do not belong together", "use the key file that the owner handed out");
  }
  if ((*self)->revoked) {
    return fail(
        ErrorKind::kRefused, fmt::format("the {} key {} was revoked", name_of(keys.role), (*self)->id.hex()),
        (*self)->revoked->reason.empty() ? "nothing it signs counts any more" : (*self)->revoked->reason,
        "ask the owner for a new one: kuramori vault key new NAME --role ROLE --to FILE");
  }
  return {};
}

}  // namespace

Result<void> must_be_allowed(Vault& vault, Act act) {
  return must_be_allowed_by(vault.codec().signers(), vault, act);
}

Result<void> must_be_allowed_still(Vault& vault, Act act) {
  Signers now(vault.keys());
  now.look_in(vault.store());
  return must_be_allowed_by(now, vault, act);
}

}  // namespace kuramori
