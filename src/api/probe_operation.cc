#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Argument kName[] = {
    {"NAME", "a configured vault, or its location", Argument::Count::kOne, Completes::kVault},
};
constexpr Example kProbeExamples[] = {
    {"kuramori vault probe tokyo", "try what the store promises, and remember what came of it"},
    {"kuramori vault probe tokyo --json", "each finding with its verdict"},
};
constexpr Option kProbeOptions[] = {
    {.name = "through",
     .metavar = "URL",
     .help = "another gateway of the same store: what one confirmed the other must show at once"},
};
constexpr ExitMeaning kProbeExits[] = {
    {0, "a vault can stand there"},
    {1, "it could not be tried"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {5, "a vault cannot stand there; what is broken is named"},
    {130, "interrupted"},
};

}  // namespace

constexpr Operation kVaultProbe = {
    .verb = "vault probe",
    .summary = "try what the store really does",
    .about =
        "Puts small objects below probe/ and looks: of sixteen writers at one name exactly one must win, a "
        "second "
        "put must be refused, what is written or deleted must be seen at once by reads and listings, 1,100 "
        "names must be listed whole, parts of objects must be right. Says whether the place is versioned, "
        "can "
        "lock objects, and how far its clock is from ours. The trials are removed again; what the store "
        "retains is counted.\n\n"
        "A place that does not put an object exactly once cannot hold a vault alone: it is refused, or needs "
        "a second place (ledger:). The result is kept in the vault, if there is one.",
    .examples = kProbeExamples,
    .arguments = kName,
    .options = kProbeOptions,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/probe/1",
    .exits = kProbeExits,
};

}  // namespace kuramori::operation
