// Stores behind rclone, alone in this file: kuramori-wal, which is static, links a refusal in its place.
#include "engine/open_rclone.h"

#include <fmt/core.h>

#include "store/rclone/rclone_location.h"
#include "store/rclone/rclone_store.h"
#include "vault/names.h"

namespace kuramori {

Result<std::unique_ptr<Store>> open_rclone_place(const std::string& location, IfAbsent if_absent) {
  TRY_ASSIGN(const std::string place, parse_rclone_location(location));
  const RcloneStoreOptions options{.sentinel = std::string(names::kVault)};
  if (if_absent == IfAbsent::kMake) return create_rclone_store(place, options);
  auto store = open_rclone_store(place, options);
  if (store || store.error().kind != ErrorKind::kNotFound) return store;
  return fail(ErrorKind::kNotFound, fmt::format("there is no vault at {}", location), store.error().why,
              "check the location, or make one: kuramori vault init NAME");
}

}  // namespace kuramori
