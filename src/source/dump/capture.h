// Taking a dump. One transaction of ours is the moment of everything (S13):
//
//   1. Every table is locked as pg_dump will (ACCESS SHARE), *then* the transaction's snapshot is taken and
//      exported. The other way round, as pg_dump alone does it, a TRUNCATE or ALTER in between is neither in
//      the snapshot nor out of it: two tables would be of two moments.
//   2. Under that snapshot: what the database is and needs (facts.h), and the rows of each table.
//   3. pg_dump imports the snapshot, takes its own locks, and writes to us, uncompressed: the vault
//   compresses, and finds again what
//      did not change. Until it has its locks, one who waits for ours (a TRUNCATE) stands before it in the
//      queue: each would wait for ever for the other, so then it all begins anew. Roles and tablespaces come
//      from pg_dumpall; they belong to no snapshot.
#pragma once
#include <memory>
#include <stop_token>

#include "source/dump/dump.h"

namespace kuramori::dump {

constexpr int kLockAttemptsMax = 20;  // tables may come and go while they are locked

Result<std::unique_ptr<TreeCapture>> begin_capture(const DumpSettings& settings, Reporter& reporter,
                                                   std::stop_token stop);

}  // namespace kuramori::dump
