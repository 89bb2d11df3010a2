#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr std::string_view kSocketHelp =
    "where the daemon listens (or KURAMORI_SOCKET; default: /run/kuramori/kuramori.sock)";

constexpr std::string_view kClientSocketHelp =
    "the daemon to ask first (or KURAMORI_SOCKET; default: /run/kuramori/kuramori.sock); off: none";

constexpr Example kServeExamples[] = {
    {"kuramori --config /etc/kuramori/kuramori.yaml serve --group postgres",
     "the vaults and the plans of a configuration"},
    {"kuramori --vault /srv/vault --key-file /etc/kuramori/key serve --socket /run/kuramori/kuramori.sock",
     "one vault"},
};
constexpr Option kServeOptions[] = {
    {.name = "socket", .metavar = "PATH", .help = kSocketHelp, .completes = Completes::kFile},
    {.name = "group", .metavar = "NAME", .help = "whose members may connect too; postgres, say"},
    {.name = "stop-within",
     .metavar = "DURATION",
     .help =
         "how long jobs that run may go on when it is asked to stop, before they are ended (default: 45s)"},
};

constexpr Option kPushOptions[] = {
    {.name = "resource",
     .metavar = "NAME",
     .help = "instead of finding it by the server's system id",
     .completes = Completes::kResource},
    {.name = "socket", .metavar = "PATH", .help = kClientSocketHelp, .completes = Completes::kFile},
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
    {.name = "socket", .metavar = "PATH", .help = kClientSocketHelp, .completes = Completes::kFile},
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

constexpr Example kStreamExamples[] = {
    {"kuramori wal stream orders-db", "until it is stopped; its plan names the vault"},
    {"kuramori wal stream orders-db --once", "what the server has now, and no more"},
    {"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (kuramori_orders_db, standby1)'",
     "on the server: what is acknowledged is in the vault, or on the standby"},
};
constexpr Argument kStreamArguments[] = {
    {"RESOURCE", "its name in kuramori.yaml", Argument::Count::kOne, Completes::kResource},
};
constexpr Option kStreamOptions[] = {
    {.name = "flush",
     .metavar = "DURATION",
     .help = "durable in the vault within this time (default: flush: of the plan, else 1s; in S3 10s)"},
    {.name = "slot", .metavar = "NAME", .help = "the replication slot (default: kuramori_RESOURCE)"},
    {.name = "application-name",
     .metavar = "NAME",
     .help = "what synchronous_standby_names calls it (default: kuramori_RESOURCE)"},
    {.name = "slot-warn",
     .metavar = "SIZE",
     .help = "warn when the slot keeps more WAL than this on the server (default: 10GiB)"},
    {.name = "once", .metavar = "", .help = "catch up with where the server is now, then stop"},
    {.name = "from-here",
     .metavar = "",
     .help = "leave behind what the server no longer has, or an abandoned branch; then back up with --full"},
};
constexpr ExitMeaning kStreamExits[] = {
    {0, "stopped; all that was received is durable in the vault"},
    {1, "failed; what is not in the vault, the slot keeps on the server"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {5, "refused: WAL is missing in between, or it is another server's history"},
};

constexpr Example kWalShowExamples[] = {
    {"kuramori wal show orders-db", "what is archived, by timeline, and the gaps"}};
constexpr Argument kWalShowArguments[] = {
    {"RESOURCE", "its name", Argument::Count::kOne, Completes::kResource},
};

}  // namespace

constexpr Operation kServe = {
    .verb = "serve",
    .summary = "the daemon: runs the plans, and is asked first by wal push and wal get",
    .about =
        "Runs what the plans say: backups on their schedules, copies after them, drills, prune, collect and "
        "scrub, "
        "each as a process of its own that does what the same command does when it is typed. What is missed "
        "while "
        "no daemon ran is made up for once. What fails for a reason that may pass is tried again; what does "
        "not "
        "start within its plan's start_window is EXPIRED, what is not done within its completion_window "
        "ABORTED. "
        "Plans with `wal: stream` or `every: change` have their streams kept alive.\n\n"
        "It can be killed at any moment: no run happens twice and none is forgotten. SIGTERM ends it "
        "gracefully: no "
        "new jobs, and those that run have --stop-within to end. SIGHUP reads the configuration anew; "
        "streams go "
        "on. What it did stands in jobs.sqlite in the state folder (KURAMORI_STATE).\n\n"
        "Besides, it keeps the vaults open and listens on a socket. `wal push` hands it the segment, and "
        "those that "
        "are ready behind it are stored at the same time; `wal get` finds the next segments fetched. Both do "
        "the "
        "work themselves where no daemon answers. With --vault it does no more than this.\n\n"
        "The socket is for the daemon's own user, for root, and for the members of its group.",
    .examples = kServeExamples,
    .options = kServeOptions,
    .needs = Needs::kVaultAndKey,
};

constexpr Operation kWalPush = {
    .verb = "wal push",
    .summary = "archive a segment (for archive_command)",
    .about =
        "Stores the segment and returns when it is durable. The same name with the same bytes is a success; "
        "with other bytes it is "
        "refused. The resource is the one whose system id the data directory and the segment carry. A daemon "
        "(`kuramori serve`) is asked first; without one the work is done here.",
    .examples = kPushExamples,
    .arguments = kPushArguments,
    .options = kPushOptions,
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

constexpr Operation kWalStream = {
    .verb = "wal stream",
    .summary = "replication slot → vault, RPO in seconds",
    .about =
        "Receives the server's WAL as it is written, makes it durable in the vault and only then "
        "acknowledges "
        "it: as a synchronous standby it loses nothing that was committed. It begins where the archive ends, "
        "makes its slot if that is not there, follows timelines, and connects again when the server or the "
        "vault was away. Past a hole it does not go on by itself.\n\n"
        "With two names in synchronous_standby_names an outage of the vault does not stop commits; with this "
        "one alone it does.",
    .examples = kStreamExamples,
    .arguments = kStreamArguments,
    .options = kStreamOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/stream/1",
    .exits = kStreamExits,
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
