// A store in any place that rclone reaches, with less than the contract promises:
//   - put_if_absent looks first and puts then: exactly one wins among the threads of one Store, not among
//     machines. What must be put exactly once stands elsewhere (a ledger); what stands here is put under
//     names of its writer's own.
//   - what was confirmed was looked for before: it stands there with its size; a remote that shows it later
//   is
//     waited for.
//   - an object appears whole where the remote can move one on its own side; else rclone writes it in place.
//   - a listing is read whole, not page by page: about 150 bytes of memory a name.
#pragma once
#include <memory>
#include <string>

#include "store/store.h"

namespace kuramori {

struct RcloneStoreOptions {
  // An object that never goes once it was put. Where it stood when the store was opened and does not now, the
  // place is another (a disk that was unmounted): an error, not an empty store. "" — no such object.
  std::string sentinel;
};

// `place`: "REMOTE:PATH". kNotFound: the remote is there, the path is not (many remotes have no empty folders
// and say so of none). kRefused: there is no rclone.
Result<std::unique_ptr<Store>> open_rclone_store(const std::string& place, RcloneStoreOptions options = {});
// The same; makes the path if it is not there.
Result<std::unique_ptr<Store>> create_rclone_store(const std::string& place, RcloneStoreOptions options = {});

}  // namespace kuramori
