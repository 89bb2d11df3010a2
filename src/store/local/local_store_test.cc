#include "store/local/local_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "os/direct_read.h"
#include "os/file.h"
#include "os/lock.h"
#include "os/process.h"
#include "os/user.h"
#include "testing/store_contract.h"

namespace kuramori {
namespace {

class LocalStoreTest : public testing::Test {
 protected:
  std::string root() { return folder_ / "vault"; }
  size_t pending() {
    Result<std::vector<FolderEntry>> entries = list_folder(root() + "/.tmp");
    return entries ? entries->size() : 0;
  }
  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-store");
  std::unique_ptr<Store> store_ = *create_local_store(root());
};

TEST_F(LocalStoreTest, keeps_the_contract) {
  int made = 0;
  StoreFactory factory = [&] { return *create_local_store(folder_ / fmt::format("s{}", ++made)); };
  EXPECT_EQ(check_store_contract(factory), std::vector<std::string>{});
  for (int i = 1; i <= made; ++i) {
    Result<std::vector<FolderEntry>> left = list_folder(folder_ / fmt::format("s{}/.tmp", i));
    EXPECT_TRUE(!left || left->empty()) << "unfinished files stay in store " << i;
  }
}

TEST_F(LocalStoreTest, objects_cannot_be_changed_and_the_vault_is_private) {
  ASSERT_TRUE(store_->put_if_absent("a/b/c", as_bytes("x")));
  EXPECT_EQ(status_of(root() + "/a/b/c")->mode, 0400u);
  EXPECT_EQ(status_of(root() + "/a/b")->mode, 0700u);
  EXPECT_EQ(status_of(root())->mode, 0700u);
}

// On a disk: what lies in memory is read from there.
class LocalReadTest : public testing::Test {
 protected:
  static std::string disk() {
    const char* told = std::getenv("KURAMORI_TEST_DISK");
    return told == nullptr ? "" : told;
  }
  void put(size_t size) {
    bytes_.resize(size);
    for (size_t i = 0; i < size; ++i) bytes_[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
    ASSERT_TRUE(store_->put_if_absent("packs/one", bytes_));
    file_ = open_file(folder_ / "vault/packs/one", O_RDONLY).value();
    ASSERT_EQ(::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    reader_ = store_->open("packs/one").value();
  }
  bool reads(uint64_t offset, size_t size) {
    Bytes got(size);
    return reader_->read(offset, got).has_value() && equal(got, ByteView(bytes_).subspan(offset, size));
  }

  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-store", disk());
  std::unique_ptr<Store> store_ = *create_local_store(folder_ / "vault");
  Bytes bytes_;
  Fd file_;
  std::unique_ptr<ObjectReader> reader_;
};

TEST_F(LocalReadTest, reads_of_every_size_and_place_give_what_was_put) {
  constexpr size_t kSize = (size_t{5} << 20) + 77;
  put(kSize);
  uint64_t seed = 7;
  const auto next = [&](uint64_t below) {
    return (seed = seed * 6364136223846793005u + 1442695040888963407u) / (UINT64_MAX / below);
  };
  for (int i = 0; i < 300; ++i) {
    const size_t size = std::min<uint64_t>(1 + next(i % 2 == 0 ? kSize : 600 << 10), kSize);
    const uint64_t offset = i % 7 == 0 ? kSize - size : next(kSize - size + 1);
    ASSERT_TRUE(reads(offset, size)) << size << " bytes from " << offset;
  }
  Bytes beyond(size_t{1} << 20);
  EXPECT_EQ(reader_->read(kSize - beyond.size() + 1, beyond).error().kind, ErrorKind::kDamaged);
}

TEST_F(LocalReadTest, what_is_read_once_stays_out_of_the_page_cache_and_what_is_read_again_comes_into_it) {
  constexpr size_t kSize = size_t{4} << 20, kPart = size_t{1} << 20;
  put(kSize);
  if (!open_direct(file_) || is_cached(file_, 0, kPart))
    GTEST_SKIP() << "no direct reads here, or a cache that stays";
  for (uint64_t at = 0; at < kSize; at += kPart) {
    ASSERT_TRUE(reads(at, kPart));
    EXPECT_FALSE(is_cached(file_, at, kPart));
  }
  ASSERT_TRUE(reads(kPart, kPart));
  EXPECT_TRUE(is_cached(file_, kPart, kPart));
  EXPECT_FALSE(is_cached(file_, kPart * 3, kPart));
}

TEST_F(LocalStoreTest, a_missing_folder_is_an_error_and_one_that_goes_away_is_no_empty_vault) {  // P68
  EXPECT_EQ(open_local_store(folder_ / "none").error().kind, ErrorKind::kNotFound);
  ASSERT_TRUE(store_->put_if_absent("a/b", as_bytes("x")));
  ASSERT_TRUE(remove_tree(root()));
  EXPECT_EQ(store_->get("a/b").error().kind, ErrorKind::kFailed);
  EXPECT_EQ(store_->list("", "", 10).error().kind, ErrorKind::kFailed);
  EXPECT_EQ(store_->remove("a/b").error().kind, ErrorKind::kFailed);
}

TEST_F(LocalStoreTest, what_may_not_be_read_is_denied_never_absent) {  // P68
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become somebody without rights";
  ASSERT_TRUE(store_->put_if_absent("open/a", as_bytes("x")));
  ASSERT_TRUE(store_->put_if_absent("shut/a", as_bytes("x")));
  for (const char* way : {"", "/vault", "/vault/open"})
    ASSERT_EQ(::chmod((folder_.path() + way).c_str(), 0755), 0);
  User nobody = *user_of_name("nobody");
  // In a child: rights once given up do not come back.
  pid_t pid = ::fork();
  if (pid == 0) {
    if (::setresgid(nobody.gid, nobody.gid, nobody.gid) != 0 ||
        ::setresuid(nobody.uid, nobody.uid, nobody.uid) != 0) {
      ::_exit(100);
    }
    auto store = open_local_store(root());
    if (!store) ::_exit(101);
    auto denied = [](const auto& result) { return !result && result.error().kind == ErrorKind::kDenied; };
    if (!denied((*store)->get("shut/a"))) ::_exit(1);
    if (!denied((*store)->head("shut/none"))) ::_exit(2);
    if (!denied((*store)->list("", "", 10))) ::_exit(3);
    if (!denied((*store)->list("shut/", "", 10))) ::_exit(4);
    if (!denied((*store)->get("open/a"))) ::_exit(5);
    if (!denied((*store)->remove("open/a"))) ::_exit(6);
    if (!denied((*store)->put_if_absent("open/b", {}))) ::_exit(7);
    if ((*store)->get("open/none").error().kind != ErrorKind::kNotFound) ::_exit(8);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "the number says which check failed";
}

TEST_F(LocalStoreTest, symbolic_links_are_refused_never_followed) {  // V27
  ASSERT_TRUE(make_folders(folder_ / "outside"));
  ASSERT_TRUE(write_new_file(folder_ / "outside/secret", as_bytes("s")));
  ASSERT_TRUE(store_->put_if_absent("a/b", as_bytes("x")));
  ASSERT_EQ(::symlink("../outside", (root() + "/out").c_str()), 0);
  ASSERT_EQ(::symlink("../../outside/secret", (root() + "/a/leaf").c_str()), 0);
  for (const char* name : {"out/secret", "a/leaf"}) {
    EXPECT_EQ(store_->get(name).error().kind, ErrorKind::kRefused) << name;
    EXPECT_EQ(store_->open(name).error().kind, ErrorKind::kRefused) << name;
  }
  EXPECT_EQ(store_->put_if_absent("out/new", {}).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(store_->put_if_absent("a/leaf", {}).error().kind, ErrorKind::kRefused);
  EXPECT_FALSE(store_->remove("out/secret"));
  EXPECT_EQ(store_->list("", "", 10).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(as_text(*read_file(folder_ / "outside/secret")), "s");
}

TEST_F(LocalStoreTest, a_name_cannot_be_an_object_and_a_folder) {
  ASSERT_TRUE(store_->put_if_absent("a", as_bytes("x")));
  EXPECT_EQ(store_->put_if_absent("a/b", {}).error().kind, ErrorKind::kRefused);
  ASSERT_TRUE(store_->put_if_absent("c/d", as_bytes("x")));
  EXPECT_EQ(store_->put_if_absent("c", {}).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(pending(), 0u);
}

TEST_F(LocalStoreTest, unfinished_uploads_go_when_old_and_their_writer_is_gone) {
  auto writer = *store_->create("a");
  ASSERT_TRUE(writer->append(as_bytes("x")));
  ASSERT_TRUE(write_new_file(root() + "/.tmp/young", as_bytes("x")));
  ASSERT_TRUE(write_new_file(root() + "/.tmp/old", as_bytes("x")));
  std::vector<FolderEntry> entries = *list_folder(root() + "/.tmp");
  for (const FolderEntry& entry : entries) {
    if (entry.name == "young") continue;
    timeval days_ago[2] = {{.tv_sec = ::time(nullptr) - 2 * 86400}, {.tv_sec = ::time(nullptr) - 2 * 86400}};
    ASSERT_EQ(::utimes((root() + "/.tmp/" + entry.name).c_str(), days_ago), 0);
  }
  EXPECT_EQ(*clean_unfinished_uploads(root()), 1u);
  EXPECT_FALSE(*status_if_there(root() + "/.tmp/old"));
  EXPECT_TRUE(writer->commit()) << "a living writer's file stays, however old";
}

TEST_F(LocalStoreTest, foreign_files_that_cannot_be_objects_are_not_listed) {
  ASSERT_TRUE(store_->put_if_absent("a", as_bytes("x")));
  ASSERT_TRUE(make_folders(root() + "/lost+found"));
  ASSERT_TRUE(write_new_file(root() + "/.nfs0001", {}));
  EXPECT_EQ(store_->list("", "", 10)->objects.size(), 1u);
}

TEST_F(LocalStoreTest, more_names_in_one_folder_than_a_level_holds_are_all_listed) {  // V2
  constexpr size_t kFiles = 40'000;                                                   // a level holds 32,768
  ASSERT_TRUE(make_folders(root() + "/flat"));
  for (size_t i = 0; i < kFiles; ++i) {
    // Past the store: as many fsyncs would be the test.
    Fd made =
        *open_file(fmt::format("{}/flat/{:08}", root(), i * 7919 % 1'000'003), O_WRONLY | O_CREAT, 0400);
  }
  size_t count = 0;
  std::string last;
  ASSERT_TRUE(for_each_object(*store_, "", [&](const ObjectInfo& object) -> Result<void> {
    EXPECT_LT(last, object.name);
    last = object.name;
    ++count;
    return {};
  }));
  EXPECT_EQ(count, kFiles);
  // A page goes on by what was read for the one before; what is removed in between is not in it, whatever
  // else is listed meanwhile.
  Result<ListPage> first = store_->list("flat/", "", 1000);
  ASSERT_TRUE(first);
  Result<ListPage> expected = store_->list("flat/", first->objects.back().name, 1000);
  ASSERT_TRUE(expected);
  for (const bool other_listing : {false, true}) {
    ASSERT_TRUE(store_->list("flat/", "", 1000));
    if (other_listing) {
      ASSERT_TRUE(store_->list("", "", 10));
    }
    ASSERT_EQ(::unlink((root() + "/" + expected->objects[7].name).c_str()), 0);
    expected->objects.erase(expected->objects.begin() + 7);
    Result<ListPage> second = store_->list("flat/", first->objects.back().name, 1000);
    ASSERT_TRUE(second);
    for (size_t i = 0; i < expected->objects.size(); ++i)
      ASSERT_EQ(second->objects[i].name, expected->objects[i].name);
  }
  // Many empty folders before the first object: a level has to be read more than once for one page.
  for (size_t i = 0; i < 35'000; ++i)
    ASSERT_EQ(::mkdir(fmt::format("{}/a{:05}", root(), i).c_str(), 0700), 0);
  Result<ListPage> page = store_->list("", "", 1);
  ASSERT_TRUE(page);
  ASSERT_EQ(page->objects.size(), 1u);
  EXPECT_EQ(page->objects[0].name, "flat/00000000");
}

// V25, P67: a real full disk, at every size of object.
TEST_F(LocalStoreTest, a_full_disk_is_said_and_leaves_nothing_behind) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount a small filesystem";
  std::string mount_point = folder_ / "small";
  ASSERT_TRUE(make_folders(mount_point));
  if (::mount("none", mount_point.c_str(), "tmpfs", 0, "size=2m,nr_inodes=64") != 0) {
    GTEST_SKIP() << "mounting is not allowed here";
  }
  struct Unmount {
    std::string path;
    ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
  } unmount{mount_point};
  auto store = *create_local_store(mount_point + "/vault");
  Bytes bytes(size_t{100} << 10, 7);
  size_t stored = 0;
  Result<void> put;
  while ((put = store->put_if_absent(fmt::format("p/{:03}", stored), bytes))) ++stored;
  EXPECT_EQ(put.error().kind, ErrorKind::kNoSpace);
  EXPECT_GT(stored, 10u);
  EXPECT_EQ(store->head(fmt::format("p/{:03}", stored)).error().kind, ErrorKind::kNotFound);
  auto writer = *store->create("large");
  Result<void> appended = writer->append(Bytes(size_t{5} << 20));
  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().kind, ErrorKind::kNoSpace);
  EXPECT_FALSE(writer->commit()) << "after a failed append there is no commit";
  writer.reset();
  EXPECT_EQ(list_folder(mount_point + "/vault/.tmp")->size(), 0u);
  // What was stored is whole, can be removed on the full disk, and makes room.
  EXPECT_EQ(store->list("", "", 100)->objects.size(), stored);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(store->remove(fmt::format("p/{:03}", i)));
  EXPECT_TRUE(store->put_if_absent("again", bytes));
}

}  // namespace
}  // namespace kuramori
