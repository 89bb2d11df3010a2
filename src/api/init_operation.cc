#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Example kInitExamples[] = {
    {"kuramori init", "what there is to protect here, and a kuramori.yaml for it"},
    {"kuramori init --write", "and write it, and make the vault and its key"},
    {"kuramori init --dev --prove", "a developer's database: every three hours, and restored once, now"},
    {"kuramori init --connect \"host=db user=backup dbname=shop\"", "a server that nothing here names"},
};
constexpr Option kInitOptions[] = {
    {.name = "write",
     .metavar = "",
     .help = "writes the proposal and makes the vault; never writes over a file"},
    {.name = "dev", .metavar = "", .help = "a developer's machine, in one step; again it changes nothing"},
    {.name = "prove", .metavar = "", .help = "with --dev: a first backup, and a timed restore of it"},
    {.name = "form",
     .metavar = "FORM",
     .help = "with --dev: what runs it; without this, what is there",
     .completes = Completes::kWord,
     .words = "systemd cron launchd"},
    {.name = "connect", .metavar = "CONNINFO", .help = "a PostgreSQL server, without a password"},
    {.name = "vault-at",
     .metavar = "FOLDER",
     .help = "where the vault is made",
     .completes = Completes::kFolder},
    {.name = "project", .metavar = "NAME", .help = "instead of the folder's name"},
};
constexpr ExitMeaning kInitExits[] = {
    {0, "proposed, or made"},
    {1, "nothing to protect was found"},
    {2, "wrong usage"},
    {4, "written, and lint found what cannot hold; or the restore took longer than 15 minutes"},
    {5, "refused: the file is there already"},
};

}  // namespace

constexpr Operation kInit = {
    .verb = "init",
    .summary = "look around, propose a kuramori.yaml, make the vault",
    .about =
        "Looks for PostgreSQL and Redis servers of this machine, compose files, .env files, the git "
        "repository around this folder, and buckets that variables name; asks the servers what they are, and "
        "changes nothing. A database that nobody is connected to is named as possibly not the live one. "
        "Passwords are neither printed nor written into the configuration.\n\n"
        "With --dev the application's database is dumped every three hours and kept for 14 days, outside "
        "the repository "
        "(~/.local/share/kuramori/PROJECT), by a user timer of systemd's, a line of cron's or an agent of "
        "launchd's. The configuration gets a line in .gitignore, a password that was found a file of mode "
        "0600 in ~/.config/kuramori.",
    .examples = kInitExamples,
    .options = kInitOptions,
    .schema = "kuramori/init/1",
    .exits = kInitExits,
};

}  // namespace kuramori::operation
