#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Argument kName[] = {
    {"NAME", "a configured vault, or its location", Argument::Count::kOne, Completes::kVault},
};
constexpr Argument kNameAndKey[] = {
    {"NAME", "a configured vault, or its location", Argument::Count::kOne, Completes::kVault},
    {"KEY", "its name, or the beginning of its id, as vault key list prints them"},
};

constexpr Example kNewExamples[] = {
    {"kuramori vault key new tokyo --role writer --name db1 --to db1.key",
     "what a database host needs, and no more"},
    {"kuramori vault key new tokyo --role reader --to drill.key --passphrase-file pass.txt",
     "for the machine that restores and drills"},
    {"kuramori vault key new tokyo --role keeper --to keeper.key.asc --to-gpg 4B8…",
     "encrypted to a colleague"},
};
constexpr Option kNewOptions[] = {
    {.name = "role",
     .metavar = "ROLE",
     .help = "what the key may do",
     .required = true,
     .completes = Completes::kWord,
     .words = "writer reader keeper"},
    {.name = "to",
     .metavar = "FILE",
     .help = "the new key file (0600); never overwrites one",
     .required = true,
     .completes = Completes::kFile},
    {.name = "name",
     .metavar = "TEXT",
     .help = "what people call it (this machine and the role, if not given)"},
    {.name = "passphrase-file",
     .metavar = "FILE",
     .help = "wrap the new key under the passphrase in this file",
     .completes = Completes::kFile},
    {.name = "to-gpg",
     .metavar = "FINGERPRINT",
     .help = "encrypt the file to this OpenPGP key (all 40 digits) with gpg; nothing lies in clear"},
};

constexpr Example kListExamples[] = {
    {"kuramori vault key list tokyo", "which keys the vault knows, and their roles"}};

constexpr Example kRewrapExamples[] = {
    {"kuramori vault key rewrap tokyo --to /etc/kuramori/tokyo.new.key --new-passphrase-file pass.txt",
     "the same keys under a new passphrase, in a new file"},
};
constexpr Option kRewrapOptions[] = {
    {.name = "to",
     .metavar = "FILE",
     .help = "the new key file (0600); never overwrites one",
     .required = true,
     .completes = Completes::kFile},
    {.name = "new-passphrase-file",
     .metavar = "FILE",
     .help = "the new passphrase; without it the new file is not wrapped",
     .completes = Completes::kFile},
};

constexpr Example kRevokeExamples[] = {
    {"kuramori vault key revoke tokyo db1 --reason 'the host was broken into'",
     "what it made until now counts, nothing from now on does"},
};
constexpr Option kRevokeOptions[] = {
    {.name = "reason",
     .metavar = "TEXT",
     .help = "kept in the record, and shown to whoever still uses the key"},
};

constexpr Example kPolicyExamples[] = {
    {"kuramori vault policy osaka --role writer --key db1 > db1.json",
     "what the store lets the writer key db1 do"},
    {"kuramori vault policy osaka --role keeper --form ceph", "in the form that Ceph's gateway understands"},
};
constexpr Option kPolicyOptions[] = {
    {.name = "role",
     .metavar = "ROLE",
     .help = "whose policy",
     .required = true,
     .completes = Completes::kWord,
     .words = "writer reader keeper"},
    {.name = "key",
     .metavar = "KEY",
     .help = "its name, or the beginning of its id (the only one of the role, if not given)"},
    {.name = "form",
     .metavar = "FORM",
     .help = "for which store (told by the vault's endpoint, if not given)",
     .completes = Completes::kWord,
     .words = "aws ceph"},
};

constexpr Example kKitExamples[] = {
    {"kuramori vault kit tokyo --to tokyo-kit.txt --passphrase-file pass.txt",
     "a page to print and keep elsewhere"},
    {"kuramori vault kit tokyo --to -", "on this terminal, after its name was typed"},
};
constexpr Option kKitOptions[] = {
    {.name = "to",
     .metavar = "FILE",
     .help = "where to write it (0600); never overwrites a file. - is the terminal",
     .required = true,
     .completes = Completes::kFile},
    {.name = "passphrase-file",
     .metavar = "FILE",
     .help = "wrap the key on the page under the passphrase in this file (as the key file is, if not given)",
     .completes = Completes::kFile},
};

}  // namespace

constexpr Operation kVaultKeyNew = {
    .verb = "vault key new",
    .summary = "make a key that can do one thing only",
    .about =
        "A writer's key makes snapshots and archives WAL; it cannot read them back, overwrite or delete. A "
        "reader's "
        "restores and drills; it cannot add. A keeper's prunes, frees space, scrubs and copies; it cannot "
        "read what "
        "is kept, nor make a snapshot. Only the owner makes keys.\n\n"
        "The vault is told of the new key by a record the owner signs. What the store itself allows is a "
        "second "
        "matter: kuramori vault policy prints it.",
    .examples = kNewExamples,
    .arguments = kName,
    .options = kNewOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/keys/1",
};

constexpr Operation kVaultKeyList = {
    .verb = "vault key list",
    .summary = "the keys a vault knows",
    .about =
        "Each signing key with its role, since when it counts, whether it was revoked, and whether it is the "
        "one in "
        "use here. Secret parts are never shown.",
    .examples = kListExamples,
    .arguments = kName,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/keys/1",
};

constexpr Operation kVaultKeyRewrap = {
    .verb = "vault key rewrap",
    .summary = "the same keys under another passphrase",
    .about =
        "Writes the key bundle again, wrapped anew. The vault itself is not touched; the old file keeps "
        "working until you "
        "delete it.",
    .examples = kRewrapExamples,
    .arguments = kName,
    .options = kRewrapOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/done/1",
};

constexpr Operation kVaultKeyRevoke = {
    .verb = "vault key revoke",
    .summary = "take a key's role back",
    .about =
        "Puts a record that lists everything the key has signed until now: that goes on counting, and "
        "nothing else it "
        "signs ever will, whatever time it claims. Run it on each vault of the family.\n\n"
        "It does not take back what the key's holder knows: a reader can still open what it can still fetch, "
        "so "
        "remove its access to the store as well. What a thief wrote before the revocation counts too: look "
        "at the "
        "list, and scrub. Programs that have the vault open go by what they read when they opened it.",
    .examples = kRevokeExamples,
    .arguments = kNameAndKey,
    .options = kRevokeOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/keys/1",
};

constexpr Operation kVaultPolicy = {
    .verb = "vault policy",
    .summary = "the store's policy that enforces a role",
    .about =
        "Prints an identity policy for the store's user that the key's machine has the access key of. A "
        "writer may "
        "put only under names that carry its key's id, and get no pack; a reader may get, and put what says "
        "what is "
        "read and proven; a keeper may delete content and old sessions, and nothing that says what happened. "
        "Nobody "
        "may change locks to an earlier date, access lists, or the bucket.\n\n"
        "What a policy cannot say is caught by signatures when a vault is read, and by a scrub: docs/keys.md "
        "has the "
        "table. Keep the bucket versioned and locked, else what may be put may be put over.",
    .examples = kPolicyExamples,
    .arguments = kName,
    .options = kPolicyOptions,
    .needs = Needs::kVaultAndKey,
};

constexpr Operation kVaultKit = {
    .verb = "vault kit",
    .summary = "the recovery kit: a page that brings everything back",
    .about =
        "Writes a printable page with the owner's key, the places of the vault and of its copies, the exact "
        "commands, "
        "and the key as a square that a phone reads. With it and any machine the vault is open again: "
        "nothing else "
        "is needed, no configuration and no other machine.\n\n"
        "That a kit was made stands in the vault from then on.",
    .examples = kKitExamples,
    .arguments = kName,
    .options = kKitOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/done/1",
};

}  // namespace kuramori::operation
