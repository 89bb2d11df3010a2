// What the daemon notices, and whom it tells. One thread decides (policy/alerts.h) and writes down; one
// thread a target sends what is written down; one looks at the vaults now and then, by `kuramori status`, as
// a person would; one adds up what stores hold; one calls the heartbeat's address while all of this goes
// round.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/reporter.h"
#include "policy/config.h"

namespace kuramori {

constexpr Duration kVaultsLookedAtEvery = std::chrono::minutes(5);
// Of a vault in a store: listing it takes long where there is much, and is at most a hundredth of the time.
constexpr Duration kMeasuredEvery = std::chrono::hours(1);
constexpr Duration kMeasuredAgainAfterFailure = std::chrono::minutes(15);
constexpr Duration kMeasuringMax = std::chrono::hours(2);
constexpr int kMeasuringShare = 100;
constexpr Duration kVaultsLookedAtAfterJob = std::chrono::seconds(30);  // since the last look

struct NoticerSettings {
  std::string program;      // this one, to be run again
  std::string config_path;  // absolute
  std::string key_file;     // as it was given to the daemon
  std::string state_folder;
  std::function<Result<Config>()> load_config;
  std::function<bool()> is_well;  // the rest of the daemon goes round
};

class Noticer {
 public:
  // Begins at once. What cannot be done is told to `reporter`, from threads of its own.
  Noticer(NoticerSettings settings, Config config, Reporter& reporter);
  // Within a few seconds; what is not sent yet is the next daemon's.
  ~Noticer();

  void reload();
  bool is_alive() const;  // it went round not long ago

 private:
  class Work;
  std::shared_ptr<Work> work_;
};

}  // namespace kuramori
