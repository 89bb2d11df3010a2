// From a vault in kuramori.yaml to the locations a process can be given: one line of text each, with
// everything in it but secrets.
#pragma once
#include <memory>
#include <string>

#include "crypto/secret.h"
#include "policy/config.h"

namespace kuramori {

// Credentials for a store that no location can point to: written into the configuration, or what a command
// prints.
struct StoreKeys {
  std::string access_key;
  Secret secret_key;
};

struct VaultPlaces {
  std::string objects;
  std::string ledger;  // "" when the vault has one place
  std::shared_ptr<const StoreKeys>
      keys;  // null: the locations say where they are. Shared: choices are copied
};

// A folder's path, or s3://bucket/prefix?endpoint=…&region=…&profile=…. The ledger is reached as the vault
// is, but has neither lock nor storage class: what it holds must be put exactly once.
// `location` reached as the configuration says beside it, which counts more than what stands in it. `keys`:
// set where the credentials are values. `whose`: `vault "tokyo"`, for messages.
struct S3Location;
Result<S3Location> reached_by(S3Location location, const StoreAccess& access, const std::string& whose,
                              const ConfigWorld& world, std::shared_ptr<const StoreKeys>& keys);

Result<VaultPlaces> places_of(const VaultConfig& vault, const ConfigWorld& world);

}  // namespace kuramori
