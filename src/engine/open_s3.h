// The one way from a location to a store in S3.
#pragma once
#include <memory>
#include <string>

#include "engine/vault_location.h"
#include "store/store.h"

namespace kuramori {

// `location`: s3://…. `keys`: null when the location says where the credentials are.
Result<std::unique_ptr<Store>> open_s3_place(const std::string& location, const StoreKeys* keys);

}  // namespace kuramori
