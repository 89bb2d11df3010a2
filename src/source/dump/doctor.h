// What is wrong or risky about a database that is to be dumped, before it is.
#pragma once
#include "source/dump/dump.h"

namespace kuramori::dump {

Result<std::vector<SourceFinding>> examine(const DumpSettings& settings);
// By the server's version; where it does not answer, whatever is here.
std::vector<SourceClient> needed_clients(const DumpSettings& settings);

}  // namespace kuramori::dump
