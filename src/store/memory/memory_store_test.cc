#include "store/memory/memory_store.h"

#include <gtest/gtest.h>

#include "testing/store_contract.h"

namespace kuramori {
namespace {

TEST(MemoryStoreTest, keeps_the_contract) {
  EXPECT_EQ(check_store_contract([] { return make_memory_store(); }), std::vector<std::string>{});
}

TEST(MemoryStoreTest, a_clone_goes_its_own_way) {
  auto store = make_memory_store();
  ASSERT_TRUE(store->put_if_absent("a", as_bytes("1")));
  auto other = store->clone();
  ASSERT_TRUE(other->remove("a"));
  EXPECT_EQ(store->object_count(), 1u);
  EXPECT_EQ(other->object_count(), 0u);
}

}  // namespace
}  // namespace kuramori
