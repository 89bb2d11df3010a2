#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Argument kResourceAtSnapshot[] = {
    {"RESOURCE[@SNAPSHOT]", "its name; @latest or @ID starts from that snapshot", Argument::Count::kOne,
     Completes::kResource},
};

constexpr Example kRestoreExamples[] = {
    {"kuramori restore orders-db --to /srv/restored --at \"2026-02-11 03:00:00+09:00\"",
     "the last commit before that second"},
    {"kuramori restore orders-db --to /srv/restored --latest --start",
     "as new as the archive allows, and start it"},
    {"kuramori restore orders-db@3f2a91bc --to /srv/restored", "exactly that snapshot"},
    {"kuramori restore orders-db --to /srv/r --latest --vault /srv/kuramori --key-file tokyo.key",
     "on a new machine, with nothing but a vault and a key"},
    {"kuramori restore assets --undelete photos/2024", "what was deleted in a bucket is there again"},
};
constexpr Option kRestoreOptions[] = {
    {.name = "to",
     .metavar = "PATH",
     .help = "a new or empty folder; of redis, bucket, dump and git also a URL, of command also "
             "command: (required)",
     .completes = Completes::kFolder},
    {.name = "at",
     .metavar = "TIME",
     .help = "the last commit at or before this moment, with its zone; a bucket as it stood then"},
    {.name = "lsn", .metavar = "LSN", .help = "up to this position, 0/3000148"},
    {.name = "xid", .metavar = "XID", .help = "up to this transaction"},
    {.name = "name", .metavar = "NAME", .help = "up to this restore point"},
    {.name = "latest", .metavar = "", .help = "up to the end of the archive"},
    {.name = "exclusive", .metavar = "", .help = "stop just before the target"},
    {.name = "timeline",
     .metavar = "N",
     .help = "follow this timeline instead of the newest that reaches the target"},
    {.name = "action",
     .metavar = "ACTION",
     .help = "at the target: promote (default), pause or shutdown",
     .completes = Completes::kWord,
     .words = "promote pause shutdown"},
    {.name = "start", .metavar = "", .help = "start the server and wait until it is open"},
    {.name = "port", .metavar = "PORT", .help = "with --start: instead of the restored configuration's"},
    {.name = "standby", .metavar = "", .help = "leave it as a standby that follows the archive"},
    {.name = "continue", .metavar = "", .help = "it takes the old one's place: archive its new timeline"},
    {.name = "only",
     .metavar = "PATH",
     .help = "of files and buckets: this one, or all below this folder; of dump: this table",
     .repeats = true},
    {.name = "undelete",
     .metavar = "KEY",
     .help = "in the bucket itself: take away what marks this key, or all below it, as deleted"},
    {.name = "version",
     .metavar = "ID",
     .help = "in the bucket itself, with --only KEY --overwrite: this older version becomes the newest"},
    {.name = "in-bucket",
     .metavar = "",
     .help = "with --at --overwrite: the bucket's own versions set it, or --only PREFIX, back to a moment"},
    {.name = "delta", .metavar = "", .help = "into an existing copy: write only what differs"},
    {.name = "overwrite",
     .metavar = "",
     .help = "in place; the old folder or database is kept beside as .old-TIME"},
    {.name = "estimate", .metavar = "", .help = "say what it would take, write nothing"},
    {.name = "tablespace",
     .metavar = "OLD=NEW",
     .help = "where a tablespace goes; unmapped ones go beside the target",
     .repeats = true},
    {.name = "salvage-wal",
     .metavar = "OLD_PGDATA",
     .help = "first archive what the dead server left in its pg_wal",
     .completes = Completes::kFolder},
    kLimitReadVault,
    kLimitNetwork,
    kLimitCpu,
    kNice,
    kIo,
};

constexpr Example kDrillExamples[] = {
    {"kuramori drill orders-db",
     "restore the newest snapshot into a sandbox, start it, check it, sign the proof"},
    {"kuramori drill orders-db --at \"2026-02-11 03:00:00+09:00\"", "prove that moment"},
};
constexpr Option kDrillOptions[] = {
    {.name = "at", .metavar = "TIME", .help = "the moment to prove, with its zone"},
};
constexpr ExitMeaning kDrillExits[] = {
    {0, "proven"},
    {1, "it could not be done"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {4, "the proof failed; each check that failed is named"},
    {5, "refused for safety, as a moment outside the window"},
    {130, "interrupted; the sandbox is gone"},
};

}  // namespace

constexpr Operation kRestore = {
    .verb = "restore",
    .summary = "bring a resource back, at a moment you choose",
    .about =
        "Checks first that the moment lies in the window and that nothing is missing on the way, and refuses "
        "with the exact "
        "window otherwise, before a byte is written. Then restores into a new folder; a running, foreign or "
        "non-empty target is "
        "never touched unasked. A run that was cut off goes on where it stopped.\n\n"
        "Without a target it restores the snapshot itself. --at names a moment with its zone; the last "
        "commit at or before it is "
        "shown.",
    .examples = kRestoreExamples,
    .arguments = kResourceAtSnapshot,
    .options = kRestoreOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/restore/1",
};

constexpr Operation kDrill = {
    .verb = "drill",
    .summary = "prove a snapshot by restoring it",
    .about =
        "Restores into a sandbox that can reach nothing, starts the server of the right version, compares "
        "row counts with those "
        "of the snapshot, checks indexes and tables, runs the plan's SQL, measures the time, signs the proof "
        "and cleans up.",
    .examples = kDrillExamples,
    .arguments = kResourceAtSnapshot,
    .options = kDrillOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/drill/1",
    .exits = kDrillExits,
};

}  // namespace kuramori::operation
