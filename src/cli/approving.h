// Asks for the approval that `approvals:` wants before something is done that cannot be taken back.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "cli/context.h"
#include "cli/planning.h"
#include "engine/approvals.h"
#include "engine/snapshots.h"

namespace kuramori {

// Whether the configuration wants a second person for this act (of approved_acts()).
Result<bool> wants_approval(Context& context, std::string_view act);
// Returns when it may be done now; else kRefused, saying what to type. Nothing happens where nobody wants it.
Result<void> must_be_approved(Context& context, const VaultChoice& choice, Vault& vault,
                              const PlannedAct& planned);

// By `hold remove`, or by a review.
PlannedAct taking_hold_off(const FoundSnapshot& found, const std::string& hold);
// What `restore --overwrite` or `--delta` is about to replace, as it was typed. `to`: shown, without secrets;
// `until`: the moment it is brought back to, "" for the snapshot itself.
Result<void> replacing_must_be_approved(Context& context, const VaultChoice& choice, Vault& vault,
                                        const std::string& resource, const Snapshot& base,
                                        const std::string& to, const std::string& until);
// The same for what is done in the bucket itself; the request is kept in the resource's vault.
Result<void> change_must_be_approved(Context& context, const std::string& resource,
                                     const PlannedAct& planned);
// Of a plan that gives something up. What was applied last says who must agree: a file that asks nobody any
// more is such a plan itself.
Result<void> apply_must_be_approved(Context& context, const Planned& planned);

}  // namespace kuramori
