// Copying an opened vault into another that may not be there; for `copy`, and for `backup --copy`.
#pragma once
#include <map>
#include <string>

#include "base/json_writer.h"
#include "cli/vault_access.h"
#include "engine/copy.h"

namespace kuramori {

// "" is every resource. An error where the second vault is not there says how old the last whole copy is.
Result<CopyOutcome> copy_into(Context& context, Vault& source, const VaultChoice& to,
                              const std::string& resource, CopyRequest::Mode mode);
// The same with the second vault open, or the error of its opening.
Result<CopyOutcome> copy_between(Context& context, Vault& source, const Result<Vault*>& replica,
                                 const VaultChoice& to, const std::string& resource, CopyRequest::Mode mode);

// "nothing is missing"; "2 snapshots and 9 WAL objects are missing, 1.2 GiB, the oldest 3h old".
std::string shown_lag(const CopyLag& lag, Time now);
// "copied 1 snapshots and 3 WAL objects, …".
std::string shown_copy(const CopyOutcome& outcome, Time now);
// The fields of a copy, into an open object.
void write_copy(JsonWriter& json, const CopyOutcome& outcome, Time now);
// Whether the second vault has everything that the first had when the copy began.
bool is_whole(const CopyOutcome& outcome);

}  // namespace kuramori
