#include "api/operation_list.h"

namespace kuramori::operation {
namespace {

constexpr Argument kBucketOnly[] = {
    {"RESOURCE", "a resource of kind bucket", Argument::Count::kOne, Completes::kResource},
};
constexpr Argument kBucketAndKey[] = {
    {"RESOURCE", "a resource of kind bucket", Argument::Count::kOne, Completes::kResource},
    {"KEY", "one key, or all below it", Argument::Count::kOptional},
};

constexpr Example kVersionsExamples[] = {
    {"kuramori bucket versions assets photos/logo.png", "every version of one key, newest first"},
};

constexpr Example kFixExamples[] = {
    {"kuramori bucket fix assets --versioning --keep-versions 30d",
     "what is overwritten or deleted stays for 30 days"},
    {"kuramori bucket fix logs --lifecycle 90d --dry-run",
     "the rule that lets logs go after 90 days, and nothing done"},
};
constexpr Option kFixOptions[] = {
    {.name = "versioning", .metavar = "", .help = "switch versioning on"},
    {.name = "keep-versions",
     .metavar = "PERIOD",
     .help = "older versions go after so many days, not sooner: 30d"},
    {.name = "lifecycle", .metavar = "PERIOD", .help = "objects themselves go after so many days: 90d"},
    {.name = "dry-run", .metavar = "", .help = "say what would be done, change nothing"},
};

constexpr Argument kReplicated[] = {
    {"RESOURCE", "a resource of kind bucket or image", Argument::Count::kOne, Completes::kResource},
};
constexpr Example kReplicateExamples[] = {
    {"kuramori replicate assets", "until it is stopped; how far it is behind, every two seconds"},
    {"kuramori replicate assets --once --allow-deletes 5000", "one pass that may follow so many deletions"},
    {"kuramori replicate images", "what the second registry lacks, once"},
};
constexpr Option kReplicateOptions[] = {
    {.name = "once", .metavar = "", .help = "one pass, then end"},
    {.name = "allow-deletes",
     .metavar = "N",
     .help = "with --once: follow up to so many deletions, whatever the budget, even of an emptied source"},
};
constexpr ExitMeaning kReplicateExits[] = {
    {0, "all is there"},
    {1, "a pass could not be made; nothing is lost, the next one goes on"},
    {2, "wrong usage or configuration"},
    {3, "some objects or images could not be read or sent; they are named"},
    {5, "deletions are held back: more than the budget, or an emptied source"},
    {130, "interrupted"},
};

}  // namespace

constexpr Operation kBucketVersions = {
    .verb = "bucket versions",
    .summary = "what a bucket still has of its keys",
    .about =
        "Lists versions and delete markers as the bucket has them. `restore --undelete KEY` takes away the "
        "markers "
        "over a key, `restore --only KEY --version ID` makes an older version the newest again.",
    .examples = kVersionsExamples,
    .arguments = kBucketAndKey,
    .needs = Needs::kConfig,
    .schema = "kuramori/bucket/1",
};

constexpr Operation kBucketFix = {
    .verb = "bucket fix",
    .summary = "switch on what keeps a bucket's history",
    .about =
        "Changes the bucket's versioning and its lifecycle, and reads back what it did. Rules that others "
        "made stay "
        "as they are.",
    .examples = kFixExamples,
    .arguments = kBucketOnly,
    .options = kFixOptions,
    .needs = Needs::kConfig,
    .schema = "kuramori/bucket/1",
};

constexpr Operation kReplicate = {
    .verb = "replicate",
    .summary = "keep a bucket, or a registry's images, equal in a second place",
    .about =
        "Of a bucket: lists both sides and copies what differs, with metadata, tags and the order of "
        "versions, "
        "to whatever store `replicate:` names, all the time. How far the copy is behind is measured by the "
        "source's clock and told every two seconds.\n\n"
        "Deletions are followed up to a budget a day, and not at all when the source was emptied; then new "
        "objects are still copied, and the exit status says so.\n\n"
        "Of container images: sends to the registry that `replicate:` names what it lacks, once: missing "
        "blobs, "
        "manifests by digest, tags last. A tag that moved is moved; nothing is deleted. Every manifest that "
        "was "
        "sent is read back, and its digest is the same (kuramori/replicate/1).",
    .examples = kReplicateExamples,
    .arguments = kReplicated,
    .options = kReplicateOptions,
    .needs = Needs::kConfig,
    .schema = "kuramori/replication/1",
    .exits = kReplicateExits,
};

}  // namespace kuramori::operation
