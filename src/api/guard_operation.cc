#include "api/guard_operation.h"

namespace kuramori::operation {
namespace {

constexpr Argument kArguments[] = {
    {"COMMAND", "what may break something, and its arguments, behind --", Argument::Count::kOne},
    {"ARGUMENTS", "of the command", Argument::Count::kAny},
};
constexpr Example kExamples[] = {
    {"kuramori guard --label pre-release -- ./deploy.sh",
     "every planned resource; what failed is brought back beside what runs"},
    {"kuramori guard --label pre-migration --resource orders-db --resource uploads -- ./migrate up",
     "these two"},
    {"kuramori guard --label pre-release --resource uploads --in-place --rollback-to /srv/app/uploads -- "
     "./deploy.sh",
     "and in its place, the changed one kept beside"},
};
constexpr Option kOptions[] = {
    {.name = "label",
     .metavar = "TEXT",
     .help = "of the snapshots; they stay until they are reviewed at the next of this name",
     .required = true},
    {.name = "resource",
     .metavar = "RESOURCE",
     .help = "what the command may break; without it every resource that a plan covers",
     .repeats = true,
     .completes = Completes::kResource},
    {.name = "plan", .metavar = "PLAN", .help = "which plan, when several cover a resource"},
    {.name = "tag", .metavar = "K=V", .help = "kept with the snapshots", .repeats = true},
    {.name = "rollback-to",
     .metavar = "[RESOURCE=]TARGET",
     .help = "where it is brought back if the command fails: a new folder, or what restore --to takes; "
             "otherwise below "
             "the working folder",
     .repeats = true},
    {.name = "in-place",
     .metavar = "",
     .help =
         "--rollback-to names what runs, and is replaced; it is saved before and kept beside as .old-TIME"},
    {.name = "stop", .metavar = "SHELL", .help = "with --in-place: run before, to stop what uses it"},
    {.name = "start", .metavar = "SHELL", .help = "with --in-place: run afterwards, if all is back"},
    {.name = "wal-within",
     .metavar = "DURATION",
     .help = "how long to wait until PostgreSQL's WAL is in the vault: 2m"},
};
constexpr ExitMeaning kExits[] = {
    {0, "the command ended with 0: what it did stays, and so do the snapshots"},
    {2, "wrong usage or configuration; the command was not run"},
    {124, "the command failed, and not all could be brought back (each is named, with what to type)"},
    {125, "there is no whole snapshot; the command was not run"},
    {126, "the command cannot be run"},
    {127, "there is no such command"},
};

}  // namespace

constexpr Operation kGuard = {
    .verb = "guard",
    .summary = "run a command that may break something, and bring back what it broke",
    .about =
        "Takes a labelled snapshot of each resource (a second try if one fails), sees to it that each can be "
        "restored as it is at this moment — of PostgreSQL to the last commit before the command, if its plan "
        "keeps "
        "WAL — and only then runs COMMAND, with the terminal, its streams and signals as if it had been "
        "typed "
        "alone.\n\n"
        "If it ends with 0 the snapshots stay until they are reviewed. If it fails or is killed, each "
        "resource is "
        "restored beside what runs, and the command that puts it in its place is shown; with --in-place that "
        "is done. "
        "The exit status is then COMMAND's own, or 128 and the signal's number.\n\n"
        "Killed itself at any moment, guard leaves labelled snapshots that `kuramori review` lists; a "
        "command that runs then "
        "runs on, and nothing is brought back.",
    .examples = kExamples,
    .arguments = kArguments,
    .options = kOptions,
    .needs = Needs::kConfig,
    .schema = "kuramori/guard/1",
    .exits = kExits,
};

}  // namespace kuramori::operation
