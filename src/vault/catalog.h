// Writes the catalog: the small records of a vault in one object, so that the next one who opens it need not
// read each (vault/overview.h, which reads it, says why nobody has to believe it).
//
// A keeper or owner writes a new one when a collection is done and enough has come since the last; what
// writers put after it is read where it stands. Each has a name of its own, so nobody waits for anybody, and
// a crash leaves either the old one or both. Older ones are removed but for one: who has just listed may be
// about to read it.
#pragma once
#include "vault/overview.h"

namespace kuramori {

constexpr size_t kCatalogWorthRecords = 8;  // not in the catalog before a new one is worth a put
// Of records in one object; where there are more, the newest catalog names those that it goes on in. Ten
// thousand snapshots take one.
constexpr size_t kCatalogPartBytes = size_t{12} << 20;
// Of records in all of them. What does not fit is read where it stands.
constexpr size_t kCatalogBytesMax = size_t{256} << 20;

constexpr uint64_t kCatalogNumberMax = 9'999'999'998;  // ten digits, and one to spare

struct CatalogReport {
  uint64_t number = 0;  // of the one in use now; 0: none is
  bool written = false;
  size_t records = 0;  // in what was written
  size_t removed = 0;  // older catalogs, and what was none
};

// Everything it holds was read and verified by this process; a catalog's word is never handed on.
Result<CatalogReport> refresh_catalog(const Protocol& protocol, const Signers& signers);

}  // namespace kuramori
