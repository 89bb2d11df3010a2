// The vaults a daemon serves: opened once, kept open, opened anew after trouble. Which of them a request is
// about is decided as the command line decides it (cli/wal_verbs.cc).
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "conc/guarded.h"
#include "daemon/wal_protocol.h"

namespace kuramori {

struct ServedVault {
  std::string name;                   // of the configuration, "" when a location was given
  std::string location, key_file;     // as a client would name them: absolute
  std::vector<std::string> archives;  // resources whose plans archive into it
  std::function<Result<std::unique_ptr<Vault>>()> open;
};

// Whose signatures count is looked up once while a vault is open: so long at most.
constexpr Duration kVaultOpenMax = std::chrono::seconds(60);

class ServedVaults {
 public:
  // `config`: the file they come from, absolute; "" when there is none.
  ServedVaults(std::vector<ServedVault> vaults, std::string config) : config_(std::move(config)) {
    replace(std::move(vaults));
  }

  // From now on these. Those that are the same stay open; whoever has the number of one that is gone may
  // finish.
  void replace(std::vector<ServedVault> vaults);
  size_t count() const;  // all that ever were
  const ServedVault& vault(size_t index) const;
  Result<std::shared_ptr<Vault>> open(size_t index);
  // After an error that a fresh look may mend: the next open() is a new one. Who still holds it may go on.
  void let_go(size_t index, const std::shared_ptr<Vault>& vault);

  // The candidates for a request, in the order to try; empty: none is served here. More than one: the one
  // that knows the server.
  std::vector<size_t> candidates(const WalRequest& request) const;

 private:
  struct Opened {
    std::shared_ptr<Vault> vault;
    Duration since{0};
    std::optional<std::pair<uint64_t, uint64_t>> folder;  // device and inode of the folder it was opened in
  };
  struct Slot {
    explicit Slot(ServedVault served) : vault(std::move(served)) {}
    const ServedVault vault;
    Guarded<Opened> opened;
    bool gone = false;  // with mutex_ held
  };
  Slot& slot(size_t index) const;

  mutable std::mutex mutex_;
  mutable std::deque<Slot> slots_;  // only grows: a slot stays where it is
  std::string config_;
};

}  // namespace kuramori
