// The entries of the table, a file a group. operations.cc says which of them work.
#pragma once
#include "api/operations.h"

namespace kuramori::operation {

extern const Operation kDoctor, kResources, kVersion, kCompletion, kHelp;  // general
extern const Operation kVaultProbe;
extern const Operation kVaultInit, kVaultList, kVaultShow, kVaultScrub, kVaultCollect, kVaultDisown;  // vault
extern const Operation kVaultKeyNew, kVaultKeyList, kVaultKeyRewrap, kVaultKeyRevoke, kVaultPolicy,
    kVaultKit;  // keys
extern const Operation kBackup, kSnapshots, kShow, kWindow, kPrune, kHoldAdd, kHoldRemove, kExtend,
    kThaw;                                                               // snapshot
extern const Operation kCopy, kVaultLedgerNew;                           // copy
extern const Operation kRestore, kDrill;                                 // restore
extern const Operation kServe, kWalPush, kWalGet, kWalStream, kWalShow;  // wal

}  // namespace kuramori::operation
