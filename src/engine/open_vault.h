// From what a person wrote — a location and a key file — to an opened vault.
#pragma once
#include <memory>
#include <string>

#include "engine/vault_location.h"
#include "vault/protocol.h"
#include "vault/vault.h"

namespace kuramori {

struct VaultAddress {
  // "/srv/vault", "file:///srv/vault", "s3://bucket/prefix?endpoint=…", "rclone:REMOTE:PATH"
  std::string location;
  std::string key_file;
  PassphraseSource passphrase;  // asked only when the key file is wrapped
  std::string ledger;           // where what is put exactly once stands; "" — with everything else
  // WAL needs no ledger: its archiving goes on whether or not that answers.
  enum class For { kEverything, kWalAlone } purpose = For::kEverything;
  // What the key file holds, where it was read before: then neither it nor a passphrase is asked for.
  std::shared_ptr<const KeyBundle> keys;
  std::shared_ptr<const StoreKeys> store_keys;  // for both places, where their locations do not tell
};

// "LOCATION&ledger=LOCATION" in its two places; the second is "" where there is one.
struct TwoLocations {
  std::string objects, ledger;
};
TwoLocations split_location(const std::string& location);
// A place that promises less than a store does (store/rclone): what must be put exactly once stands
// elsewhere.
bool is_degraded(const std::string& location);
// kUsage in words where `objects` are in such a place and `ledger` is not elsewhere.
Result<void> must_have_ledger(const std::string& objects, const std::string& ledger);
// The store at a location; kUsage for one this program cannot use.
Result<std::unique_ptr<Store>> open_store(const std::string& location, const StoreKeys* keys = nullptr);
// The same for a vault that is to be made: a folder is made, a bucket must be there.
Result<std::unique_ptr<Store>> create_store(const std::string& location, const StoreKeys* keys = nullptr);
Result<std::unique_ptr<Vault>> open_vault(const VaultAddress& address);

struct InitOutcome {
  std::unique_ptr<Vault> vault;
  bool key_was_made = false;
};
// Probes the places (engine/probe.h): where no vault can stand, none is made. Makes the key file (0600) if it
// is absent, never overwrites one; then the vault. The key is durable first: a vault without a key would be
// lost, a key without a vault is nothing.
Result<InitOutcome> init_vault(const VaultAddress& address, const std::string& name,
                               const Secret* new_passphrase);

// Founds a new ledger at `address.ledger`, in place of one that was lost; the place is probed first. The
// owner's to do: whoever still uses the old one must have stopped, or what they do from now on is void.
Result<void> rebuild_ledger(Vault& vault, const VaultAddress& address);

// The actor this process is in the safety protocol. Borrows the vault.
Protocol protocol_of(Vault& vault);
std::string host_name();

}  // namespace kuramori
