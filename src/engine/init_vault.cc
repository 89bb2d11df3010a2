// A vault is made: the places are tried first, then the key is durable, then the vault stands. And a second
// founding: of a ledger in place of a lost one.
#include "engine/probe_vault.h"
#include "os/file.h"

namespace kuramori {

Result<InitOutcome> init_vault(const VaultAddress& address, const std::string& name,
                               const Secret* new_passphrase) {
  TwoLocations places = split_location(address.location);
  if (!address.ledger.empty()) places.ledger = address.ledger;
  TRY(must_have_ledger(places.objects, places.ledger));
  TRY_ASSIGN(auto store, create_store(places.objects, address.store_keys.get()));
  std::unique_ptr<Store> ledger;
  if (!places.ledger.empty()) {
    TRY_ASSIGN(ledger, create_store(places.ledger, address.store_keys.get()));
  }
  TRY_ASSIGN(const bool taken, is_taken(*store));
  std::string words;
  if (!taken) {  // else it is refused below, without a trial in somebody else's place
    TRY_ASSIGN(PlacesProbe probe, probe_places(address, {.rounds = 4, .page_objects = 0}, silent_reporter()));
    if (probe.refused) return *probe.refused;
    words = probe.in_words();
  }

  InitOutcome outcome;
  TRY_ASSIGN(auto there, status_if_there(address.key_file));
  if (!there) {
    KeyBundle keys = KeyBundle::new_owner(name, system_random());
    TRY_ASSIGN(std::string text, write_bundle(keys, new_passphrase, {}, system_random()));
    TRY(make_folders(folder_of(address.key_file)));
    TRY(write_new_file(address.key_file, as_bytes(text), 0600));
    wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
    outcome.key_was_made = true;
  }
  TRY_ASSIGN(KeyBundle keys, read_bundle_file(address.key_file, address.passphrase));
  TRY_ASSIGN(outcome.vault, Vault::init(std::move(store), std::move(keys), system_clock(), system_random(),
                                        std::move(ledger), std::move(words)));
  return outcome;
}

Result<void> rebuild_ledger(Vault& vault, const VaultAddress& address) {
  TRY(must_have_ledger(address.location, address.ledger));
  TRY_ASSIGN(auto ledger, create_store(address.ledger, address.store_keys.get()));
  // A place that cannot put exactly once would let two epochs begin.
  TRY(probe_ledger(address, {.rounds = 4, .page_objects = 0}, silent_reporter()));
  return vault.rebuild_ledger(std::move(ledger));
}

}  // namespace kuramori
