// The contract suite of store/store.h: every implementation passes it, every broken one must not.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/store.h"

namespace kuramori {

// Gives a new, empty store each time it is called.
using StoreFactory = std::function<std::unique_ptr<Store>()>;

// What the store does against the contract, in words; empty when it keeps it. Takes a few seconds on a disk.
std::vector<std::string> check_store_contract(const StoreFactory& make_store);

}  // namespace kuramori
