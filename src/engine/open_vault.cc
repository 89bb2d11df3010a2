#include "engine/open_vault.h"

#include <fmt/core.h>
#include <unistd.h>

#include "os/file.h"
#include "store/fault.h"
#include "store/local/local_store.h"

namespace kuramori {
namespace {

constexpr std::string_view kFileScheme = "file://";

Result<std::string> folder_of_location(const std::string& location) {
  std::string path = location;
  if (path.starts_with(kFileScheme)) path = path.substr(kFileScheme.size());
  if (!path.starts_with('/')) {
    return fail(ErrorKind::kUsage,
                fmt::format("\"{}\" is no place for a vault that this program can use", location),
                "it knows folders: an absolute path, or file:///path", "give --vault /path/to/vault");
  }
  return path;
}

}  // namespace

Result<std::unique_ptr<Store>> open_store(const std::string& location) {
  TRY_ASSIGN(std::string path, folder_of_location(location));
  auto store = open_local_store(path);
  if (!store) {
    if (store.error().kind != ErrorKind::kNotFound) return store;
    return fail(ErrorKind::kNotFound, fmt::format("there is no vault at {}", location),
                "the folder does not exist", "check the location, or make one: kuramori vault init NAME");
  }
  return wrap_for_fault_tests(std::move(*store));
}

Result<std::unique_ptr<Vault>> open_vault(const VaultAddress& address) {
  // The key first: a wrong one is told before anything is touched.
  TRY_ASSIGN(KeyBundle keys, read_bundle_file(address.key_file, address.passphrase));
  TRY_ASSIGN(auto store, open_store(address.location));
  return Vault::open(std::move(store), std::move(keys), system_clock(), system_random());
}

Result<InitOutcome> init_vault(const VaultAddress& address, const std::string& name,
                               const Secret* new_passphrase) {
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
  TRY_ASSIGN(std::string path, folder_of_location(address.location));
  TRY_ASSIGN(auto store, create_local_store(path));
  TRY_ASSIGN(outcome.vault, Vault::init(wrap_for_fault_tests(std::move(store)), std::move(keys),
                                        system_clock(), system_random()));
  return outcome;
}

Protocol protocol_of(Vault& vault) {
  return Protocol{
      .store = vault.store(),
      .codec = vault.codec(),
      .clock = vault.clock(),
      .random = vault.random(),
      .self = signer_id(vault.keys().signing->verify_key()),
      .may_delete = [&vault](const SignerId& signer) { return vault.codec().may_delete(signer); },
      .may_commit = [&vault](const SignerId& signer) { return vault.codec().may_commit(signer); }};
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

}  // namespace kuramori
