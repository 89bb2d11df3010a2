#include "api/operations.h"

#include "api/guard_operation.h"
#include "api/operation_list.h"

namespace kuramori {
namespace {

// What works, and nothing else.
constexpr const Operation* kListed[] = {
    &operation::kLint,           &operation::kInit,
    &operation::kPlan,           &operation::kApply,
    &operation::kDocs,           &operation::kDoctor,
    &operation::kResources,      &operation::kBackup,
    &operation::kStatus,         &operation::kTop,
    &operation::kWatch,          &operation::kSnapshots,
    &operation::kShow,           &operation::kDiff,
    &operation::kWindow,         &operation::kCopy,
    &operation::kRestore,        &operation::kMount,
    &operation::kDrill,          &operation::kPrune,
    &operation::kHoldAdd,        &operation::kSimulate,
    &operation::kReview,         &operation::kGuard,
    &operation::kHoldRemove,     &operation::kExtend,
    &operation::kThaw,           &operation::kReplicate,
    &operation::kBucketVersions, &operation::kBucketFix,
    &operation::kServe,          &operation::kJobs,
    &operation::kAudit,          &operation::kReport,
    &operation::kCompliance,     &operation::kApprove,
    &operation::kAlerts,         &operation::kAck,
    &operation::kNotifyTest,     &operation::kTokenNew,
    &operation::kWalPush,        &operation::kWalGet,
    &operation::kWalStream,      &operation::kWalShow,
    &operation::kVaultProbe,     &operation::kVaultInit,
    &operation::kVaultList,      &operation::kVaultShow,
    &operation::kVaultScrub,     &operation::kVaultCollect,
    &operation::kVaultLedgerNew, &operation::kVaultDisown,
    &operation::kVaultKeyNew,    &operation::kVaultKeyList,
    &operation::kVaultKeyRewrap, &operation::kVaultKeyRevoke,
    &operation::kVaultPolicy,    &operation::kVaultKit,
    &operation::kVersion,        &operation::kCompletion,
    &operation::kHelp,
};

constexpr Option kGlobalOptions[] = {
    {.name = "config",
     .metavar = "FILE",
     .help = "the configuration (default: ./kuramori.yaml, then /etc/kuramori/kuramori.yaml)",
     .completes = Completes::kFile},
    {.name = "vault",
     .metavar = "VAULT",
     .help = "a configured name, or a location: /path, file://…, s3://bucket/prefix",
     .completes = Completes::kVault},
    {.name = "key-file",
     .metavar = "FILE",
     .help = "the vault's key (or KURAMORI_KEY_FILE); with --vault LOCATION no configuration is read",
     .completes = Completes::kFile},
    {.name = "json", .metavar = "", .help = "one JSON document, or one JSON object a line for what streams"},
    {.name = "quiet", .metavar = "", .help = "only results and errors"},
    {.name = "verbose", .metavar = "", .help = "say more about what is done"},
    {.name = "yes", .metavar = "", .help = "answer every question with yes"},
    {.name = "help", .metavar = "", .help = "explain the command"},
};

constexpr ExitMeaning kExitMeanings[] = {
    {0, "done"},
    {1, "failed, nothing lost"},
    {2, "wrong usage or configuration, wrong or damaged key"},
    {3, "done in part; what is missing is named"},
    {4, "a promise is broken: a proof failed, damage was found"},
    {5, "refused for safety"},
    {130, "interrupted"},
};

}  // namespace

std::span<const Operation* const> operations() {
  return kListed;
}

const Operation* find_operation(std::string_view verb) {
  for (const Operation* operation : kListed)
    if (operation->verb == verb) return operation;
  return nullptr;
}

std::span<const Option> global_options() {
  return kGlobalOptions;
}

std::span<const ExitMeaning> exit_meanings() {
  return kExitMeanings;
}

}  // namespace kuramori
