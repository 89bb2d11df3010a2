#include "engine/vault_location.h"

#include <fmt/core.h>

#include "store/s3/s3_location.h"

namespace kuramori {
namespace {

Result<void> take_credentials(S3Location& location, VaultPlaces& places, const VaultConfig& vault,
                              const ConfigWorld& world) {
  if (!vault.access.profile.empty()) location.profile = vault.access.profile;
  if (vault.access.from_environment) location.from_environment = true;
  if (vault.access.from_instance_role) location.from_instance_role = true;
  if (vault.access.access_key.is_set() != vault.access.secret_key.is_set())
    return fail(
        ErrorKind::kUsage, fmt::format("vault \"{}\" has half of its credentials", vault.name),
        vault.access.access_key.is_set() ? "secret_key_file is missing" : "access_key_file is missing",
        "give both: credentials: { access_key_file: FILE, secret_key_file: FILE }");
  if (!vault.access.access_key.is_set()) return {};
  using From = Setting::From;
  if (vault.access.access_key.from() == From::kFile && vault.access.secret_key.from() == From::kFile) {
    location.access_key_file = vault.access.access_key.file();
    location.secret_key_file = vault.access.secret_key.file();
    return {};
  }
  TRY_ASSIGN(std::string access_key, vault.access.access_key.fetch(world));
  TRY_ASSIGN(std::string secret_key, vault.access.secret_key.fetch(world));
  auto keys = std::make_shared<StoreKeys>();
  keys->access_key = std::move(access_key);
  keys->secret_key = Secret::copy_of(as_bytes(secret_key));
  wipe({reinterpret_cast<uint8_t*>(secret_key.data()), secret_key.size()});
  places.keys = std::move(keys);
  return {};
}

// What is written beside `at` counts more than what stands in it.
Result<S3Location> overlay(S3Location location, VaultPlaces& places, const VaultConfig& vault,
                           const ConfigWorld& world) {
  if (vault.access.endpoint.is_set()) {
    TRY_ASSIGN(location.endpoint, vault.access.endpoint.fetch(world));
  }
  if (vault.access.region.is_set()) {
    TRY_ASSIGN(location.region, vault.access.region.fetch(world));
  }
  if (!vault.access.ca_file.empty()) location.ca_file = vault.access.ca_file;
  TRY(take_credentials(location, places, vault, world));
  return location;
}

}  // namespace

Result<VaultPlaces> places_of(const VaultConfig& vault, const ConfigWorld& world) {
  VaultPlaces places{.objects = vault.at, .ledger = vault.ledger};
  auto in_words = [&](Error error) {
    return std::move(error).within(fmt::format("vault \"{}\"", vault.name));
  };
  if (is_s3_location(vault.at)) {
    auto location = parse_s3_location(vault.at);
    if (location) location = overlay(std::move(*location), places, vault, world);
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
    if (location && !own_endpoint) location = overlay(std::move(*location), places, vault, world);
    if (!location) return in_words(std::move(location).error());
    places.ledger = format_s3_location(*location);
  }
  return places;
}

}  // namespace kuramori
