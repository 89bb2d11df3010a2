#include "policy/store_access.h"

#include "policy/config_reader.h"

namespace kuramori {

StoreAccess read_store_access(MapReader& map) {
  StoreAccess access;
  access.endpoint = map.setting("endpoint");
  access.region = map.setting("region");
  access.ca_file = map.path("ca_file");
  auto credentials = map.map("credentials");
  if (!credentials) return access;
  access.profile = credentials->text("profile");
  access.access_key = credentials->setting("access_key");
  access.secret_key = credentials->setting("secret_key");
  access.from_environment = credentials->is_yes("env");
  access.from_instance_role = credentials->is_yes("instance");
  credentials->done();
  return access;
}

}  // namespace kuramori
