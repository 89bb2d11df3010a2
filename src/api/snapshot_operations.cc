#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Argument kResource[] = {
    {"RESOURCE", "its name in kuramori.yaml", Argument::Count::kOne, Completes::kResource},
};
constexpr Argument kOptionalResource[] = {
    {"RESOURCE", "only this one", Argument::Count::kOptional, Completes::kResource},
};
constexpr Argument kSnapshot[] = {
    {"SNAPSHOT", "an id, or its first characters (at least 4), or RESOURCE@latest"},
};

constexpr Example kBackupExamples[] = {
    {"kuramori backup orders-db", "by its plan"},
    {"kuramori backup orders-db --label pre-release", "one that stays until the next of this name is proven"},
    {"kuramori backup orders-db --label before-migration --keep 3mo", "one that stays for three months"},
    {"kuramori backup orders-db --full", "read and store everything again"},
    {"kuramori backup orders-db --copy", "and bring the plan's other vaults up to date"},
};
constexpr Option kBackupOptions[] = {
    {.name = "plan", .metavar = "PLAN", .help = "which plan, when several cover the resource"},
    {.name = "label",
     .metavar = "TEXT",
     .help = "a name people will recognise; without --keep it stays until it is reviewed at the next of this "
             "name"},
    {.name = "tag", .metavar = "K=V", .help = "kept with the snapshot", .repeats = true},
    {.name = "keep", .metavar = "DURATION", .help = "instead of the plan's rule: 14d, 7y, forever"},
    {.name = "full", .metavar = "", .help = "build on no earlier snapshot"},
    {.name = "copy",
     .metavar = "",
     .help = "then copy it, and what is missing there, to every vault of the plan's copies"},
    kLimitReadSource,
    kLimitNetwork,
    kLimitCpu,
    kNice,
    kIo,
};
constexpr ExitMeaning kBackupExits[] = {
    {0, "the snapshot stands, and with --copy every copy is whole"},
    {1, "there is no snapshot; nothing is lost"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {3, "the snapshot stands; a page is broken at the source, or a copy could not be made (named)"},
    {5, "refused for safety"},
    {130, "interrupted"},
};

constexpr Example kWatchExamples[] = {
    {"kuramori watch uploads", "a snapshot now, and one whenever something changed, until it is stopped"},
    {"kuramori watch env --settle 1s", "as soon as nothing changed for a second"},
};
constexpr Option kWatchOptions[] = {
    {.name = "settle",
     .metavar = "DURATION",
     .help = "how long nothing may change before a snapshot is taken: 2s; after five times as long it is "
             "taken anyway"},
    {.name = "plan", .metavar = "PLAN", .help = "which plan, when several cover the resource"},
    {.name = "label", .metavar = "TEXT", .help = "a name people will recognise"},
    {.name = "tag", .metavar = "K=V", .help = "kept with each snapshot", .repeats = true},
    {.name = "keep", .metavar = "DURATION", .help = "instead of the plan's rule: 14d, 7y, forever"},
    {.name = "copy", .metavar = "", .help = "and bring each to every vault of the plan's copies"},
    kLimitReadSource,
    kLimitNetwork,
    kLimitCpu,
    kNice,
    kIo,
};
constexpr ExitMeaning kWatchExits[] = {
    {0, "it was stopped, as asked"},
    {2, "wrong usage or configuration, wrong or damaged key"},
};

constexpr Example kStatusExamples[] = {
    {"kuramori status", "every resource, in the order of how critical it is"},
    {"kuramori status orders-db", "one, with where it can be restored from"},
    {"kuramori status --check", "for a monitor: exit status 4 when a promise is broken"},
};
constexpr Option kStatusOptions[] = {
    {.name = "check", .metavar = "", .help = "exit with 4 when a promise is broken"},
};
constexpr ExitMeaning kStatusExits[] = {
    {0, "it is said; with --check also: every promise holds"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {4, "with --check: a promise is broken (each is named)"},
};

constexpr Example kSnapshotsExamples[] = {
    {"kuramori snapshots", "all of them"},
    {"kuramori snapshots orders-db", "of one resource"},
    {"kuramori snapshots orders-db --tag release=4.2", "those that were made with this tag"},
    {"kuramori snapshots --vault /srv/kuramori --key-file tokyo.key", "with nothing but a vault and a key"},
};

constexpr Option kSnapshotsOptions[] = {
    {.name = "tag",
     .metavar = "K=V",
     .help = "only those with this tag; of one key, with any",
     .repeats = true},
};

constexpr Example kShowExamples[] = {
    {"kuramori show 3f2a91bc", "by the first characters of its id"},
    {"kuramori show orders-db@latest", "the newest"},
};

constexpr Argument kPair[] = {
    {"FROM", "a snapshot, or a resource: its last two are compared"},
    {"TO", "a snapshot of the same resource; the newest, if left out", Argument::Count::kOptional},
};
constexpr Example kDiffExamples[] = {
    {"kuramori diff env", "what the last change changed: of secrets the names of keys, never a value"},
    {"kuramori diff infra@3f2a91bc --lines", "from that one to the newest, line by line"},
    {"kuramori diff 3f2a91bc 77c0d1e4 --detailed-exitcode", "for scripts: 10 if they differ"},
};
constexpr Option kDiffOptions[] = {
    {.name = "lines", .metavar = "", .help = "show the lines that differ, where a file is text"},
    {.name = "detailed-exitcode", .metavar = "", .help = "exit with 10 if anything differs"},
};
constexpr ExitMeaning kDiffExits[] = {
    {0, "compared"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {5, "refused: what a secret holds is not shown"},
    {10, "they differ, and --detailed-exitcode was given"},
    {130, "interrupted"},
};

constexpr Example kWindowExamples[] = {
    {"kuramori window orders-db", "the moments it can be restored to, and the gaps"}};

constexpr Example kPruneExamples[] = {
    {"kuramori prune --dry-run", "what is due and what stays, with the reason of each line"},
    {"kuramori prune", "do it; `kuramori vault collect` then frees the space"},
    {"kuramori prune --yes", "also what is more than limits: delete: allows"},
};
constexpr Option kPruneOptions[] = {
    {.name = "dry-run", .metavar = "", .help = "say what would go, change nothing"},
    {.name = "if-allowed",
     .metavar = "",
     .help = "with a key whose role may not do this: say so, and end with 0"},
};

constexpr Example kHoldAddExamples[] = {
    {"kuramori hold add 3f2a91bc --name audit-2026", "not to be deleted while this stands"}};
constexpr Example kHoldRemoveExamples[] = {
    {"kuramori hold remove 3f2a91bc --name audit-2026", "it may go again when it is due"}};
constexpr Option kHoldOptions[] = {
    {.name = "name",
     .metavar = "NAME",
     .help = "of the hold; several may stand on one snapshot",
     .required = true},
};

constexpr Example kExtendExamples[] = {{"kuramori extend 3f2a91bc --keep 7y", "seven years from now"}};
constexpr Option kExtendOptions[] = {
    {.name = "keep", .metavar = "DURATION", .help = "from now on; never shortens", .required = true},
};

}  // namespace

constexpr Operation kBackup = {
    .verb = "backup",
    .summary = "take a snapshot",
    .about =
        "Copies what changed since the last snapshot and commits one that is complete in itself. Every "
        "stored frame is opened "
        "again and compared before the commit. How long it is kept is decided now, from the plan's rule or "
        "--keep.\n\n"
        "With --copy it goes on to the vaults of the plan's copies: the server is read once. One that is not "
        "there does not "
        "fail the backup: it is named with the age of what it holds, and the next run catches up.",
    .examples = kBackupExamples,
    .arguments = kResource,
    .options = kBackupOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/backup/1",
    .exits = kBackupExits,
};

constexpr Operation kWatch = {
    .verb = "watch",
    .summary = "take a snapshot whenever something changes",
    .about =
        "For files, secrets and repositories. Of files the kernel tells; where it cannot (network "
        "filesystems, "
        "more folders than it watches), everything is looked at every ten seconds. A remote repository is "
        "asked "
        "for its refs as often. A snapshot is taken at the "
        "start and whenever changes have settled. One that fails is tried again until it stands, and what "
        "changed in the meantime is in it.",
    .examples = kWatchExamples,
    .arguments = kResource,
    .options = kWatchOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/backup/1",
    .exits = kWatchExits,
};

constexpr Operation kStatus = {
    .verb = "status",
    .summary = "is everything protected now, and since when proven",
    .about =
        "For every resource: up to which moment it can be restored, and from where; how old that is beside "
        "its "
        "objective; when it was last proven and how long it took to open; what may be pruned next; and every "
        "promise of the configuration that does not hold, in words.",
    .examples = kStatusExamples,
    .arguments = kOptionalResource,
    .options = kStatusOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/status/1",
    .exits = kStatusExits,
};

constexpr Operation kSnapshots = {
    .verb = "snapshots",
    .summary = "what there is to restore",
    .about =
        "One line a snapshot: id, time, size, what it added, until when it is kept, its holds, and when it "
        "was last proven.",
    .examples = kSnapshotsExamples,
    .arguments = kOptionalResource,
    .options = kSnapshotsOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/snapshots/1",
};

constexpr Operation kShow = {
    .verb = "show",
    .summary = "everything about one snapshot",
    .about = "What it holds, what it was built on, its times and positions, its proofs and holds.",
    .examples = kShowExamples,
    .arguments = kSnapshot,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/snapshot/1",
};

constexpr Operation kDiff = {
    .verb = "diff",
    .summary = "what changed between two snapshots",
    .about =
        "Names what was added, removed and changed, and how. Files are compared by what the snapshots know "
        "of "
        "them: nothing is fetched unless lines or keys are asked for. Of secrets it names keys.",
    .examples = kDiffExamples,
    .arguments = kPair,
    .options = kDiffOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/diff/1",
    .exits = kDiffExits,
};

constexpr Operation kWindow = {
    .verb = "window",
    .summary = "the moments a resource can be restored to",
    .about =
        "Each restorable range with its timeline, first and last moment, and every gap with what is missing.",
    .examples = kWindowExamples,
    .arguments = kResource,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/window/1",
};

constexpr Operation kPrune = {
    .verb = "prune",
    .summary = "let go of what is due",
    .about =
        "Every snapshot is named with the reason why it goes or stays. Never pruned: the last proven, the "
        "newest, anything held, "
        "the base of a promised window. Space returns at `kuramori vault collect`.\n\n"
        "Where a resource has limits: { delete: 20% } (or a number), a prune that would drop more of its "
        "snapshots "
        "leaves all of them and exits with 5; --yes lets it.",
    .examples = kPruneExamples,
    .options = kPruneOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/prune/1",
};

constexpr Operation kHoldAdd = {
    .verb = "hold add",
    .summary = "forbid a snapshot's deletion",
    .about =
        "A snapshot with a hold is not pruned, however old. Once this command has succeeded no prune can "
        "have taken it.",
    .examples = kHoldAddExamples,
    .arguments = kSnapshot,
    .options = kHoldOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/done/1",
};

constexpr Operation kHoldRemove = {
    .verb = "hold remove",
    .summary = "end a hold",
    .about = "Other holds on the snapshot stay.",
    .examples = kHoldRemoveExamples,
    .arguments = kSnapshot,
    .options = kHoldOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/done/1",
};

constexpr Operation kExtend = {
    .verb = "extend",
    .summary = "keep a snapshot longer",
    .about = "Sets a later end of its keeping. An earlier one is refused.",
    .examples = kExtendExamples,
    .arguments = kSnapshot,
    .options = kExtendOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/done/1",
};

}  // namespace kuramori::operation
