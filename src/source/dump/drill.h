// Proving a dump: a cluster of its own, made new, on a Unix socket and without a network; into it the roles
// of globals.sql and the dump; then what it holds is compared with what was counted when the dump was taken
// (L5).
#pragma once
#include <stop_token>

#include "source/dump/dump.h"

namespace kuramori::dump {

Result<std::vector<CheckResult>> drill_dump(const DumpSettings& settings, const CapturedTree& tree,
                                            Reporter& reporter, const std::stop_token& stop);

}  // namespace kuramori::dump
