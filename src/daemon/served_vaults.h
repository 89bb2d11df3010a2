// The vaults a daemon serves: opened once, kept open, opened anew after trouble. Which of them a request is
// about is decided as the command line decides it (cli/wal_verbs.cc).
#pragma once
#include <functional>
#include <memory>
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
  ServedVaults(std::vector<ServedVault> vaults, std::string config)
      : vaults_(std::move(vaults)), open_(vaults_.size()), config_(std::move(config)) {}

  size_t count() const { return vaults_.size(); }
  const ServedVault& vault(size_t index) const { return vaults_[index]; }
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
    Guarded<Opened> opened;
  };
  std::vector<ServedVault> vaults_;
  std::vector<Slot> open_;
  std::string config_;
};

}  // namespace kuramori
