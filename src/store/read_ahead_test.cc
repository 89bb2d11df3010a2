#include "store/read_ahead.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "store/fault.h"
#include "store/memory/memory_store.h"

namespace kuramori {
namespace {

constexpr size_t kBlock = 1000;
constexpr ReadAheadLimits kSmall{
    .block_bytes = kBlock, .blocks_ahead = 3, .memory_bytes = 8 * kBlock, .threads = 4, .stream_bytes = 300};

Bytes numbered(size_t size) {
  Bytes bytes(size);
  std::mt19937 random(7);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// A store in memory, each read of which is counted and may fail.
struct Far {
  std::unique_ptr<Store> memory = make_memory_store();
  std::atomic<int> reads = 0;
  std::atomic<bool> fails = false;
  std::unique_ptr<FaultyStore> counted;
  std::unique_ptr<Store> store;
  Bytes bytes;

  explicit Far(size_t size) : bytes(numbered(size)) {
    EXPECT_TRUE(memory->put_if_absent("object", bytes));
    FaultPlan plan;
    plan.choose = [this](uint64_t, StoreCall call, std::string_view) {
      if (call != StoreCall::kRead) return Fault::kNone;
      ++reads;
      return fails ? Fault::kFail : Fault::kNone;
    };
    counted = make_faulty_store(*memory, plan);
    store = with_read_ahead(std::make_unique<Borrowed>(*counted), kSmall);
  }
  // So that the wrapper can own it.
  struct Borrowed : Store {
    explicit Borrowed(Store& to) : inner(to) {}
    Store& inner;
    std::string location() const override { return inner.location(); }
    Result<void> put_if_absent(std::string_view n, ByteView b) override { return inner.put_if_absent(n, b); }
    Result<std::unique_ptr<ObjectWriter>> create(std::string_view n) override { return inner.create(n); }
    Result<std::unique_ptr<ObjectReader>> open(std::string_view n) override { return inner.open(n); }
    Result<Bytes> get(std::string_view n) override { return inner.get(n); }
    Result<ObjectInfo> head(std::string_view n) override { return inner.head(n); }
    Result<ListPage> list(std::string_view p, std::string_view a, size_t l) override {
      return inner.list(p, a, l);
    }
    Result<void> remove(std::string_view n) override { return inner.remove(n); }
  };
  std::unique_ptr<ObjectReader> open() {
    auto reader = store->open("object");
    EXPECT_TRUE(reader);
    return std::move(*reader);
  }
  bool is_right(ObjectReader& reader, uint64_t offset, size_t size) {
    Bytes out(size);
    auto read = reader.read(offset, out);
    return read && equal(out, ByteView(bytes).subspan(offset, size));
  }
};

TEST(ReadAhead, a_stream_of_small_reads_becomes_few_large_ones) {
  Far far(50 * kBlock + 17);
  auto reader = far.open();
  for (uint64_t at = 0; at < far.bytes.size(); at += 100)
    ASSERT_TRUE(far.is_right(*reader, at, std::min<size_t>(100, far.bytes.size() - at))) << at;
  EXPECT_LE(far.reads, 51 + 2);
}

TEST(ReadAhead, who_picks_single_pieces_gets_exactly_those) {
  Far far(50 * kBlock);
  auto reader = far.open();
  for (int i = 0; i < 200; ++i)
    ASSERT_TRUE(far.is_right(*reader, static_cast<uint64_t>(i * 7919 % 49'000), 80));
  EXPECT_EQ(far.reads, 200);
}

TEST(ReadAhead, any_pattern_of_any_number_of_readers_sees_the_object) {
  Far far(40 * kBlock + 333);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  auto shared = far.open();
  for (unsigned seed = 0; seed < 6; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      auto own = far.open();
      ObjectReader& reader = seed % 2 ? *own : *shared;
      uint64_t at = 0;
      for (int i = 0; i < 400; ++i) {
        if (random() % 8 == 0) at = random() % far.bytes.size();
        const size_t size =
            std::min<size_t>(1 + random() % (random() % 4 == 0 ? 3 * kBlock : 200), far.bytes.size() - at);
        if (!far.is_right(reader, at, size)) ++wrong;
        at = (at + size) % far.bytes.size();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ReadAhead, an_error_comes_to_who_asked_and_is_not_kept) {
  Far far(20 * kBlock);
  auto reader = far.open();
  ASSERT_TRUE(far.is_right(*reader, 0, 500));
  far.fails = true;
  auto other = far.open();
  Bytes out(500);
  EXPECT_FALSE(other->read(10 * kBlock, out));
  far.fails = false;
  EXPECT_TRUE(far.is_right(*other, 10 * kBlock, 500));
}

TEST(ReadAhead, behind_the_end_is_as_without_it) {
  Far far(5 * kBlock);
  auto reader = far.open();
  Bytes out(600);
  auto read = reader->read(5 * kBlock - 100, out);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kDamaged);
  EXPECT_TRUE(reader->read(5 * kBlock, MutableByteView()));
}

// Who says that a stream will come finds it there: not one read waits for the store's first answer any more.
TEST(ReadAhead, a_stream_that_was_announced_is_fetched_before_it_is_asked_for) {
  Far far(20 * kBlock);
  auto reader = far.open();
  reader->expect_stream(2 * kBlock + 10, 2 * kBlock);
  while (far.reads < 3) std::this_thread::yield();  // of 1,990 bytes from there: blocks 2 to 4
  ASSERT_TRUE(far.is_right(*reader, 2 * kBlock + 10, 50));
  ASSERT_TRUE(far.is_right(*reader, 2 * kBlock + 60, 2 * kBlock - 60));
  // What follows is read ahead like any stream, and nothing was read twice.
  for (uint64_t at = 4 * kBlock; at < far.bytes.size(); at += 100)
    ASSERT_TRUE(far.is_right(*reader, at, 100));
  EXPECT_EQ(far.reads, 18);
  // Behind the end, of nothing, of more than there is: advice alone.
  reader->expect_stream(20 * kBlock, 1);
  reader->expect_stream(kBlock, 0);
  reader->expect_stream(20 * kBlock - 1, UINT64_MAX);
  EXPECT_TRUE(far.is_right(*reader, 20 * kBlock - 1, 1));
}

// Ten objects are announced, and there is room for eight blocks: nobody's are pushed out before they were
// read.
TEST(ReadAhead, what_one_waits_for_is_not_pushed_out_by_what_another_announces) {
  Far far(4 * kBlock);
  std::vector<std::unique_ptr<ObjectReader>> readers;
  for (int i = 0; i < 10; ++i) {
    readers.push_back(far.open());
    readers.back()->expect_stream(0, 4 * kBlock);
  }
  while (far.reads < 8) std::this_thread::yield();
  for (auto& reader : readers)
    for (uint64_t at = 0; at < 4 * kBlock; at += 250) ASSERT_TRUE(far.is_right(*reader, at, 250));
  // For eight of them there was no room: their first read went alone, before they were known as streams.
  EXPECT_EQ(far.reads, 10 * 4 + 8);
}

// A reader that goes leaves nothing running that needs it.
TEST(ReadAhead, readers_and_the_store_may_go_at_any_time) {
  for (int i = 0; i < 50; ++i) {
    Far far(30 * kBlock);
    auto reader = far.open();
    ASSERT_TRUE(far.is_right(*reader, 0, 400));
    if (i % 2) reader.reset();
  }
}

}  // namespace
}  // namespace kuramori
