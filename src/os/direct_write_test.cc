#include "os/direct_write.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/mount.h>

namespace kuramori {
namespace {

constexpr size_t kBufferBytes = 8 * kDirectIoAlignment;

class DirectWriteTest : public testing::Test {
 protected:
  std::string path() const { return folder_ / "f"; }
  Fd made() { return *open_file(path(), O_RDWR | O_CREAT | O_TRUNC); }

  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-os");
};

TEST_F(DirectWriteTest, what_is_appended_and_left_out_is_what_stands_there) {
  EXPECT_TRUE(rc::check([this] {
    const bool ahead = *rc::gen::arbitrary<bool>();
    Fd fd = made();
    AlignedBuffer buffer(kBufferBytes);
    DirectWriter file(fd, "f", buffer,
                      ahead ? DirectWriter::Room::kInAdvance : DirectWriter::Room::kAsNeeded);
    Bytes wanted;
    for (int piece = *rc::gen::inRange(0, 12); piece > 0; --piece) {
      // Of whole blocks, and of none.
      size_t size = *rc::gen::inRange<size_t>(1, 3 * kBufferBytes);
      if (*rc::gen::arbitrary<bool>()) size = (size / kDirectIoAlignment + 1) * kDirectIoAlignment;
      if (*rc::gen::inRange(0, 4) == 0) {
        RC_ASSERT(file.leave_out(size).has_value());
        wanted.resize(wanted.size() + size);
        continue;
      }
      Bytes bytes(size);
      for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>((wanted.size() + i) * 7 / 5 + 1);
      RC_ASSERT(file.append(bytes).has_value());
      wanted.insert(wanted.end(), bytes.begin(), bytes.end());
    }
    RC_ASSERT(file.finish().has_value());
    RC_ASSERT(*read_file(path()) == wanted);
    RC_ASSERT((::fcntl(fd.get(), F_GETFL) & O_DIRECT) == 0);
  }));
}

TEST_F(DirectWriteTest, room_taken_in_advance_is_given_back_and_a_hole_takes_none) {
  Fd fd = made();
  AlignedBuffer buffer(kBufferBytes);
  const Bytes bytes(kBufferBytes + 10, 1);
  DirectWriter ahead(fd, "f", buffer, DirectWriter::Room::kInAdvance);
  ASSERT_TRUE(ahead.append(bytes));
  ASSERT_TRUE(ahead.finish());
  ASSERT_TRUE(sync_file(fd, "f"));
  EXPECT_EQ(status_of(fd, "f")->size, bytes.size());
  EXPECT_LE(status_of(fd, "f")->allocated, bytes.size() + 2 * kDirectIoAlignment);

  Fd sparse = made();
  DirectWriter file(sparse, "f", buffer, DirectWriter::Room::kAsNeeded);
  ASSERT_TRUE(file.leave_out(64 << 20));
  ASSERT_TRUE(file.append(bytes));
  ASSERT_TRUE(file.leave_out(64 << 20));
  ASSERT_TRUE(file.finish());
  ASSERT_TRUE(sync_file(sparse, "f"));
  EXPECT_EQ(status_of(sparse, "f")->size, (128u << 20) + bytes.size());
  EXPECT_LE(status_of(sparse, "f")->allocated, bytes.size() + 2 * kDirectIoAlignment);
}

TEST_F(DirectWriteTest, of_a_small_disk_no_room_is_taken_that_others_would_lack) {
  const std::string small = folder_ / "small";
  ASSERT_TRUE(make_folders(small));
  if (::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=100m") != 0) GTEST_SKIP() << "only root mounts";
  {
    Fd fd = *open_file(small + "/f", O_RDWR | O_CREAT);
    AlignedBuffer buffer(kBufferBytes);
    const Bytes bytes(4 * kBufferBytes, 1);
    DirectWriter file(fd, "f", buffer, DirectWriter::Room::kInAdvance);
    EXPECT_TRUE(file.append(bytes));
    EXPECT_LE(status_of(fd, "f")->allocated, bytes.size());
    EXPECT_TRUE(file.finish());
  }
  EXPECT_EQ(::umount(small.c_str()), 0);
}

TEST_F(DirectWriteTest, a_full_disk_is_called_that) {
  for (const bool at_its_end : {false, true}) {
    Fd full = *open_file("/dev/full", O_WRONLY);
    AlignedBuffer buffer(kBufferBytes);
    DirectWriter file(full, "f", buffer, DirectWriter::Room::kInAdvance);
    // A piece is written while the next one is filled: whoever comes next is told.
    Result<void> done = file.append(Bytes(at_its_end ? kBufferBytes / 2 : kBufferBytes, 1));
    if (at_its_end) {
      ASSERT_TRUE(done);
      done = file.finish();
    }
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().kind, ErrorKind::kNoSpace) << done.error().what << ": " << done.error().why;
  }
}

TEST_F(DirectWriteTest, one_that_is_given_up_waits_for_what_it_began) {
  for (int i = 0; i < 100; ++i) {
    Fd fd = made();
    AlignedBuffer buffer(kBufferBytes);
    DirectWriter file(fd, "f", buffer, DirectWriter::Room::kAsNeeded);
    ASSERT_TRUE(file.append(Bytes(3 * kBufferBytes / 2 + 5, 1)));
  }
}

}  // namespace
}  // namespace kuramori
