// A store in which what was put again is found under the name it was made under.
//
// A copied or healed object has the bytes of the original under a name of its own (names::incarnation): a
// name is never used twice, even for the same bytes. Everything in a vault refers to the original name;
// whoever reads it finds the original, or any incarnation. Which one does not matter: readers check the bytes
// against what a signed commit binds.
#pragma once
#include <memory>
#include <string>

#include "store/store.h"

namespace kuramori {

std::unique_ptr<Store> with_incarnations(std::unique_ptr<Store> store);

// One incarnation, whatever name is asked for: its bytes are bound to the name they were made under. Only
// reads.
std::unique_ptr<Store> only_incarnation(Store& store, std::string object);

}  // namespace kuramori
