#include "engine/open_vault.h"

#include <fmt/core.h>
#include <unistd.h>

#include "engine/open_rclone.h"
#include "engine/open_s3.h"
#include "os/file.h"
#include "store/fault.h"
#include "store/limited.h"
#include "store/local/local_store.h"
#include "store/prefetch.h"
#include "store/read_ahead.h"

namespace kuramori {
namespace {

constexpr std::string_view kFileScheme = "file://";
constexpr std::string_view kS3Scheme = "s3://";
constexpr std::string_view kRcloneScheme = "rclone:";
constexpr std::string_view kLedgerPart = "&ledger=";

Result<std::string> folder_of_location(const std::string& location) {
  std::string path = location;
  if (path.starts_with(kFileScheme)) path = path.substr(kFileScheme.size());
  if (!path.starts_with('/')) {
    return fail(ErrorKind::kUsage,
                fmt::format("\"{}\" is no place for a vault that this program can use", location),
                "it knows folders, S3 stores and what rclone reaches: an absolute path, file:///path, "
                "s3://bucket/prefix?endpoint=…, rclone:REMOTE:PATH",
                "give --vault /path/to/vault");
  }
  return path;
}

bool is_in_s3(const std::string& location) {
  return location.starts_with(kS3Scheme);
}

// Below what reads ahead, which would pass a limit by its whole memory.
std::unique_ptr<Store> with_read_limit(std::unique_ptr<Store> store) {
  if (vault_read_throttle().rate() == 0) return store;
  return with_limits(std::move(store), &vault_read_throttle(), nullptr);
}

Result<std::unique_ptr<Store>> open_behind_rclone(const std::string& location, IfAbsent if_absent) {
  TRY_ASSIGN(auto store, open_rclone_place(location, if_absent));
  store = with_limits(std::move(store), &network_throttle(), &network_throttle());
  return wrap_for_fault_tests(with_read_ahead(with_prefetch(with_read_limit(std::move(store)))));
}

}  // namespace

bool is_degraded(const std::string& location) {
  return location.starts_with(kRcloneScheme);
}

Result<void> must_have_ledger(const std::string& objects, const std::string& ledger) {
  if (is_degraded(ledger)) {
    return fail(ErrorKind::kUsage, fmt::format("{} cannot be a ledger", ledger),
                "what rclone reaches cannot put an object exactly once",
                "give ledger: a folder on this machine, or a bucket");
  }
  if (!is_degraded(objects) || !ledger.empty()) return {};
  return fail(ErrorKind::kUsage, fmt::format("the vault at {} has no ledger", objects),
              "what rclone reaches cannot put an object exactly once: a second, small place has to",
              "add ledger: /a/folder/on/this/machine");
}

Result<std::unique_ptr<Store>> create_store(const std::string& location, const StoreKeys* keys) {
  // A bucket is not made here: its versions, locks and policies are its owner's to choose.
  if (is_in_s3(location)) return open_store(location, keys);
  if (is_degraded(location)) return open_behind_rclone(location, IfAbsent::kMake);
  TRY_ASSIGN(std::string path, folder_of_location(location));
  TRY_ASSIGN(auto store, create_local_store(path));
  return wrap_for_fault_tests(std::move(store));
}

TwoLocations split_location(const std::string& location) {
  size_t at = location.find(kLedgerPart);
  if (at == location.npos) return {location, ""};
  return {location.substr(0, at), location.substr(at + kLedgerPart.size())};
}

Result<std::unique_ptr<Store>> open_store(const std::string& location, const StoreKeys* keys) {
  if (is_in_s3(location)) {
    TRY_ASSIGN(auto store, open_s3_place(location, keys));
    return wrap_for_fault_tests(with_read_ahead(with_prefetch(with_read_limit(std::move(store)))));
  }
  if (is_degraded(location)) return open_behind_rclone(location, IfAbsent::kFail);
  TRY_ASSIGN(std::string path, folder_of_location(location));
  auto store = open_local_store(path);
  if (!store) {
    if (store.error().kind != ErrorKind::kNotFound) return store;
    return fail(ErrorKind::kNotFound, fmt::format("there is no vault at {}", location),
                "the folder does not exist", "check the location, or make one: kuramori vault init NAME");
  }
  return wrap_for_fault_tests(with_read_limit(std::move(*store)));
}

Result<std::unique_ptr<Vault>> open_vault(const VaultAddress& address) {
  // The key first: a wrong one is told before anything is touched.
  KeyBundle keys;
  if (address.keys) {
    keys = address.keys->clone();
  } else {
    TRY_ASSIGN(keys, read_bundle_file(address.key_file, address.passphrase));
  }
  const TwoLocations places = split_location(address.location);
  const std::string& ledger = address.ledger.empty() ? places.ledger : address.ledger;
  TRY_ASSIGN(auto store, open_store(places.objects, address.store_keys.get()));
  TRY_ASSIGN(auto vault, Vault::open(std::move(store), std::move(keys), system_clock(), system_random()));
  if (address.purpose == VaultAddress::For::kWalAlone) return vault;
  TRY(vault->open_ledger(ledger.empty() ? std::unique_ptr<Store>()
                                        : open_store(ledger, address.store_keys.get())));
  // A vault of one place that was carried there: whatever is put would not be put exactly once.
  if (is_degraded(places.objects) && vault->epoch() == nullptr) {
    return fail(ErrorKind::kRefused,
                fmt::format("the vault at {} has one place, and it is behind rclone", places.objects),
                "nothing can be put exactly once there",
                "bring it into a folder (rclone copy) and open that");
  }
  return vault;
}

Protocol protocol_of(Vault& vault) {
  return Protocol{.store = vault.store(),
                  .codec = vault.codec(),
                  .clock = vault.clock(),
                  .random = vault.random(),
                  .self = signer_id(vault.keys().signing->verify_key()),
                  .may_delete = [&vault](const SignerId& signer) { return vault.codec().may_delete(signer); },
                  .may_commit = [&vault](const SignerId& signer) { return vault.codec().may_commit(signer); },
                  .epoch = vault.epoch()};
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

}  // namespace kuramori
