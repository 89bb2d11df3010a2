// What is left to the base, given, doubted or contradicted of pages that come over the wire.
#include "source/postgres/remote_pages.h"

#include <gtest/gtest.h>

#include <thread>

#include "codec/page_checksum.h"

namespace kuramori::postgres {
namespace {

constexpr Lsn kBaseStart = 1000, kStart = 2000, kStop = 3000;

class Kept final : public CaptureLane {
 public:
  Result<void> add_pages(uint32_t, uint32_t first, ByteView pages) override {
    if (fails) return fail(ErrorKind::kNoSpace, "the vault is full");
    for (size_t at = 0; at < pages.size(); at += kPageBytes) given.push_back(first++);
    return {};
  }
  Result<void> add_bytes(uint32_t, ByteView bytes) override {
    append(content, bytes);
    return {};
  }
  bool fails = false;
  std::vector<uint32_t> given;
  Bytes content;
};

Bytes page_with(Lsn lsn, uint32_t block) {
  Bytes page(kPageBytes);
  store_le(page.data(), static_cast<uint32_t>(lsn >> 32));
  store_le(page.data() + 4, static_cast<uint32_t>(lsn));
  store_le(page.data() + 12, uint16_t{24});              // lower
  store_le(page.data() + 14, uint16_t{kPageBytes});      // upper
  store_le(page.data() + 16, uint16_t{kPageBytes});      // special
  store_le(page.data() + 18, uint16_t{kPageBytes | 4});  // size and version
  store_le(page.data() + 8, page_checksum(page, block));
  return page;
}

CaptureStart start_here() {
  CaptureStart start;
  start.start_lsn = kStart;
  start.checksum_version = 1;
  start.on_host = false;
  return start;
}

struct Outcome {
  Result<void> ended;
  std::vector<uint32_t> given;
  uint64_t skipped = 0;
  bool contradicted = false;
  std::vector<BrokenPage> broken;
};

Outcome judged(const std::vector<Bytes>& pages, std::span<const uint32_t> changed, uint32_t base_pages) {
  const CaptureStart start = start_here();
  RemotePages remote(start, 1);
  auto file = std::make_shared<RemoteFile>();
  file->path = "base/5/16384";
  file->has_pages = true;
  file->skip = {.unchanged_before = kBaseStart, .base_pages = base_pages, .changed = changed};
  RemoteBlock block{.file = file, .first_page = 0, .bytes = {}};
  for (const Bytes& page : pages) append(block.bytes, page);
  EXPECT_TRUE(remote.hand_over(std::move(block)));
  remote.close();
  Kept kept;
  auto ended = remote.work(0, kept, {});
  return {std::move(ended), kept.given, remote.skipped(), remote.contradicted(), remote.broken(kStop)};
}

TEST(RemotePages, what_the_wal_does_not_name_and_did_not_move_is_left_to_the_base) {
  const uint32_t changed[] = {1};
  const std::vector<Bytes> pages = {
      page_with(500, 0),         // the base's
      page_with(500, 1),         // named: given, whatever its LSN
      page_with(kBaseStart, 2),  // at the very start: given, to be sure
      page_with(kStart + 1, 3),  // written after this snapshot began: redo's
      Bytes(kPageBytes),         // zeros tell nothing
      page_with(500, 5),         // the base's
      page_with(500, 6),         // behind the base's end
  };
  const Outcome outcome = judged(pages, changed, 6);
  EXPECT_TRUE(outcome.ended);
  EXPECT_EQ(outcome.given, (std::vector<uint32_t>{1, 2, 3, 4, 6}));
  EXPECT_EQ(outcome.skipped, 2u);
  EXPECT_FALSE(outcome.contradicted);
  EXPECT_TRUE(outcome.broken.empty());
}

// P24: every page is looked at, and one that moved without a record ends the copy.
TEST(RemotePages, a_page_that_moved_without_a_record_contradicts_P24) {
  const Outcome outcome = judged({page_with(500, 0), page_with(1500, 1)}, {}, 2);
  ASSERT_FALSE(outcome.ended);
  EXPECT_TRUE(outcome.contradicted);
  EXPECT_NE(outcome.ended.error().why.find("page 1 of base/5/16384"), std::string::npos);
}

// P1, P3: what was written after the start redo replaces whole; what was not is damage, and is kept as it is.
TEST(RemotePages, a_wrong_page_is_broken_unless_redo_replaces_it_P3) {
  Bytes rotten = page_with(500, 0), torn = page_with(kStart + 5, 1), future = page_with(kStop + 5, 2);
  for (Bytes* page : {&rotten, &torn, &future}) (*page)[5000] ^= 1;
  const Outcome outcome = judged({rotten, torn, future}, {}, 3);
  EXPECT_TRUE(outcome.ended);
  EXPECT_EQ(outcome.given, (std::vector<uint32_t>{0, 1, 2}));
  ASSERT_EQ(outcome.broken.size(), 2u);
  EXPECT_EQ(outcome.broken[0].page, 0u);
  EXPECT_EQ(outcome.broken[1].page, 2u);
}

// Whoever fills the queue of a worker that failed does not wait for it for ever.
TEST(RemotePages, a_worker_that_fails_stops_who_fills_its_queue) {
  const CaptureStart start = start_here();
  RemotePages remote(start, 1);
  auto file = std::make_shared<RemoteFile>();
  file->has_pages = true;
  Kept full;
  full.fails = true;
  std::thread worker([&] { EXPECT_FALSE(remote.work(0, full, {})); });
  uint32_t handed = 0;
  while (remote.hand_over({.file = file, .first_page = handed, .bytes = page_with(500, handed)})) ++handed;
  worker.join();
  ASSERT_TRUE(remote.failure());
  EXPECT_EQ(remote.failure()->kind, ErrorKind::kNoSpace);
}

}  // namespace
}  // namespace kuramori::postgres
