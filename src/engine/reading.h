// Sessions of those who read a snapshot: they keep it from being collected meanwhile.
#pragma once
#include <string>
#include <vector>

#include "base/reporter.h"
#include "vault/ledger.h"
#include "vault/long_reading.h"
#include "vault/vault.h"

namespace kuramori {

// What a reader on this machine says of itself. Where its key may not say so it reads all the same: what is
// collected meanwhile is told in words, never given by half.
ReaderOptions reader_of(const ResourceId& resource, std::vector<std::string> commits);

// A session that stands for as long as the snapshot is read, however long; a renewal that fails is warned of.
// `protocol` and `reporter` outlive it.
Result<RenewedReading> read_for_long(const Protocol& protocol, const Snapshot& snapshot, Reporter& reporter);

}  // namespace kuramori
