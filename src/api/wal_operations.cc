#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Option kResourceOption[] = {
    {.name = "resource",
     .metavar = "NAME",
     .help = "instead of finding it by the server's system id",
     .completes = Completes::kResource},
};

constexpr Example kPushExamples[] = {
    {"archive_command = 'kuramori --config /etc/kuramori/kuramori.yaml wal push %p'", "in postgresql.conf"},
    {"kuramori wal push pg_wal/00000001000000000000002A", "by hand, from the data directory"},
};
constexpr Argument kPushArguments[] = {
    {"PATH", "%p: the segment or history file", Argument::Count::kOne, Completes::kFile}};
constexpr ExitMeaning kPushExits[] = {
    {0, "it is durable in the vault (or was already, byte for byte)"},
    {1, "it is not; PostgreSQL will try again"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {5, "refused: other bytes under this name, or a server that is not this resource"},
};

constexpr Option kGetOptions[] = {
    {.name = "resource", .metavar = "NAME", .help = "whose archive", .completes = Completes::kResource},
    {.name = "promise", .metavar = "TEXT", .help = "what the restore's pre-flight found; restore writes it"},
    {.name = "spool",
     .metavar = "FOLDER",
     .help = "take it from here: WAL that a restore fetched in advance; needs neither vault nor key",
     .completes = Completes::kFolder},
};

constexpr Example kGetExamples[] = {
    {"restore_command = 'kuramori wal get --vault … --key-file … --resource orders-db %f %p'",
     "`restore` writes this line itself"},
};
constexpr Argument kGetArguments[] = {
    {"NAME", "%f: the segment or history file wanted"},
    {"PATH", "%p: where to put it", Argument::Count::kOne, Completes::kFile},
};
constexpr ExitMeaning kGetExits[] = {
    {0, "found and written"},
    {1, "certainly beyond the end of this timeline's archive"},
    {200, "anything else: PostgreSQL stops and says so instead of promoting"},
};

constexpr Example kWalShowExamples[] = {
    {"kuramori wal show orders-db", "what is archived, by timeline, and the gaps"}};
constexpr Argument kWalShowArguments[] = {
    {"RESOURCE", "its name", Argument::Count::kOne, Completes::kResource},
};

}  // namespace

constexpr Operation kWalPush = {
    .verb = "wal push",
    .summary = "archive a segment (for archive_command)",
    .about =
        "Stores the segment and returns when it is durable. The same name with the same bytes is a success; "
        "with other bytes it is "
        "refused. The resource is the one whose system id the data directory and the segment carry.",
    .examples = kPushExamples,
    .arguments = kPushArguments,
    .options = kResourceOption,
    .needs = Needs::kVaultAndKey,
    .exits = kPushExits,
};

constexpr Operation kWalGet = {
    .verb = "wal get",
    .summary = "fetch a segment (for restore_command)",
    .about =
        "Its exit status is part of the recovery: 1 tells PostgreSQL that the archive ends here, so it is "
        "given only when the "
        "archive was read and says so. An outage, a gap or damage is 200, which stops the server instead of "
        "promoting it.",
    .examples = kGetExamples,
    .arguments = kGetArguments,
    .options = kGetOptions,
    .needs = Needs::kVaultAndKey,
    .exits = kGetExits,
};

constexpr Operation kWalShow = {
    .verb = "wal show",
    .summary = "what is archived, gaps, timelines",
    .about = "Each timeline with the stretches that are there without a hole, and every hole between them.",
    .examples = kWalShowExamples,
    .arguments = kWalShowArguments,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/wal/1",
};

}  // namespace kuramori::operation
