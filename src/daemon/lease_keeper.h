// The leases of a daemon, in every vault it has jobs in: asked for, renewed while a job runs, given back. A
// thread a vault, so that one which does not answer keeps no other's jobs waiting; what they find is fetched
// by the job loop.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/lease_book.h"
#include "vault/vault.h"

namespace kuramori {

struct LeaseSettings {
  std::string holder, host;  // of this daemon; see LeaseBook
  Duration length{0};
  // By the name in the configuration; from any thread.
  std::function<Result<std::unique_ptr<Vault>>(const std::string& vault)> open;
  std::function<void()> wake;  // called when there is something to fetch; from any thread
};

struct LeaseEvent {
  enum class Kind {
    kAnswer,    // to ask()
    kTrouble,   // the vault could not be asked; the run has no lease
    kUnleased,  // this key may put no leases there: it is done without
    kLost,      // of a run that works: it must stop
  } kind = Kind::kAnswer;
  int64_t run = 0;
  LeaseAnswer answer;
  std::optional<LeaseMark> mark;  // of kAnswer that it is mine
  std::string why;
};

class LeaseKeeper {
 public:
  explicit LeaseKeeper(LeaseSettings settings);
  // What was given back is told to the vaults first, as long as they answer soon.
  ~LeaseKeeper();

  // An event follows. `job`: its id; `tag`: of the snapshot the run would make.
  void ask(const std::string& vault, const std::string& job, Time due, const std::optional<Period>& apart,
           int64_t run, const std::string& tag);
  // The run is over, or will not be done here. `stood`: the run of those tried that had done it; else "".
  void end(int64_t run, LeaseEnd end, const std::string& stood = {});
  std::vector<LeaseEvent> take_events();

 private:
  class Worker;
  struct Shared;

  std::shared_ptr<Shared> shared_;
  std::map<std::string, std::unique_ptr<Worker>> workers_;  // by vault
  std::map<int64_t, Worker*> by_run_;
};

}  // namespace kuramori
