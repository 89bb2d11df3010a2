// Bringing a dump back: as files, as a database under a new name, in the place of an old one, or single
// tables.
//
// A database is made under a name of its own (NAME.kuramori-new) and renamed when it is whole: nobody ever
// sees half of one, and what a killed restore leaves is found by the next and dropped. In the place of an old
// one, both are renamed in one transaction: the old one stays, whole, as NAME.old-TIME; nothing is ever
// dropped that we did not make (S12). Into a database that is there already — an empty one, or one that
// single tables are restored to — all goes in one transaction.
#pragma once
#include <stop_token>

#include "source/dump/dump.h"

namespace kuramori::dump {

Result<SourceRestoreOutcome> restore_dump(const DumpSettings& settings, const CapturedTree& tree,
                                          const SourceRestoreRequest& request, Reporter& reporter,
                                          const std::stop_token& stop);

}  // namespace kuramori::dump
