#include "daemon/served_vaults.h"

#include <algorithm>

#include "os/file.h"

namespace kuramori {

namespace {

// Which folder stands at a location now; nothing for what is no folder of this machine.
std::optional<std::pair<uint64_t, uint64_t>> folder_at(const std::string& location) {
  if (!location.starts_with('/')) return {};
  auto status = status_if_there(location.substr(0, location.find('&')));
  if (!status || !*status) return {};
  return std::pair((*status)->device, (*status)->inode);
}

}  // namespace

Result<std::shared_ptr<Vault>> ServedVaults::open(size_t index) {
  // Under the lock of this vault alone: several requests wait for one opening, and not for another vault's.
  auto slot = open_[index].opened.lock();
  // An open folder stays usable after it was moved away, unmounted or replaced: what is stored there, nobody
  // would find.
  const auto folder = folder_at(vaults_[index].location);
  const Duration now = system_clock().steady();
  if (slot->vault && slot->folder == folder && now - slot->since < kVaultOpenMax) return slot->vault;
  slot->vault.reset();
  TRY_ASSIGN(std::unique_ptr<Vault> opened, vaults_[index].open());
  slot->vault = std::move(opened);
  slot->folder = folder;
  slot->since = now;
  return slot->vault;
}

void ServedVaults::let_go(size_t index, const std::shared_ptr<Vault>& vault) {
  auto slot = open_[index].opened.lock();
  if (slot->vault == vault) slot->vault.reset();
}

std::vector<size_t> ServedVaults::candidates(const WalRequest& request) const {
  std::vector<size_t> all, named, of_resource, archiving;
  if (!request.config.empty() && request.config != config_) return {};
  for (size_t i = 0; i < vaults_.size(); ++i) {
    const ServedVault& vault = vaults_[i];
    // Another key than this daemon's: what it is to sign, or may read, is for its holder to do.
    if (!request.key_file.empty() && request.key_file != vault.key_file) continue;
    all.push_back(i);
    if (!request.vault.empty() && (request.vault == vault.location || request.vault == vault.name))
      named.push_back(i);
    if (!vault.archives.empty()) archiving.push_back(i);
    if (std::ranges::find(vault.archives, request.resource) != vault.archives.end()) of_resource.push_back(i);
  }
  if (!request.vault.empty()) return named.size() == 1 ? named : std::vector<size_t>{};
  if (!of_resource.empty()) return {of_resource.front()};
  if (request.verb == WalVerb::kPush && request.resource.empty() && !archiving.empty()) return archiving;
  return all.size() == 1 && vaults_.size() == 1 ? all : std::vector<size_t>{};
}

}  // namespace kuramori
