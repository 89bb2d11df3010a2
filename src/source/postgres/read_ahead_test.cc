#include "source/postgres/read_ahead.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace kuramori::postgres {
namespace {

Bytes numbers(size_t size) {
  Bytes bytes(size);
  for (size_t at = 0; at + 8 <= size; at += 8) store_le<uint64_t>(bytes.data() + at, at * 0x9e3779b97f4a7c15);
  return bytes;
}

class ReadAheadTest : public ::testing::Test {
 protected:
  Fd file_of(const std::string& folder, const Bytes& bytes) {
    auto file = open_file(join_path(folder, "file"), O_RDWR | O_CREAT | O_TRUNC);
    EXPECT_TRUE(file && pwrite_full(*file, 0, bytes, "file"));
    return std::move(*file);
  }
  void drop_from_cache(const Fd& file) {
    ASSERT_EQ(::fsync(file.get()), 0);
    ASSERT_EQ(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  }
  size_t pages_in_cache(const Fd& file, size_t bytes) {
    void* mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.get(), 0);
    EXPECT_NE(mapped, MAP_FAILED);
    std::vector<unsigned char> resident(bytes / 4096);
    EXPECT_EQ(::mincore(mapped, bytes, resident.data()), 0);
    ::munmap(mapped, bytes);
    return static_cast<size_t>(
        std::count_if(resident.begin(), resident.end(), [](unsigned char page) { return page & 1; }));
  }
  Result<Bytes> all_of(const Fd& file, uint64_t offset, uint64_t length) {
    ReadAhead::Stretch stretch(ahead_, file, "file", offset, length);
    Bytes all;
    for (;;) {
      TRY_ASSIGN(const MutableByteView block, stretch.next());
      if (block.empty()) return all;
      EXPECT_LE(block.size(), kReadBytes);
      append(all, block);
    }
  }

  Throttle throttle_{0, system_clock()};
  ReadAhead ahead_{throttle_};
};

TEST_F(ReadAheadTest, gives_every_byte_of_any_stretch_cached_or_not) {
  auto disk = TemporaryFolder::make("read-ahead-");
  ASSERT_TRUE(disk);
  // Odd sizes too: a file that is being extended ends anywhere.
  for (const size_t size : {size_t{0}, size_t{8192}, 5 * kReadBytes, 6 * kReadBytes + 8192 + 5}) {
    const Bytes bytes = numbers(size);
    const Fd file = file_of(disk->path(), bytes);
    for (const bool cached : {true, false}) {
      if (!cached) drop_from_cache(file);
      for (const auto& [offset, length] :
           std::vector<std::pair<uint64_t, uint64_t>>{{0, 20 * kReadBytes}, {8192, size}}) {
        const size_t first = std::min<size_t>(offset, size), count = std::min<size_t>(length, size - first);
        auto got = all_of(file, offset, length);
        ASSERT_TRUE(got) << got.error().what;
        EXPECT_TRUE(equal(*got, ByteView(bytes).subspan(first, count)))
            << size << " " << offset << " " << length;
      }
    }
  }
}

// The server's pages stay in the cache, and ours do not come into it.
TEST_F(ReadAheadTest, a_cold_file_stays_out_of_the_page_cache) {
  auto disk = TemporaryFolder::make("read-ahead-");
  ASSERT_TRUE(disk);
  constexpr size_t kPages = 8 * kReadBytes / 4096;
  const Bytes bytes = numbers(8 * kReadBytes);
  const Fd file = file_of(disk->path(), bytes);
  drop_from_cache(file);
  if (!open_file("/proc/self/fd/" + std::to_string(file.get()), O_RDONLY | O_DIRECT))
    GTEST_SKIP() << "this filesystem has no direct reads";
  if (pages_in_cache(file, bytes.size()) >= kPages / 4)
    GTEST_SKIP() << "what this filesystem caches cannot be dropped";
  auto got = all_of(file, 0, bytes.size());
  ASSERT_TRUE(got);
  EXPECT_TRUE(equal(*got, bytes));
  EXPECT_LT(pages_in_cache(file, bytes.size()), kPages / 4);
}

TEST_F(ReadAheadTest, works_where_there_are_no_direct_reads) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no /dev/shm here";
  auto memory = TemporaryFolder::make("read-ahead-", "/dev/shm");
  ASSERT_TRUE(memory);
  const Bytes bytes = numbers(6 * kReadBytes + 8192);
  const Fd file = file_of(memory->path(), bytes);
  auto got = all_of(file, 0, bytes.size());
  ASSERT_TRUE(got);
  EXPECT_TRUE(equal(*got, bytes));
}

TEST_F(ReadAheadTest, a_stretch_can_be_left_halfway_and_an_error_comes_out) {
  auto disk = TemporaryFolder::make("read-ahead-");
  ASSERT_TRUE(disk);
  const Bytes bytes = numbers(12 * kReadBytes);
  const Fd file = file_of(disk->path(), bytes);
  for (int round = 0; round < 20; ++round) {
    ReadAhead::Stretch stretch(ahead_, file, "file", 0, bytes.size());
    for (int i = 0; i < round % 5; ++i) {
      auto block = stretch.next();
      ASSERT_TRUE(block);
      ASSERT_TRUE(equal(*block, ByteView(bytes).subspan(static_cast<size_t>(i) * kReadBytes, kReadBytes)));
    }
  }
  auto folder = open_folder(disk->path());  // reading a folder is an error
  ASSERT_TRUE(folder);
  EXPECT_FALSE(all_of(*folder, 0, kReadBytes));
  EXPECT_TRUE(all_of(file, 0, kReadBytes));
}

TEST_F(ReadAheadTest, a_file_that_is_cut_short_meanwhile_ends_early) {
  auto disk = TemporaryFolder::make("read-ahead-");
  ASSERT_TRUE(disk);
  const Bytes bytes = numbers(16 * kReadBytes);
  const Fd file = file_of(disk->path(), bytes);
  ReadAhead::Stretch stretch(ahead_, file, "file", 0, bytes.size());
  ASSERT_TRUE(stretch.next());
  ASSERT_EQ(::ftruncate(file.get(), 2 * kReadBytes), 0);
  size_t got = kReadBytes;
  for (;;) {
    auto block = stretch.next();
    ASSERT_TRUE(block);
    if (block->empty()) break;
    // Read before it was cut, or what is left.
    ASSERT_TRUE(equal(*block, ByteView(bytes).subspan(got, block->size())));
    got += block->size();
  }
  EXPECT_GE(got, 2 * kReadBytes);
}

}  // namespace
}  // namespace kuramori::postgres
