#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Example kJobsExamples[] = {
    {"kuramori jobs", "what runs and waits, and what ended last"},
    {"kuramori jobs orders-db --last 200", "of one resource, plan or vault"},
    {"kuramori jobs --start \"backup orders/orders-db\"",
     "have the daemon run it now, whatever its schedule says"},
    {"kuramori jobs --cancel 4711", "end a run, or let one that waits not start"},
};
constexpr Argument kJobsArguments[] = {
    {"NAME", "a resource, a plan or a vault", Argument::Count::kOptional, Completes::kResource},
};
constexpr Option kJobsOptions[] = {
    {.name = "last", .metavar = "N", .help = "how many of those that are over: 20"},
    {.name = "start", .metavar = "JOB", .help = "the job that is to run now, as this lists it"},
    {.name = "cancel", .metavar = "RUN", .help = "the number of a run that is to end"},
};

}  // namespace

constexpr Operation kJobs = {
    .verb = "jobs",
    .summary = "what the daemon runs, and how it ended",
    .about =
        "Reads the journal of `kuramori serve` in the state folder (KURAMORI_STATE). PENDING waits for room, "
        "CREATED "
        "for another try; the ends are COMPLETED, PARTIAL (the snapshot stands, something is missing), "
        "FAILED, "
        "EXPIRED (not started within its start_window), ABORTED (not done within its completion_window) and "
        "CANCELLED.",
    .examples = kJobsExamples,
    .arguments = kJobsArguments,
    .options = kJobsOptions,
    .schema = "kuramori/jobs/1",
};

}  // namespace kuramori::operation
