// --at --lsn --xid --name --latest --exclusive --timeline, as typed, to what the planner understands.
#pragma once
#include <string>

#include "cli/context.h"
#include "source/postgres/target.h"

namespace kuramori {

struct TypedTarget {
  postgres::TargetRequest request;
  std::string text;  // for people and proofs: "2026-02-10T18:00:00Z", "latest", "0/3000148"; "" for the
                     // snapshot itself
};
// At most one target may be given. --at without a zone takes the one of the resource's plan, and says so.
Result<TypedTarget> read_target(Context& context, const std::string& resource);

}  // namespace kuramori
