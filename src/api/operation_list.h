// The entries of the table, a file a group. operations.cc says which of them work.
#pragma once
#include "api/operations.h"

namespace kuramori::operation {

// What a run may take of what it shares with others; docs/postgres.md says what each means.
constexpr Option kLimitReadSource = {
    .name = "limit-read", .metavar = "RATE", .help = "read the server's files no faster: 100MiB/s"};
constexpr Option kLimitReadVault = {
    .name = "limit-read", .metavar = "RATE", .help = "read the vault no faster: 100MiB/s"};
constexpr Option kLimitNetwork = {.name = "limit-network",
                                  .metavar = "RATE",
                                  .help = "to and from stores that are no folders, together: 20MiB/s"};
constexpr Option kLimitCpu = {
    .name = "limit-cpu", .metavar = "SHARE", .help = "of processors: 50% of one, 250% of several"};
constexpr Option kNice = {.name = "nice", .metavar = "N", .help = "behind others at the processor: 0 to 19"};
constexpr Option kIo = {.name = "io",
                        .metavar = "CLASS",
                        .help = "behind others at the disk: idle, best-effort:0 to best-effort:7"};

extern const Operation kDoctor, kLint, kDocs, kResources, kVersion, kCompletion, kHelp;  // general
extern const Operation kVaultProbe;
extern const Operation kVaultInit, kVaultList, kVaultShow, kVaultScrub, kVaultCollect, kVaultDisown;  // vault
extern const Operation kVaultKeyNew, kVaultKeyList, kVaultKeyRewrap, kVaultKeyRevoke, kVaultPolicy,
    kVaultKit;  // keys
extern const Operation kBackup, kWatch, kStatus, kSnapshots, kShow, kDiff, kWindow, kPrune, kHoldAdd,
    kHoldRemove, kExtend,
    kThaw;                                                       // snapshot
extern const Operation kCopy, kVaultLedgerNew;                   // copy
extern const Operation kReplicate, kBucketVersions, kBucketFix;  // bucket
extern const Operation kRestore, kMount, kDrill;                 // restore
extern const Operation kJobs, kTokenNew, kTop;
extern const Operation kAlerts, kAck, kNotifyTest;  // alert
extern const Operation kInit, kPlan, kApply;
extern const Operation kSimulate, kReview;
extern const Operation kAudit, kReport, kCompliance, kApprove;           // accounting
extern const Operation kServe, kWalPush, kWalGet, kWalStream, kWalShow;  // wal

}  // namespace kuramori::operation
