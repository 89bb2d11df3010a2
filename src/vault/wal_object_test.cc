// WAL objects whose bytes still come while they are stored.
#include "vault/wal_object.h"

#include <gtest/gtest.h>

#include "vault/test_support.h"

namespace kuramori {
namespace {

using test::TestVault;

struct WalObjectTest : testing::Test {
  TestVault t{61};
  WalHeader header{.system_id = 1,
                   .timeline = 1,
                   .from = 1u << 24,
                   .to = 2u << 24,
                   .segment_bytes = 1u << 24,
                   .file = "000000010000000000000001"};
  Result<WalPut> put(ByteView content, const WalArrival& arrive = {}) {
    return put_wal(*t.vault, t.resource.id, names::WalKind::kSegment, header, content, {.arrive = arrive});
  }
};

TEST_F(WalObjectTest, nothing_is_used_before_it_arrived) {
  const Bytes whole = t.random.bytes(5 * size_t{kWalFrameBytes} + 777);
  Bytes content(whole.size(), 0xee);  // what has not arrived is not what it will be
  size_t there = 0;
  auto arrive = [&](size_t bytes) -> Result<void> {
    EXPECT_GT(bytes, there);
    std::copy(whole.begin() + static_cast<ptrdiff_t>(there), whole.begin() + static_cast<ptrdiff_t>(bytes),
              content.begin() + static_cast<ptrdiff_t>(there));
    there = bytes;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // others would have the time to go ahead
    return {};
  };
  auto stored = put(content, arrive);
  ASSERT_TRUE(stored) << stored.error().what;
  EXPECT_EQ(there, whole.size());
  auto listing = *list_wal(t.store, t.resource.id);
  ASSERT_EQ(listing.objects.size(), 1u);
  EXPECT_EQ(*get_wal(*t.vault, listing.objects[0]), whole);
  EXPECT_EQ(*put(whole), WalPut::kAlreadyThere);
}

TEST_F(WalObjectTest, what_does_not_arrive_is_not_stored) {
  const Bytes content = t.random.bytes(4 * size_t{kWalFrameBytes});
  for (size_t good : {0, 1, 3}) {
    size_t asked = 0;
    auto stored = put(content, [&](size_t) -> Result<void> {
      if (asked++ == good) return fail(ErrorKind::kFailed, "the disk gave up");
      return {};
    });
    ASSERT_FALSE(stored);
    EXPECT_EQ(stored.error().what, "the disk gave up");
    EXPECT_TRUE(list_wal(t.store, t.resource.id)->objects.empty());
  }
}

TEST_F(WalObjectTest, text_is_coded_and_what_gains_little_is_not) {
  auto stored = [&](const Bytes& content) {
    header.from += header.segment_bytes;
    header.to += header.segment_bytes;
    EXPECT_TRUE(put(content));
    auto listing = *list_wal(t.store, t.resource.id);
    EXPECT_EQ(*get_wal(*t.vault, listing.objects.back()), content);
    return static_cast<double>(listing.objects.back().stored_bytes) / static_cast<double>(content.size());
  };
  // Nothing repeats; of the letters some are more frequent than others.
  Bytes text = t.random.bytes(4 * size_t{kWalFrameBytes});
  for (uint8_t& byte : text) byte = static_cast<uint8_t>("eeeeetttaaooiinnsshrdlu "[byte % 24]);
  EXPECT_LT(stored(text), 0.6);
  // Behind frames of another kind too.
  Bytes mixed = t.random.bytes(8 * size_t{kWalFrameBytes});
  append(mixed, text);
  append(mixed, text);
  EXPECT_LT(stored(mixed), 0.85);
}

}  // namespace
}  // namespace kuramori
