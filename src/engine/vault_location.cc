#include "engine/vault_location.h"

#include <fmt/core.h>

#include "store/s3/s3_location.h"

namespace kuramori {
namespace {

Result<void> take_credentials(S3Location& location, std::shared_ptr<const StoreKeys>& places_keys,
                              const StoreAccess& access, const std::string& whose, const ConfigWorld& world) {
  if (!access.profile.empty()) location.profile = access.profile;
  if (access.from_environment) location.from_environment = true;
  if (access.from_instance_role) location.from_instance_role = true;
  if (access.access_key.is_set() != access.secret_key.is_set())
    return fail(ErrorKind::kUsage, fmt::format("{} has half of its credentials", whose),
                access.access_key.is_set() ? "secret_key_file is missing" : "access_key_file is missing",
                "give both: credentials: { access_key_file: FILE, secret_key_file: FILE }");
  if (!access.access_key.is_set()) return {};
  using From = Setting::From;
  if (access.access_key.from() == From::kFile && access.secret_key.from() == From::kFile) {
    location.access_key_file = access.access_key.file();
    location.secret_key_file = access.secret_key.file();
    return {};
  }
  TRY_ASSIGN(std::string access_key, access.access_key.fetch(world));
  TRY_ASSIGN(std::string secret_key, access.secret_key.fetch(world));
  auto keys = std::make_shared<StoreKeys>();
  keys->access_key = std::move(access_key);
  keys->secret_key = Secret::copy_of(as_bytes(secret_key));
  wipe({reinterpret_cast<uint8_t*>(secret_key.data()), secret_key.size()});
  places_keys = std::move(keys);
  return {};
}

}  // namespace

Result<S3Location> reached_by(S3Location location, const StoreAccess& access, const std::string& whose,
                              const ConfigWorld& world, std::shared_ptr<const StoreKeys>& keys) {
  if (access.endpoint.is_set()) {
    TRY_ASSIGN(location.endpoint, access.endpoint.fetch(world));
  }
  if (access.region.is_set()) {
    TRY_ASSIGN(location.region, access.region.fetch(world));
  }
  if (!access.ca_file.empty()) location.ca_file = access.ca_file;
  TRY(take_credentials(location, keys, access, whose, world));
  return location;
}

Result<VaultPlaces> places_of(const VaultConfig& vault, const ConfigWorld& world) {
  VaultPlaces places{.objects = vault.at, .ledger = vault.ledger};
  auto in_words = [&](Error error) {
    return std::move(error).within(fmt::format("vault \"{}\"", vault.name));
  };
  if (is_s3_location(vault.at)) {
    auto location = parse_s3_location(vault.at);
    if (location)
      location = reached_by(std::move(*location), vault.access, fmt::format("vault \"{}\"", vault.name),
                            world, places.keys);
    if (!location) return in_words(std::move(location).error());
    if (!vault.storage_class.empty()) location->storage_class = vault.storage_class;
    if (!vault.sse_kms_key.empty()) location->sse_kms_key = vault.sse_kms_key;
    if (vault.lock) location->lock = vault.lock;
    if (vault.lock_mode == "governance") location->lock_governance = true;
    // Read back: values of the configuration are checked like typed ones.
    places.objects = format_s3_location(*location);
    if (auto good = parse_s3_location(places.objects); !good) return in_words(std::move(good).error());
  }
  if (is_s3_location(vault.ledger)) {
    auto location = parse_s3_location(vault.ledger);
    bool own_endpoint = location && !location->endpoint.empty();
    if (location && !own_endpoint)
      location = reached_by(std::move(*location), vault.access, fmt::format("vault \"{}\"", vault.name),
                            world, places.keys);
    if (!location) return in_words(std::move(location).error());
    places.ledger = format_s3_location(*location);
  }
  return places;
}

}  // namespace kuramori
