#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Example kSimulateExamples[] = {
    {"kuramori simulate", "what each plan leaves after eight years, and how it comes to that"},
    {"kuramori simulate --plan orders --years 2 --each", "one plan, and why each snapshot stays or went"},
    {"kuramori simulate --starting-with vault", "from what the vaults hold now: what goes first, and when"},
    {"kuramori simulate --json --from 2026-01-01T00:00:00Z", "for programs, from a day of your choice"},
};
constexpr Option kSimulateOptions[] = {
    {.name = "years", .metavar = "N", .help = "how many are played: 8"},
    {.name = "from", .metavar = "TIME", .help = "when it begins: now"},
    {.name = "plan", .metavar = "PLAN", .help = "only this one"},
    {.name = "resource", .metavar = "RESOURCE", .help = "only this one", .completes = Completes::kResource},
    {.name = "starting-with",
     .metavar = "WHAT",
     .help = "nothing, or what the vault holds now",
     .completes = Completes::kWord,
     .words = "nothing vault"},
    {.name = "prune-every",
     .metavar = "DURATION",
     .help = "how often prune runs, instead of what the vaults say (else 1d)"},
    {.name = "change-every",
     .metavar = "DURATION",
     .help = "how often what is captured `every: change` changes: 1d"},
    {.name = "each", .metavar = "", .help = "every snapshot that ever was, and why it stays or went"},
};
constexpr ExitMeaning kSimulateExits[] = {
    {0, "played"},
    {2, "wrong usage or configuration"},
};

constexpr Example kReviewExamples[] = {
    {"kuramori review", "the labelled snapshots that wait for one"},
    {"kuramori review 3f2a91bc", "looked at: it may go when it is due"},
};
constexpr Argument kReviewArguments[] = {
    {"SNAPSHOT", "an id, or its first characters (at least 4)", Argument::Count::kOptional},
};
constexpr ExitMeaning kReviewExits[] = {
    {0, "listed, or reviewed"},
    {2, "wrong usage or configuration; the snapshot waits for no review"},
    {5, "refused: it is the newest of its label"},
};

}  // namespace

constexpr Operation kSimulate = {
    .verb = "simulate",
    .summary = "what retention will keep and drop over the years",
    .about =
        "Plays the plans by their schedules on days to come: every backup, copy, drill and prune, decided by "
        "the "
        "same functions that decide in earnest. Shows for each resource in each vault how many there will "
        "be, "
        "by "
        "which rule, when the first goes, and what lies between two that are kept. Nothing is read of a "
        "vault "
        "unless "
        "it starts with one, and nothing is changed.\n\n"
        "It takes for granted that every run succeeds at its moment, that each copy follows its snapshot, "
        "that "
        "drills pass, and that prune runs by the vault's `prune:`, or once a day where there is none.",
    .examples = kSimulateExamples,
    .options = kSimulateOptions,
    .needs = Needs::kConfig,
    .schema = "kuramori/simulation/1",
    .exits = kSimulateExits,
};

constexpr Operation kReview = {
    .verb = "review",
    .summary = "labelled snapshots: which wait, and that one was looked at",
    .about =
        "A snapshot made with --label and without --keep stays until it is reviewed at the next of its "
        "label: "
        "until "
        "the newer one is proven by a drill, or somebody says here that the older is needed no longer. Then "
        "its "
        "plan's rule holds for it again. The newest of a label is never let go by this.",
    .examples = kReviewExamples,
    .arguments = kReviewArguments,
    .needs = Needs::kVaultAndKey,
    .schema = "kuramori/reviews/1",
    .exits = kReviewExits,
};

}  // namespace kuramori::operation
