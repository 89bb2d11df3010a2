// The audit log as the program keeps it: whose act it was is found out here, what could not be put is put by
// the next run, and this machine remembers what it saw. The chains themselves: vault/audit_log.h.
#pragma once
#include "base/reporter.h"
#include "vault/audit_log.h"

namespace kuramori {

// Puts the act into the vault's log, with this host and the user of the operating system. It never fails what
// was done: an act that cannot be put (a vault that may only be read, a store that is away) is kept on this
// machine, told of as a warning, and put by the next run that can. `tie`: the record also binds the heads of
// all other chains.
enum class Tie { kNo, kOtherChains };
void record_act(Vault& vault, AuditAct act, Tie tie, Reporter& reporter);
// The same when not even the vault could be reached again.
void keep_act(const VaultId& vault, AuditAct act, Time when, const Error& why, Reporter& reporter);

struct AuditLook {
  AuditReading reading;
  size_t pending = 0;          // acts of this machine that are not there yet
  size_t remembered = 0;       // heads that it was held against
  std::string not_remembered;  // why this machine remembers nothing; "" where it does
};
// Reads and verifies the log, held also against what this machine saw before; where it holds, what is there
// now is remembered.
Result<AuditLook> look_at_audit(Vault& vault);

}  // namespace kuramori
