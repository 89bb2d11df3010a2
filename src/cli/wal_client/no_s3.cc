// This program is static and has neither HTTP nor TLS: it hands vaults in S3 over before it would open one.
#include "engine/open_s3.h"

namespace kuramori {

Result<std::unique_ptr<Store>> open_s3_place(const std::string& location, const StoreKeys*) {
  return fail(ErrorKind::kRefused, "this program cannot reach " + location,
              "it is the small one, for vaults in folders", "use the whole program: kuramori wal push %p");
}

}  // namespace kuramori
