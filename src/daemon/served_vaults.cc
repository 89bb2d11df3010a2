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

void ServedVaults::replace(std::vector<ServedVault> vaults) {
  std::lock_guard lock(mutex_);
  auto same = [](const ServedVault& a, const ServedVault& b) {
    return a.name == b.name && a.location == b.location && a.key_file == b.key_file &&
           a.archives == b.archives;
  };
  for (Slot& slot : slots_)
    slot.gone = slot.gone ||
                std::ranges::none_of(vaults, [&](const ServedVault& one) { return same(one, slot.vault); });
  for (ServedVault& one : vaults) {
    const bool is_there =
        std::ranges::any_of(slots_, [&](const Slot& slot) { return !slot.gone && same(one, slot.vault); });
    if (!is_there) slots_.emplace_back(std::move(one));
  }
}

size_t ServedVaults::count() const {
  std::lock_guard lock(mutex_);
  return slots_.size();
}

ServedVaults::Slot& ServedVaults::slot(size_t index) const {
  std::lock_guard lock(mutex_);
  return slots_[index];
}

const ServedVault& ServedVaults::vault(size_t index) const {
  return slot(index).vault;
}

Result<std::shared_ptr<Vault>> ServedVaults::open(size_t index) {
  Slot& one = slot(index);
  // Under the lock of this vault alone: several requests wait for one opening, and not for another vault's.
  auto opened = one.opened.lock();
  // An open folder stays usable after it was moved away, unmounted or replaced: what is stored there, nobody
  // would find.
  const auto folder = folder_at(one.vault.location);
  const Duration now = system_clock().steady();
  if (opened->vault && opened->folder == folder && now - opened->since < kVaultOpenMax) return opened->vault;
  opened->vault.reset();
  TRY_ASSIGN(std::unique_ptr<Vault> anew, one.vault.open());
  opened->vault = std::move(anew);
  opened->folder = folder;
  opened->since = now;
  return opened->vault;
}

void ServedVaults::let_go(size_t index, const std::shared_ptr<Vault>& vault) {
  auto opened = slot(index).opened.lock();
  if (opened->vault == vault) opened->vault.reset();
}

std::vector<size_t> ServedVaults::candidates(const WalRequest& request) const {
  std::vector<size_t> all, named, of_resource, archiving;
  if (!request.config.empty() && request.config != config_) return {};
  std::lock_guard lock(mutex_);
  size_t served = 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].gone) continue;
    ++served;
    const ServedVault& vault = slots_[i].vault;
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
  return all.size() == 1 && served == 1 ? all : std::vector<size_t>{};
}

}  // namespace kuramori
