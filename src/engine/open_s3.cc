// Stores in S3, alone in this file: a program that cannot speak to one (kuramori-wal, which is static) links
// a refusal in its place.
#include "engine/open_s3.h"

#include "store/s3/s3_store.h"

namespace kuramori {

Result<std::unique_ptr<Store>> open_s3_place(const std::string& location, const StoreKeys* keys) {
  TRY_ASSIGN(S3Location place, parse_s3_location(location));
  place.class_prefix = "packs/";
  S3StoreOptions options;
  if (keys != nullptr) options.credentials = fixed_credentials(keys->access_key, keys->secret_key.clone());
  return open_s3_store(place, std::move(options));
}

}  // namespace kuramori
