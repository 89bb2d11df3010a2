// Listing a folder tree in byte order of the full names, a page at a time.
#pragma once
#include "store/local/vault_folder.h"
#include "store/store.h"

namespace kuramori {

// The next at most `limit` objects that start with `prefix` and sort after `after`.
Result<ListPage> list_objects(VaultFolder& folder, std::string_view prefix, std::string_view after,
                              size_t limit);

}  // namespace kuramori
