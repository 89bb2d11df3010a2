#include "source/postgres/row_changes.h"

#include <gtest/gtest.h>

namespace kuramori::postgres {
namespace {

constexpr Lsn kRedo = 0x5000028;

struct Wal {
  RowChanges changes;
  Lsn at = kRedo;
  BlockRef block{.file = {1663, 5, 16400}};
  Bytes data = {};

  void add(uint8_t rmgr, uint8_t info, uint32_t xid, bool with_block = true) {
    WalRecord record{.lsn = at, .xid = xid, .rmgr = rmgr, .info = info, .major = 15};
    if (with_block) record.blocks = std::span(&block, 1);
    record.main_data = data;
    at += 100;
    auto seen = changes.see(record);
    ASSERT_TRUE(seen) << seen.error().what;
  }
  void checkpoint(Lsn redo, uint32_t next_xid) {
    data.assign(88, 0);
    store_le<uint64_t>(data.data(), redo);
    store_le<uint32_t>(data.data() + 8, 1);
    store_le<uint32_t>(data.data() + 12, 1);
    store_le<uint64_t>(data.data() + 24, (uint64_t{3} << 32) | next_xid);  // of epoch 3
    add(kRmXlog, 0x10, 0, false);
    data.clear();
  }
};

// S32: inserts and deletes of every form are counted, nothing else is, and nothing of older transactions.
TEST(RowChanges, S32_rows_that_come_and_go_are_counted_by_table) {
  Wal wal{.changes = RowChanges(1000, kRedo)};
  wal.checkpoint(kRedo, 990);
  wal.add(kRmHeap, 0x00, 1000);  // insert
  wal.add(kRmHeap, 0x80, 1001);  // insert, the page made anew
  wal.add(kRmHeap, 0x00, 999);   // older
  wal.add(kRmHeap, 0x10, 1002);  // delete
  wal.add(kRmHeap, 0x20, 1002);  // update
  wal.add(kRmHeap, 0x60, 1002);  // lock
  wal.data = {0, 0, 7, 0};
  wal.add(kRmHeap2, 0x50, 1003);  // seven at once
  wal.add(kRmHeap2, 0x50 | 0x80, 1003);
  wal.data.clear();
  wal.add(kRmHeap2, 0x40, 0);  // visibility
  wal.block.file.number = 16500;
  wal.add(kRmHeap, 0x10, 1004);
  EXPECT_EQ(wal.changes.of(5, 16400).inserted, 16);
  EXPECT_EQ(wal.changes.of(5, 16400).deleted, 1);
  EXPECT_EQ(wal.changes.of(5, 16500).deleted, 1);
  EXPECT_EQ(wal.changes.of(6, 16400).inserted, 0);
  EXPECT_TRUE(wal.changes.is_complete());
}

TEST(RowChanges, S32_numbers_are_claimed_only_where_no_older_transaction_can_have_written) {
  for (const auto& [redo, next_xid, complete] :
       std::vector<std::tuple<Lsn, uint32_t, bool>>{{kRedo, 1000, true},
                                                    {kRedo, 1001, false},      // 1000 may have begun before
                                                    {kRedo - 8, 1000, false},  // another checkpoint's
                                                    {kRedo, 4'000'000'000u, true}}) {
    Wal wal{.changes = RowChanges(1000, kRedo)};
    EXPECT_FALSE(wal.changes.is_complete());
    wal.checkpoint(redo, next_xid);
    wal.checkpoint(kRedo, 10);  // only the first counts
    EXPECT_EQ(wal.changes.is_complete(), complete) << next_xid;
  }
}

TEST(RowChanges, a_snapshot_is_read_without_its_epoch) {
  EXPECT_EQ(oldest_of_snapshot("742:742:"), 742u);
  EXPECT_EQ(oldest_of_snapshot("12884902630:12884902640:12884902631"), 742u);
  EXPECT_FALSE(oldest_of_snapshot(""));
  EXPECT_FALSE(oldest_of_snapshot("742"));
  EXPECT_FALSE(oldest_of_snapshot("x:1:"));
}

// A record that says more rows than it can hold is damage, not a number.
TEST(RowChanges, a_record_that_is_too_short_is_damage) {
  RowChanges changes(1, kRedo);
  BlockRef block;
  WalRecord record{.lsn = kRedo, .xid = 5, .rmgr = kRmHeap2, .info = 0x50};
  record.blocks = std::span(&block, 1);
  EXPECT_FALSE(changes.see(record));
}

}  // namespace
}  // namespace kuramori::postgres
