// A store whose bytes are counted, and held back, in one account or two.
#pragma once
#include <memory>

#include "base/throttle.h"
#include "store/store.h"

namespace kuramori {

// What is read out of `inner` is taken from `read`, what is put into it from `written`; null: neither counted
// nor held back. Both must outlive the store.
std::unique_ptr<Store> with_limits(std::unique_ptr<Store> inner, Throttle* read, Throttle* written);

}  // namespace kuramori
