// A store that fails on purpose, around any other: what disks, networks and object stores do on bad days.
// Only tests make one; wrap_for_fault_tests alone is called by the program, and does nothing unless the
// environment asks.
#pragma once
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "store/store.h"

namespace kuramori {

enum class StoreCall { kPut, kCreate, kAppend, kCommit, kOpen, kRead, kGet, kHead, kList, kRemove };

// What happens to one call. One that does not fit the call (a torn list) leaves it alone.
enum class Fault {
  kNone,
  kKillBefore,     // the plan's `kill` is called, then (if it returns) the call is done
  kKillAfter,      // the call is done, then `kill`
  kFail,           // kFailed; nothing was done
  kUnknownUndone,  // put, commit, remove: kUnknown; nothing was done
  kUnknownDone,    // put, commit, remove: kUnknown; it was done
  kDelay,          // put, commit, remove: kUnknown; lands some calls later, perhaps twice, in any order
  kLie,            // put, commit, remove: success; nothing was done
  kTear,           // put, commit: success; the object lacks its end
  kFlipBit,        // put, commit, read, get: one bit differs
  kNoSpace,        // put, create, append, commit: kNoSpace; nothing was done
  kDenied,         // remove: kDenied (retained)
  kTruncateList,   // list: half of the page, and `more` is false
};

struct FaultPlan {
  // Called for every call, in order, with its number from 1. Must be thread-safe if the store is so used.
  std::function<Fault(uint64_t number, StoreCall call, std::string_view name)> choose;
  std::function<void()> kill;      // default: SIGKILL to this process
  uint64_t seed = 1;               // which bit, where torn, when a delayed effect lands
  uint64_t delay_calls_max = 50;   // a delayed effect lands 1 to this many calls later
  uint32_t delay_repeats_max = 2;  // and again up to this many times
};

FaultPlan fault_at_call(uint64_t number, Fault fault);
// Each call meets, with this chance, one of `faults`.
FaultPlan random_faults(uint64_t seed, double chance, std::vector<Fault> faults);

class FaultyStore : public Store {
 public:
  virtual uint64_t calls() const = 0;   // so far, of all kinds
  virtual uint64_t faults() const = 0;  // of these, how many met one
  virtual void land_all_delayed() = 0;  // whatever is still on its way arrives now
  virtual void set_plan(FaultPlan plan) = 0;
};

// Objects are gathered in memory on their way in. `inner` must outlive the store.
std::unique_ptr<FaultyStore> make_faulty_store(Store& inner, FaultPlan plan);

// For tests on a real process. All stores of the process count together, from 1:
//   KURAMORI_TEST_KILL_AT_STORE_CALL=N            SIGKILL just before the N-th store call
//   KURAMORI_TEST_KILL_AT_STORE_CALL_AFTER=1      just after it instead
//   KURAMORI_TEST_STOP_AT_STORE_CALL=N            SIGSTOP just before the N-th; SIGCONT lets it go on
//   KURAMORI_TEST_COUNT_STORE_CALLS=FILE          at exit, the number of calls made goes to FILE
// Without these variables the store comes back as it is.
std::unique_ptr<Store> wrap_for_fault_tests(std::unique_ptr<Store> store);

}  // namespace kuramori
