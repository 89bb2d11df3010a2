// What the daemon shows over HTTP (docs/monitoring.md): /healthz, /metrics, and under /api/1/ what the
// command line prints with --json, to whom `listen:` of kuramori.yaml gave a token. An operator may start and
// end jobs; nothing else is changed from here.
//
// It never holds up the daemon: what has to be looked up is looked up by runs of this program
// (daemon/questions.h), and starting, stopping and configuring the listener is done by a thread of its own.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "base/reporter.h"
#include "daemon/job_loop.h"
#include "policy/config.h"

namespace kuramori {

struct WebSettings {
  std::string version;
  std::string program;       // this one, to be run again
  std::string config_path;   // absolute
  std::string key_file;      // as it was given to the daemon
  std::string state_folder;  // where the daemon's journal and its alerts are
};

class Web {
 public:
  Web(WebSettings settings, Reporter& reporter);
  ~Web();

  // From now on by this configuration: listens where it says, or nowhere. What goes wrong is told to the
  // reporter and tried again: a port that another daemon still holds becomes free.
  void use(const Config& config);
  // Whose jobs are asked about; it must outlive this.
  void set_jobs(const JobLoop* jobs);
  // To be called again and again by the daemon's own loop: what /healthz goes by.
  void still_here();

 private:
  class Site;

  void keep(std::stop_token stop);

  Reporter& reporter_;
  std::unique_ptr<Site> site_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<Config> wanted_;  // guarded by mutex_; not applied yet
  std::jthread keeper_;           // last: it uses all of them
};

}  // namespace kuramori
