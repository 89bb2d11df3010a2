// Snapshots in cold storage: what of them can be read now, and asking the store for the rest.
//
// Only packs lie in a cold class; records, page maps and WAL stay where they can be read at once, so that a
// vault opens, a restore is planned and this command works without thawing anything.
#pragma once
#include <stop_token>
#include <string>
#include <vector>

#include "engine/snapshots.h"
#include "store/store.h"

namespace kuramori {

constexpr int kThawDaysDefault = 7;

struct ThawRequest {
  int days = kThawDaysDefault;  // how long the readable copies stay
  Tiers::Speed speed = Tiers::Speed::kStandard;
  bool dry_run = false;
};

struct ThawOutcome {
  uint64_t packs = 0, bytes = 0;         // of the snapshot
  uint64_t cold = 0, cold_bytes = 0;     // that had to be asked for (dry run: would have to)
  uint64_t thawing = 0;                  // were on their way already
  uint64_t requests = 0;                 // made to the store (dry run: would be)
  std::vector<std::string> classes;      // cold ones met, sorted
  Duration about_least{}, about_most{};  // until all can be read, as the store's makers say; 0: all can
};

// Asks for every pack of the snapshot that is cold. kRefused: the store has no classes at all is no error:
// then all can be read.
Result<ThawOutcome> thaw_snapshot(Vault& vault, const Snapshot& snapshot, const ThawRequest& request,
                                  std::stop_token stop);

// Bytes of the vault that a restore of the whole snapshot fetches (WAL apart), and about how many requests
// that takes in a store where each read is one.
struct FetchCost {
  uint64_t bytes = 0, requests = 0;
};
Result<FetchCost> cost_of_fetching(Vault& vault, const Snapshot& snapshot);

// A copy is believed when it was read back from where it stands. What is to lie in a cold class is put
// readable (Tiers::put_readable), read back, and moved there then; so what is found cold was read back by
// whoever moved it, and only its size is looked at. `at`: the object that holds the pack. kDamaged: it is not
// what was bound.
Result<void> read_back(Store& store, const std::string& at, const LivePack& pack);
void put_readable(Store& store);

// Before a restore writes a byte: kRefused, in words, when some of the snapshot cannot be read yet. A listing
// tells the classes; only objects of a cold one are asked for one by one.
Result<void> must_be_readable(Vault& vault, const Snapshot& snapshot, std::stop_token stop);

}  // namespace kuramori
