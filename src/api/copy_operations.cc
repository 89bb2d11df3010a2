#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Argument kOptionalResource[] = {
    {"RESOURCE", "only this one", Argument::Count::kOptional, Completes::kResource},
};
constexpr Example kCopyExamples[] = {
    {"kuramori copy --to osaka", "everything the second vault lacks, with its WAL"},
    {"kuramori copy orders-db --from tokyo --to osaka",
     "of one resource, from a vault other than its plan's"},
    {"kuramori copy --to osaka --dry-run", "how far the second vault is behind"},
};
constexpr Option kCopyOptions[] = {
    {.name = "from",
     .metavar = "VAULT",
     .help =
         "the vault to copy (default: that of --vault, of the plan, or what `copy_of` says of the second)",
     .completes = Completes::kVault},
    {.name = "to",
     .metavar = "VAULT",
     .help = "the vault to copy to: a configured name, or a location",
     .required = true,
     .completes = Completes::kVault},
    {.name = "dry-run", .metavar = "", .help = "say what the second vault lacks, copy nothing"},
    kLimitReadVault,
    kLimitNetwork,
    kLimitCpu,
    kNice,
    kIo,
};
constexpr ExitMeaning kCopyExits[] = {
    {0, "the second vault has everything that the first one had when the copy began"},
    {1, "it could not be done, or a vault is not there; the age of the last copy is shown"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {3, "something could not be copied; each is named"},
    {5, "refused: a key may not, the vaults are one, or a resource is of another system"},
    {130, "interrupted: what was sent stays, the next run goes on"},
};

constexpr Argument kName[] = {
    {"NAME", "a configured vault, or its location", Argument::Count::kOne, Completes::kVault},
};
constexpr Example kRebuildExamples[] = {
    {"kuramori vault ledger new osaka", "the new place is the `ledger:` of kuramori.yaml"},
    {"kuramori vault ledger new /srv/objects --ledger /srv/ledger-2 --key-file tokyo.key",
     "without a configuration"},
};
constexpr Option kRebuildOptions[] = {
    {.name = "ledger",
     .metavar = "LOCATION",
     .help = "the new, empty place (default: the `ledger:` of the configuration)"},
};

}  // namespace

constexpr Operation kCopy = {
    .verb = "copy",
    .summary = "bring a second vault up to date",
    .about =
        "Copies snapshots, the WAL that belongs to them and follows, holds and proofs, to another vault of "
        "the "
        "same key family, verbatim and unopened: a keeper's key is enough. What was sent is read back before "
        "anything relies on it. What stands there already is not sent again: a copy that was stopped goes on "
        "where it was.\n\n"
        "To a vault of another key family everything is opened and sealed anew: that needs a reader's key of "
        "the first and a writer's of the second. Proofs stay behind.\n\n"
        "How long copies are kept, and so which snapshots are copied, is said by `copies:` of the plan; "
        "without "
        "it they are kept as long as the originals. The lag is what the second vault lacks: since when, and "
        "how "
        "many bytes.",
    .examples = kCopyExamples,
    .arguments = kOptionalResource,
    .options = kCopyOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/copy/1",
    .exits = kCopyExits,
};

constexpr Operation kVaultLedgerNew = {
    .verb = "vault ledger new",
    .summary = "found a new ledger in place of a lost one",
    .about =
        "For a vault of two places whose ledger is lost. Reads from the objects what stands, and founds a "
        "new "
        "ledger in an empty place. Whatever the old ledger knew and the objects do not is void: nobody was "
        "told "
        "that it succeeded. Sessions start over.\n\n"
        "Stop whoever may still use the old ledger first: what they do from now on counts for nothing. Asks "
        "for "
        "the vault's name, unless --yes is given.",
    .examples = kRebuildExamples,
    .arguments = kName,
    .options = kRebuildOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/done/1",
};

}  // namespace kuramori::operation
