// Listing a folder tree in byte order of the full names, a page at a time.
#pragma once
#include <optional>
#include <vector>

#include "store/local/vault_folder.h"
#include "store/store.h"

namespace kuramori {

// Where a listing that goes on page after page stands: the names of the folder its last page ended in, so
// that a folder of a hundred thousand is not read a hundred times. Only for whoever goes on from that page's
// last name; what was put since the folder was read may be missing, as in any listing.
struct ListingMark {
  std::string prefix, last;       // of the page
  std::string base;               // the folder, "" or with '/' at its end
  std::vector<std::string> keys;  // its next ones, sorted
  bool all = false;               // no more than these follow
};

// The next at most `limit` objects that start with `prefix` and sort after `after`.
Result<ListPage> list_objects(VaultFolder& folder, std::string_view prefix, std::string_view after,
                              size_t limit, std::optional<ListingMark>& mark);

}  // namespace kuramori
