// A store in a folder: one file an object, at the path of its name.
#pragma once
#include <memory>
#include <string>

#include "store/store.h"

namespace kuramori {

struct LocalStoreOptions {
  uint32_t file_mode = 0400;    // of objects: nobody changes one, not even by mistake
  uint32_t folder_mode = 0700;  // of folders made
};

// Opens the store in the folder `root`; kNotFound if there is none.
Result<std::unique_ptr<Store>> open_local_store(const std::string& root, LocalStoreOptions options = {});
// Makes the folder first, if it is absent.
Result<std::unique_ptr<Store>> create_local_store(const std::string& root, LocalStoreOptions options = {});

// Removes what writers that ended without a commit left in the store's `.tmp` folder: files older than a
// day whose writer's lock is gone. Returns how many. Called by the open functions too.
Result<size_t> clean_unfinished_uploads(const std::string& root);

}  // namespace kuramori
