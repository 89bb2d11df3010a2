// How an object store is reached, as kuramori.yaml says it of a vault and of a bucket that is protected.
#pragma once
#include <string>

#include "policy/setting.h"

namespace kuramori {

class MapReader;

struct StoreAccess {
  Setting endpoint, region, access_key, secret_key;
  std::string profile;              // of the credentials file of other S3 programs
  bool from_environment = false;    // AWS_ACCESS_KEY_ID and what belongs to it
  bool from_instance_role = false;  // the role of the machine it runs on
  std::string ca_file;              // absolute
};

// endpoint, region, ca_file and credentials: { profile | env | instance | access_key_file + secret_key_file
// }.
StoreAccess read_store_access(MapReader& map);

}  // namespace kuramori
