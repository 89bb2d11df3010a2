// The kind `files` keeps the contract of sources.
#include <gtest/gtest.h>

#include "source/files/fixture_for_tests.h"

namespace kuramori::files {
namespace {

TEST(FilesContract, files_keep_the_contract_of_sources_F2_V13_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<FilesFixture>(); }),
            std::vector<std::string>{});
}

}  // namespace
}  // namespace kuramori::files
