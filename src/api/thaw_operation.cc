#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Argument kSnapshot[] = {
    {"SNAPSHOT", "an id, or its first characters (at least 4), or RESOURCE@latest"},
};
constexpr Example kThawExamples[] = {
    {"kuramori thaw orders-db@latest --dry-run",
     "how much of it is cold, how long it takes, how many requests"},
    {"kuramori thaw orders-db@latest", "ask the store for it; then restore"},
};
constexpr Option kThawOptions[] = {
    {.name = "days", .metavar = "N", .help = "how long it stays readable (default: 7)"},
    {.name = "speed", .metavar = "SPEED", .help = "bulk, standard or expedited (default: standard)"},
    {.name = "dry-run", .metavar = "", .help = "say what is cold, ask for nothing"},
};
constexpr ExitMeaning kThawExits[] = {
    {0, "all of it can be read"},
    {1, "failed"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {3, "asked for, and not there yet: repeat the command to see how far it is"},
    {130, "interrupted"},
};

}  // namespace

constexpr Operation kThaw = {
    .verb = "thaw",
    .summary = "bring a cold snapshot back before restoring",
    .about =
        "Objects in a cold storage class (`class:` of a vault, or a rule of the bucket's own) cannot be read "
        "until the store has made a readable copy. This asks for one of every object the snapshot needs and "
        "that is cold, and says how long that takes. It may be repeated: what is on its way is not asked for "
        "again.",
    .examples = kThawExamples,
    .arguments = kSnapshot,
    .options = kThawOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/thaw/1",
    .exits = kThawExits,
};

}  // namespace kuramori::operation
