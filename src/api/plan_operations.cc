#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Example kPlanExamples[] = {
    {"kuramori plan", "what is different from what was applied, and what follows from it"},
    {"kuramori plan --out next.plan", "and keep it: what was looked at is what will be done, or nothing"},
    {"kuramori plan --detailed-exitcode", "10 when there is something to apply"},
    {"kuramori plan --against staging.yaml", "what two files say differently; no vault is asked"},
};
constexpr Option kPlanOptions[] = {
    {.name = "out",
     .metavar = "FILE",
     .help = "writes the plan, for `kuramori apply FILE`",
     .completes = Completes::kFile},
    {.name = "detailed-exitcode", .metavar = "", .help = "ends with 10 when there is something to apply"},
    {.name = "against",
     .metavar = "FILE",
     .help = "compares with another configuration instead",
     .completes = Completes::kFile},
};
constexpr ExitMeaning kPlanExits[] = {
    {0, "looked at"},
    {2, "wrong usage or configuration"},
    {3, "a vault did not answer: what is said is said without it"},
    {4, "the configuration promises what it cannot keep (kuramori lint)"},
    {10, "with --detailed-exitcode: there is something to apply"},
};

constexpr Example kApplyExamples[] = {
    {"kuramori apply", "makes missing vaults, records the configuration, has the daemon read it"},
    {"kuramori apply next.plan", "only if everything is still as that plan saw it"},
    {"kuramori apply --canary", "and ends with a backup and a restore through each vault"},
};
constexpr Argument kApplyArguments[] = {
    {"PLAN", "what `kuramori plan --out` wrote", Argument::Count::kOptional, Completes::kFile},
};
constexpr Option kApplyOptions[] = {
    {.name = "canary",
     .metavar = "",
     .help = "a small resource made for this is backed up through each vault, restored and compared"},
    {.name = "despite-lint",
     .metavar = "",
     .help = "also when the configuration promises what it cannot keep"},
};
constexpr ExitMeaning kApplyExits[] = {
    {0, "applied, and read back; applying the same again changes nothing"},
    {1, "failed, nothing lost"},
    {2, "wrong usage or configuration"},
    {3, "applied in part: a vault did not answer, and is named"},
    {4, "nothing was applied: lint found what cannot hold; or a canary did not come back"},
    {5, "refused: the world moved since the plan was made, or it gives something up and nobody said --yes"},
};

}  // namespace

constexpr Operation kPlan = {
    .verb = "plan",
    .summary = "what applying kuramori.yaml would change, and what follows from it",
    .about =
        "Compares kuramori.yaml with what was applied last, which stands in the vaults, so that everybody "
        "who "
        "shares "
        "one sees the same. Shows each key that changed, old and new; what would be deleted that stays now; "
        "what would be protected, proven, locked or promised no longer; which vaults would be made; when "
        "each "
        "plan runs next, in its zone and in UTC; and what lint finds. Secrets are never shown, and a secret "
        "that changed is no difference.\n\n"
        "Nothing is changed. A plan that was kept (--out) is applied only while the configuration, the "
        "vaults "
        "and what "
        "would go are as it saw them.",
    .examples = kPlanExamples,
    .options = kPlanOptions,
    .needs = Needs::kConfig,
    .schema = "kuramori/plan/1",
    .exits = kPlanExits,
};

constexpr Operation kApply = {
    .verb = "apply",
    .summary = "does what plan shows, and reads it back",
    .about =
        "Makes the vaults that are missing, records the configuration in each, asks the daemon of this "
        "machine to "
        "read it, and prints what then stands in every vault. Applied twice it changes nothing. Snapshots "
        "are never deleted here: that is prune's, at its time. What is given up (a resource without a plan, "
        "a "
        "shorter "
        "window, a copy less) is given up only with --yes, or after its name was typed.",
    .examples = kApplyExamples,
    .arguments = kApplyArguments,
    .options = kApplyOptions,
    .needs = Needs::kConfig,
    .schema = "kuramori/applied/1",
    .exits = kApplyExits,
};

}  // namespace kuramori::operation
