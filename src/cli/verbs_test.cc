#include "cli/verbs.h"

#include <gtest/gtest.h>

namespace kuramori {
namespace {

// A verb in the table works; code that no table entry names is out of reach.
TEST(Verbs, EveryListedOperationHasItsCode) {
  for (const Operation* operation : operations())
    EXPECT_NE(find_handler(operation->verb), nullptr) << operation->verb;
  EXPECT_EQ(find_handler("vault"), nullptr);
}

}  // namespace
}  // namespace kuramori
