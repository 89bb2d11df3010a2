// This program is static and has neither HTTP nor TLS: it hands vaults in S3 or behind rclone over before it
// would open one.
#include "engine/open_rclone.h"
#include "engine/open_s3.h"

namespace kuramori {

namespace {
Error out_of_reach(const std::string& location) {
  return fail(ErrorKind::kRefused, "this program cannot reach " + location,
              "it is the small one, for vaults in folders", "use the whole program: kuramori wal push %p");
}
}  // namespace

Result<std::unique_ptr<Store>> open_s3_place(const std::string& location, const StoreKeys*) {
  return out_of_reach(location);
}

Result<std::unique_ptr<Store>> open_rclone_place(const std::string& location, IfAbsent) {
  return out_of_reach(location);
}

}  // namespace kuramori
