// The daemon's jobs: one thread that owns what is due, runs and waits (policy/scheduling.h decides), and
// keeps the streams that plans ask for alive. Each job is a process of its own, running what a person would
// type.
//
// No job twice, none forgotten, whenever the daemon is killed: what is to happen stands in the journal before
// it happens; jobs die with the daemon; and of a backup that ran then, the vault is asked whether it
// succeeded before it is started again: each snapshot carries the number of the run that made it.
//
// Several daemons with the same plans share them by leases in the vaults (lease_book.h): each knows of every
// run, and asks for its lease before it starts it. What another does is waited for, and taken over should
// that never end.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "base/reporter.h"
#include "policy/config.h"
#include "vault/vault.h"

namespace kuramori {

constexpr const char* kRunTag = "kuramori-run";  // of a snapshot: which run of which journal made it

struct JobLoopSettings {
  std::string program;       // this one, to be run again
  std::string config_path;   // absolute
  std::string key_file;      // as it was given to the daemon; "" where the configuration says it
  std::string state_folder;  // of the journal
  std::function<Result<Config>()> load_config;  // anew, when asked to
  // Somebody applied a configuration: whoever holds the loop is to have all of the daemon read it, the loop
  // by reload(). From the loop's thread. None: the loop reads it by itself.
  std::function<void()> applied = {};
  // A vault by its name in the configuration, for leases; from any thread. None: what other daemons do is not
  // asked.
  std::function<Result<std::unique_ptr<Vault>>(const std::string& vault)> open_vault;
  Duration stop_within;  // for jobs that run when a stop is asked for; then they are ended
  // For a vault to say whether a run that ended without telling made its snapshot; then it is asked again, as
  // a try that failed. What a job itself takes, its plan bounds (completion_window).
  Duration answer_within = std::chrono::minutes(10);
};

// What of a configuration is run by a daemon: streams by name, and the words of their command line.
std::map<std::string, std::vector<std::string>> streams_of(const Config& config);
bool has_work(const Config& config);

class JobLoop {
 public:
  // Begins at once. What cannot be done is told to `reporter`, from the loop's own thread.
  JobLoop(JobLoopSettings settings, Config config, Reporter& reporter);
  // Asks it to stop and waits until it has: at most `stop_within` and a few seconds.
  ~JobLoop();

  void stop();    // no job is started from now on
  void reload();  // the configuration is read anew; if it is wrong, the old one stays
  // The loop went round not long ago: what a watchdog asks.
  bool is_alive() const;
  Duration quiet_for() const;  // since it last went round

  struct Facts {
    bool has_journal = false;             // its file can be read by others
    bool is_written_down = true;          // what happens; without that nothing is started
    std::map<std::string, bool> streams;  // by name: whether it runs at this moment
  };
  Facts facts() const;  // never waits for the loop

 private:
  class Loop;

  std::unique_ptr<Loop> loop_;
  std::jthread thread_;
};

}  // namespace kuramori
