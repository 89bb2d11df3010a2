#include "cli/auditing.h"

#include <gtest/gtest.h>

#include "api/operations.h"

namespace kuramori {
namespace {

// Nobody adds a verb without having thought about it.
TEST(Auditing, O4_every_verb_is_recorded_or_there_is_a_reason_why_it_is_not) {
  for (const Operation* operation : operations())
    EXPECT_NE(is_audited(operation->verb), !why_not_audited(operation->verb).empty())
        << operation->verb << ": it stands in exactly one of the tables of cli/auditing.cc";
  EXPECT_FALSE(is_audited("vault"));
  EXPECT_EQ(why_not_audited("vault"), "");
}

}  // namespace
}  // namespace kuramori
