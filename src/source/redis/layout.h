// A snapshot as files of a folder again, and what they hold: what restores and drills begin with.
#pragma once
#include <string>

#include "source/redis/private_server.h"
#include "source/redis/rdb.h"
#include "source/source.h"

namespace kuramori::redis {

struct Layout {
  bool aof = false;     // appendonlydir, else dump.rdb
  RdbSummary rdb;       // of dump.rdb, or of the base of the append-only files
  int rdb_version = 0;  // what must be read; 0: none (append-only files without an RDB)
  Flavour flavour = Flavour::kRedis;
  int64_t read_at_ms = 0;  // since 1970: RdbSummary's `expired` are those before
  uint64_t entries = 0, bytes = 0;
};

// Writes the tree's files below `folder`, which is there, and reads them in passing. kDamaged: the RDB is not
// whole. kRefused: the tree is none of a Redis.
Result<Layout> lay_out(const CapturedTree& tree, const std::string& folder, Reporter& reporter,
                       std::stop_token stop);

// The same counts with another moment for what has expired, from the file that lay_out wrote.
Result<RdbSummary> count_again(const std::string& folder, int64_t now_ms);

// Milliseconds since 1970.
int64_t now_ms();

// Keys of every database; of no database there is no entry.
Result<std::map<uint64_t, uint64_t>> count_keys(Connection& connection);

}  // namespace kuramori::redis
