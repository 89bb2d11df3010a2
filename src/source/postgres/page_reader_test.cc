#include "source/postgres/page_reader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

namespace kuramori::postgres {
namespace {

constexpr char kPath[] = "base/5/16384";

Bytes page_with(uint32_t block, uint8_t fill, Lsn lsn) {
  Bytes page(kPageBytes, fill);
  store_le<uint32_t>(page.data(), static_cast<uint32_t>(lsn >> 32));
  store_le<uint32_t>(page.data() + 4, static_cast<uint32_t>(lsn));
  store_le<uint16_t>(page.data() + 10, 0);
  store_le<uint16_t>(page.data() + 12, 100);
  store_le<uint16_t>(page.data() + 14, 200);
  store_le<uint16_t>(page.data() + 16, kPageBytes);
  store_le<uint16_t>(page.data() + 18, kPageBytes | 4);
  store_le<uint16_t>(page.data() + 8, page_checksum(page, block));
  return page;
}

class PageReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TemporaryFolder::make("page-reader-");
    ASSERT_TRUE(made);
    folder_.emplace(std::move(*made));
    auto opened = open_file(*folder_ / "file", O_RDWR | O_CREAT);
    ASSERT_TRUE(opened);
    file_ = std::move(*opened);
  }
  void put(uint32_t page, const Bytes& bytes) {
    ASSERT_TRUE(pwrite_full(file_, uint64_t{page} * kPageBytes, bytes, kPath));
  }
  // The pages given, in order.
  Result<uint32_t> read(uint32_t first, uint32_t count, const PageRules& rules) {
    return read(reader_, first, count, rules);
  }
  Result<uint32_t> read(PageReader& reader, uint32_t first, uint32_t count, const PageRules& rules) {
    return reader.read(file_, kPath, first, count, rules, [&](uint32_t page, ByteView bytes) -> Result<void> {
      for (size_t at = 0; at < bytes.size(); at += kPageBytes)
        given_[page + static_cast<uint32_t>(at / kPageBytes)] = to_bytes(bytes.subspan(at, kPageBytes));
      return {};
    });
  }

  std::optional<TemporaryFolder> folder_;
  Fd file_;
  Throttle throttle_{0, system_clock()};
  PageReader reader_{system_clock(), throttle_};
  std::map<uint32_t, Bytes> given_;
};

// The system's, but that something happens when somebody first waits.
class EventfulClock final : public Clock {
 public:
  explicit EventfulClock(std::function<void()> event) : event_(std::move(event)) {}
  Time now() override { return system_clock().now(); }
  Duration steady() override { return system_clock().steady(); }
  void sleep(Duration duration) override {
    if (event_) std::exchange(event_, nullptr)();
    system_clock().sleep(duration);
  }

 private:
  std::function<void()> event_;
};

// P1: a page that somebody writes in halves is read until it is whole, and is never a failure.
TEST_F(PageReaderTest, P1_a_torn_page_is_read_again_until_it_is_whole) {
  const Bytes old_page = page_with(0, 1, 100), new_page = page_with(0, 2, 200);
  Bytes torn = old_page;
  std::copy_n(new_page.begin(), 4096, torn.begin());
  put(0, torn);
  EventfulClock clock([&] { put(0, new_page); });
  PageReader reader(clock, throttle_);
  EXPECT_EQ(read(reader, 0, 1, {.start_lsn = 50}).value(), 1u);
  EXPECT_EQ(given_[0], new_page);
  EXPECT_TRUE(reader.counts().broken.empty());
  EXPECT_GT(reader.counts().pages_read_again, 0u);
}

TEST_F(PageReaderTest, P1_a_page_that_never_stops_changing_is_left_to_redo) {
  std::atomic<bool> written = false;
  std::jthread writer([&](std::stop_token stop) {
    for (uint8_t round = 1; !stop.stop_requested(); ++round) {
      Bytes torn = page_with(0, round, 1000 + round);
      torn[5000] ^= 1;
      put(0, torn);
      written = true;
    }
  });
  while (!written) std::this_thread::yield();
  EXPECT_EQ(read(0, 1, {.start_lsn = 900}).value(), 1u);
  EXPECT_TRUE(reader_.counts().broken.empty());
}

// P3: wrong and still; and what is older than the start is not for redo to repair.
TEST_F(PageReaderTest, P3_a_page_that_stays_wrong_is_broken_and_kept) {
  Bytes wrong = page_with(1, 1, 5000);
  wrong[4000] ^= 0x10;
  put(0, page_with(0, 1, 10));
  put(1, wrong);
  put(2, page_with(2, 1, 10));
  EXPECT_EQ(read(0, 3, {.start_lsn = 100, .skip = {.unchanged_before = 9000, .base_pages = 3}}).value(), 3u);
  ASSERT_EQ(reader_.counts().broken.size(), 1u);
  EXPECT_EQ(reader_.counts().broken[0].page, 1u);
  EXPECT_EQ(given_.size(), 1u);  // its neighbours are unchanged; a broken page never counts as that
  EXPECT_EQ(given_[1], wrong);
}

// P2: new pages are all zero and have no checksum; blocks are numbered through the relation's files.
TEST_F(PageReaderTest, P2_zero_pages_and_later_files_of_a_relation_are_right) {
  const uint32_t first_of_third = 2 * kPagesPerRelationFile;
  put(0, page_with(first_of_third, 1, 10));
  put(1, Bytes(kPageBytes));
  put(2, page_with(first_of_third + 2, 1, 10));
  EXPECT_EQ(read(0, 3, {.segment = 2}).value(), 3u);
  EXPECT_TRUE(reader_.counts().broken.empty());
  EXPECT_EQ(read(0, 3, {.segment = 0}).value(), 3u);
  EXPECT_EQ(reader_.counts().broken.size(), 2u);
}

TEST_F(PageReaderTest, only_pages_with_an_older_lsn_inside_the_base_are_skipped) {
  put(0, page_with(0, 1, 99));
  put(1, page_with(1, 1, 100));  // at the limit: changed
  put(2, Bytes(kPageBytes));     // LSN 0, but perhaps extended again since
  put(3, page_with(3, 1, 50));
  put(4, page_with(4, 1, 50));  // the base was shorter
  const PageRules rules{.skip = {.unchanged_before = 100, .base_pages = 4}};
  EXPECT_EQ(read(0, 5, rules).value(), 5u);
  EXPECT_EQ(reader_.counts().pages_skipped, 2u);
  ASSERT_EQ(given_.size(), 3u);
  EXPECT_TRUE(given_.contains(1) && given_.contains(2) && given_.contains(4));
}

// P5: what is not there is not given, and half a page is none.
TEST_F(PageReaderTest, P5_reading_stops_at_the_last_whole_page) {
  put(0, page_with(0, 1, 10));
  put(1, page_with(1, 1, 10));
  ASSERT_EQ(ftruncate(file_.get(), kPageBytes + 4096), 0);
  EXPECT_EQ(read(0, 300, {}).value(), 1u);
  EXPECT_EQ(read(200, 300, {}).value(), 0u);
  EXPECT_EQ(given_.size(), 1u);
}

TEST_F(PageReaderTest, without_checksums_the_header_must_be_possible) {
  Bytes page = page_with(0, 1, 10);
  page[4000] ^= 1;  // nobody can tell
  put(0, page);
  store_le<uint16_t>(page.data() + 12, 9000);
  put(1, page);
  EXPECT_EQ(read(0, 2, {.checksums = false}).value(), 2u);
  ASSERT_EQ(reader_.counts().broken.size(), 1u);
  EXPECT_EQ(reader_.counts().broken[0].page, 1u);
}

// A list is read and given as it is: no page between, whatever their LSNs, at their places.
TEST_F(PageReaderTest, of_a_list_just_its_pages_are_read_and_what_went_is_zeros) {
  for (uint32_t page = 0; page < 20; ++page) put(page, page_with(page, static_cast<uint8_t>(page), 100));
  const std::vector<uint32_t> listed = {0, 3, 4, 5, 9, 18, 19, 20, 21, 30};
  uint32_t runs = 0;
  ASSERT_TRUE(reader_.read_listed(
      file_, kPath, listed, {.start_lsn = 50}, [&](uint32_t first, ByteView bytes) -> Result<void> {
        ++runs;
        for (size_t at = 0; at < bytes.size(); at += kPageBytes)
          given_[first + static_cast<uint32_t>(at / kPageBytes)] = to_bytes(bytes.subspan(at, kPageBytes));
        return {};
      }));
  ASSERT_EQ(given_.size(), listed.size());
  EXPECT_EQ(runs, 5u);
  for (const uint32_t page : listed) {
    if (page < 20)
      EXPECT_EQ(given_[page], page_with(page, static_cast<uint8_t>(page), 100)) << page;
    else
      EXPECT_TRUE(is_zero(given_[page])) << page;
  }
  EXPECT_EQ(reader_.counts().bytes_read, 7 * kPageBytes);
  EXPECT_EQ(reader_.counts().pages_given, listed.size());
  EXPECT_TRUE(reader_.counts().broken.empty());
}

TEST_F(PageReaderTest, a_listed_page_that_stays_wrong_is_broken_and_a_torn_one_is_read_again_P1) {
  Bytes wrong = page_with(1, 7, 100);
  wrong[5000] ^= 1;
  put(0, page_with(0, 1, 100));
  put(1, wrong);
  put(2, page_with(2, 1, 100));
  const std::vector<uint32_t> listed = {0, 1, 2};
  ASSERT_TRUE(reader_.read_listed(file_, kPath, listed, {.start_lsn = 50},
                                  [](uint32_t, ByteView) -> Result<void> { return {}; }));
  ASSERT_EQ(reader_.counts().broken.size(), 1u);
  EXPECT_EQ(reader_.counts().broken[0].page, 1u);
  EXPECT_GT(reader_.counts().pages_read_again, 0u);
}

TEST_F(PageReaderTest, a_look_at_a_page_tells_its_lsn_and_whether_it_is_zero) {
  put(0, page_with(0, 1, 0x1234567890));
  put(1, Bytes(kPageBytes));
  EXPECT_EQ(reader_.look(file_, kPath, 0)->lsn, 0x1234567890u);
  EXPECT_FALSE(reader_.look(file_, kPath, 0)->zero);
  EXPECT_TRUE(reader_.look(file_, kPath, 1)->zero);
  EXPECT_FALSE(reader_.look(file_, kPath, 2)->there);
}

}  // namespace
}  // namespace kuramori::postgres
