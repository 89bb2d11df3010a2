// What a run of the program did, told to the audit log of each vault it opened: after its answer was printed,
// so that nobody waits for it.
#pragma once
#include "cli/context.h"
#include "engine/audit.h"

namespace kuramori {

// Of verbs that change what is protected, read what is kept, or decide who may; not of those that only look,
// nor of what a server does with each WAL segment. What cannot be recorded is told as a warning.
void record_run(Context& context, const Result<int>& status);

// Whether runs of this verb are recorded, and if they are not, why that is right. Every verb of the table is
// one or the other.
bool is_audited(std::string_view verb);
std::string_view why_not_audited(std::string_view verb);  // "" of those that are, and of what is no verb

// The act this run is, as the log will have it.
AuditAct act_of(const Context& context, const Result<int>& status);

// How long the log is kept, as `audit:` says; without it 90 days at hand and 3 years in all.
AuditKeeping audit_keeping(const Config* config);

}  // namespace kuramori
