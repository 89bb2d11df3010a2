// Two places, and which ledger is in force.
//
// Some stores honour a conditional put only where objects cannot be versioned or locked. A vault there has
// two places: the *objects* — everything that is large or must last — and a small *ledger* for what must be
// put exactly once: sessions, commits, prunes, collections, under `<epoch>/`. What the ledger decides is
// written to the objects too, under the same name and with the same bytes, before anybody counts on it; so
// reading needs the objects alone, and a lost ledger is founded anew from them.
//
// An old ledger may still be written to by somebody who does not know that it was replaced. Therefore:
//   E1 the owner puts epochs/<e+1>/begin.<token> into the objects;
//   E2 *then* lists what the objects hold of epoch e, and that nobody else began e+1;
//   E3 puts epochs/<e+1>/seal — exactly that — into the new ledger, and mirrors it;
//   E4 only then is there work in e+1.
// Whoever decides something in epoch e mirrors it and *then* looks for a newer epoch: seeing none, what was
// mirrored is in any later seal. What a seal does not list is void for ever, whoever mirrors it later.
//
// The objects ignore conditions, so a begin has a name of its own: of two owners who found at once, at least
// one sees the other and stops; a begin that lands late overwrites nothing.
#pragma once
#include <memory>

#include "vault/ledger.h"

namespace kuramori {

// kRefused: `what` needs the ledger, and the objects alone are at hand.
Error without_ledger(std::string_view what);

// Whose word founds a ledger: the owner's.
using MayFound = std::function<bool(const SignerId&)>;

// What stands under epochs/ of one place; 0: nothing.
struct EpochNumbers {
  uint64_t begun = 0, sealed = 0;
  std::vector<std::string> begins;  // of the newest
};
Result<EpochNumbers> list_epochs(const RecordLog& place);

// The epoch to work in. `objects.epoch` is not looked at. Nothing: the vault has one place. Without a ledger
// the epoch is good for reading alone. kRefused: the ledger is empty, older than the vault, or there should
// be none; kDamaged: it belongs to another vault, or cannot be verified.
Result<std::unique_ptr<Epoch>> open_epoch(const Protocol& objects, Store* ledger, const MayFound& may_found);

// E1 to E3: founds a ledger — the first, or a new one in place of a lost one.
Result<std::unique_ptr<Epoch>> found_epoch(const Protocol& objects, Store& ledger, const MayFound& may_found);

// kRefused: a newer ledger was begun; what was just done here may never be seen. To be asked after mirroring,
// before success is told and before anything is deleted.
Result<void> must_be_in_force(const RecordLog& log);

}  // namespace kuramori
