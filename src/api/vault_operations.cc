#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Argument kName[] = {
    {"NAME", "a configured vault, or its location", Argument::Count::kOne, Completes::kVault},
};

constexpr Example kInitExamples[] = {
    {"kuramori vault init tokyo", "the place and the key file come from kuramori.yaml"},
    {"kuramori vault init /srv/kuramori --key-file /etc/kuramori/tokyo.key", "without a configuration"},
};
constexpr Option kInitOptions[] = {
    {.name = "passphrase-file",
     .metavar = "FILE",
     .help = "wrap the new key under the passphrase in this file (passphrase_file of the configuration "
             "otherwise)",
     .completes = Completes::kFile},
};

constexpr Example kListExamples[] = {
    {"kuramori vault list", "every configured vault, and whether it answers"}};
constexpr Example kShowExamples[] = {
    {"kuramori vault show tokyo", "its identity, parameters and contents"},
    {"kuramori vault show tokyo --sizes", "and how much is stored in it"},
};
constexpr Option kShowOptions[] = {
    {.name = "sizes",
     .metavar = "",
     .help = "list every object and add up their sizes; of this vault alone, other vaults are not looked at"},
};

constexpr Example kScrubExamples[] = {
    {"kuramori vault scrub tokyo", "read and check every object"},
    {"kuramori vault scrub tokyo --every 30d --budget 1h", "nightly: what is due, for an hour at most"},
    {"kuramori vault scrub tokyo --heal", "and take what is damaged back from the copies"},
};
constexpr Option kScrubOptions[] = {
    {.name = "budget",
     .metavar = "DURATION",
     .help = "stop after this long; the next run goes on with what was checked the longest ago"},
    {.name = "every",
     .metavar = "DURATION",
     .help = "leave out packs and WAL that were found whole less than this ago"},
    {.name = "if-allowed",
     .metavar = "",
     .help = "with a key whose role may not do this: say so, and end with 0"},
    {.name = "heal", .metavar = "", .help = "bring back what is damaged or missing from another vault"},
    {.name = "from",
     .metavar = "VAULT",
     .help = "heal from this one (default: every other configured vault of the key family)",
     .completes = Completes::kVault},
    kLimitReadVault,
    kLimitNetwork,
    kLimitCpu,
    kNice,
    kIo,
};
constexpr ExitMeaning kScrubExits[] = {
    {0, "all that was read is sound"},
    {1, "it could not be done"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {3, "the budget ended first; what was read is sound"},
    {4, "damage was found, each object is named; with --heal: not all of it could be mended"},
    {130, "interrupted"},
};

constexpr Example kCollectExamples[] = {
    {"kuramori vault collect tokyo --dry-run", "what would be freed"},
    {"kuramori vault collect tokyo", "free what nothing refers to"},
    {"kuramori vault collect tokyo --dead-after 1h", "a backup was killed, and its space is wanted now"},
};
constexpr Option kCollectOptions[] = {
    {.name = "dry-run", .metavar = "", .help = "say what would be freed, change nothing"},
    {.name = "if-allowed",
     .metavar = "",
     .help = "with a key whose role may not do this, or before others agreed: say so, and end with 0"},
    {.name = "dead-after",
     .metavar = "DURATION",
     .help =
         "a session without a sign of life for so long is taken for dead and ended (default 72h); one that "
         "was alive then fails and has to start again"},
    {.name = "share-max",
     .metavar = "PERCENT",
     .help = "free nothing if it were more than this share of the vault's bytes (default 50)"},
    {.name = "no-compact",
     .metavar = "",
     .help = "leave packs whole of which little is needed; nothing is read or written but records"},
};

constexpr Example kDisownExamples[] = {
    {"kuramori vault disown tokyo commits/1f…/9a….3c…", "set aside a commit that scrub named"},
};
constexpr Argument kDisownArguments[] = {
    {"NAME", "a configured vault, or its location", Argument::Count::kOne, Completes::kVault},
    {"COMMIT", "the object's name, as scrub or collect printed it"},
};

}  // namespace

constexpr Operation kVaultInit = {
    .verb = "vault init",
    .summary = "make a vault, and its key if there is none",
    .about =
        "Checks what the store really does, writes the vault's identity and, if the key file does not exist, "
        "makes one "
        "(mode 0600). An existing key file is used, never overwritten. A place that holds anything else is "
        "refused.\n\n"
        "Whoever loses the key loses the vault: keep a copy of the key file elsewhere.",
    .examples = kInitExamples,
    .arguments = kName,
    .options = kInitOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/vault/1",
};

constexpr Operation kVaultList = {
    .verb = "vault list",
    .summary = "the configured vaults",
    .about = "One line a vault: its name, place and site, and whether it can be opened.",
    .examples = kListExamples,
    .needs = Needs::kConfig,
    .schema = "kuramori/vaults/1",
};

constexpr Operation kVaultShow = {
    .verb = "vault show",
    .summary = "what a vault is and holds",
    .about =
        "Its id, key family, format, the probe's findings, how many snapshots it holds, and who may do what "
        "in it. Where several vaults are configured: how far its copies are behind, and what would be lost "
        "of each resource if a site (`site:`) burned. Last the score of each resource by the rule of three "
        "copies on two media, one of them at another site: the original counts, on a disk at the resource's "
        "`site:` (else at its plan's vault's), and every configured vault that holds a snapshot of it; a "
        "vault's "
        "`medium:` says what it lies on where that is not plain (`usb disk`).",
    .examples = kShowExamples,
    .arguments = kName,
    .options = kShowOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/vault/1",
};

constexpr Operation kVaultScrub = {
    .verb = "vault scrub",
    .summary = "read everything and name what is damaged",
    .about =
        "Reads every object, checks it against the digests that signed commits bind, and names what is "
        "damaged, missing, "
        "swapped or unknown, with the snapshots that need it and, where the key can read them, the names of "
        "the files. When each "
        "pack was last found whole is remembered on this machine.\n\n"
        "Nothing is changed, unless --heal is given (a keeper's or the owner's key): then packs, maps, live "
        "records and WAL "
        "that another vault of the family has whole come from there and are read back, and the damaged "
        "object goes, or stays where the store retains it.",
    .examples = kScrubExamples,
    .arguments = kName,
    .options = kScrubOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/scrub/1",
    .exits = kScrubExits,
};

constexpr Operation kVaultCollect = {
    .verb = "vault collect",
    .summary = "free what nothing refers to",
    .about =
        "Deletes packs that no visible snapshot and no open session refers to, by the plan that is stored "
        "before. Where a "
        "session is still open the run ends and the next one goes on. What cannot be read stops it.\n\n"
        "Then packs of which no more than half is needed are thinned, the emptiest first: what is needed of "
        "them is "
        "put again as a pack of its own, sealed as it is, and the whole one goes. One run thins as much as "
        "half of "
        "--share-max; what is locked or lies in a cold class is left alone.\n\n"
        "What a restore reads is spared until it ends, pruned or not, even if its process stands still: the "
        "session that it put says so. A process that died leaves such a session behind, and with it its "
        "space, until --dead-after.",
    .examples = kCollectExamples,
    .arguments = kName,
    .options = kCollectOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/collect/1",
};

constexpr Operation kVaultDisown = {
    .verb = "vault disown",
    .summary = "set aside a commit that cannot be verified",
    .about =
        "A commit that is damaged or signed by nobody known stops collection: what it refers to is unknown. "
        "Disowning it says "
        "that it is not one of yours. Its object stays; it counts no more.",
    .examples = kDisownExamples,
    .arguments = kDisownArguments,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/done/1",
};

}  // namespace kuramori::operation
