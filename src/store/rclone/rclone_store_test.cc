// The store against a real rclone: with folders (an alias), and with a real Ceph gateway behind it.
#include "store/rclone/rclone_store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "os/file.h"
#include "os/process.h"
#include "store/rclone/rclone_answers.h"
#include "store/rclone/rclone_location.h"
#include "testing/rgw_cluster.h"
#include "testing/store_contract.h"

namespace kuramori {
namespace {

class RcloneStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(find_program("rclone")) << "apt-get install rclone";
    setenv("RCLONE_CONFIG", (folder_ / "rclone.conf").c_str(), 1);
    unsetenv("AWS_CA_BUNDLE");  // the caller's; rclone cannot take one
    configure("[disk]\ntype = alias\nremote = " + root() + "\n");
  }
  void TearDown() override { unsetenv("RCLONE_CONFIG"); }
  void configure(const std::string& text) {
    ASSERT_TRUE(write_file_durably(folder_ / "rclone.conf", as_bytes(text)));
  }
  std::string root() const { return folder_ / "disk"; }
  std::unique_ptr<Store> make(const std::string& place, RcloneStoreOptions options = {}) {
    auto store = create_rclone_store(place, std::move(options));
    EXPECT_TRUE(store) << store.error().what << ": " << store.error().why;
    return std::move(*store);
  }
  TemporaryFolder folder_ = *TemporaryFolder::make("kuramori-rclone-test");
};

// Within one process it keeps the whole of it: what it cannot promise is said in rclone_store.h.
TEST_F(RcloneStoreTest, keeps_the_contract_among_the_threads_of_one_store) {
  int made = 0;
  EXPECT_EQ(check_store_contract([&] { return make(fmt::format("disk:s{}", made++)); }),
            std::vector<std::string>{});
  for (int i = 0; i < made; ++i) {
    auto left = list_folder(fmt::format("{}/s{}/.tmp", root(), i));
    EXPECT_TRUE(!left || left->empty()) << "unfinished files stay in store " << i;
  }
}

TEST_F(RcloneStoreTest, holds_objects_in_a_bucket_behind_rclone) {
  auto cluster = RgwCluster::shared();
  ASSERT_TRUE(cluster) << cluster.error().what;
  auto owner = (*cluster)->owner();
  auto bucket = (*cluster)->create_bucket();
  ASSERT_TRUE(owner && bucket);
  configure(
      fmt::format("[tokyo]\ntype = s3\nprovider = Ceph\naccess_key_id = {}\nsecret_access_key = {}\n"
                  "endpoint = {}\n",
                  owner->access_key, owner->secret_key, (*cluster)->endpoint()));
  auto store = make("tokyo:" + *bucket + "/vault");
  Bytes large((size_t{9} << 20) + 7, 0x5a);  // several parts of an upload
  large.back() = 1;
  EXPECT_TRUE(store->put_if_absent("packs/00/a", large));
  EXPECT_TRUE(store->put_if_absent("packs/01/b", as_bytes("small")));
  EXPECT_TRUE(store->put_if_absent("empty", {}));
  EXPECT_EQ(store->put_if_absent("packs/01/b", as_bytes("other")).error().kind, ErrorKind::kExists);
  EXPECT_EQ(store->head("packs/00/a")->size, large.size());
  EXPECT_TRUE(store->head("packs/00/a")->stored_at);
  EXPECT_TRUE(equal(*store->get("packs/00/a"), large));
  Bytes end(100);
  auto reader = store->open("packs/00/a");
  ASSERT_TRUE(reader);
  ASSERT_TRUE((*reader)->read(large.size() - 100, end));
  EXPECT_TRUE(equal(end, ByteView(large).last(100)));
  auto names = [&](std::string_view prefix) {
    std::vector<std::string> found;
    auto page = store->list(prefix, "", kListPageMax);
    for (const ObjectInfo& object : page->objects) found.push_back(object.name);
    return found;
  };
  EXPECT_EQ(names(""), (std::vector<std::string>{"empty", "packs/00/a", "packs/01/b"}));
  EXPECT_EQ(names("packs/0"), (std::vector<std::string>{"packs/00/a", "packs/01/b"}));
  EXPECT_EQ(names("nothing/"), std::vector<std::string>{});
  EXPECT_TRUE(store->remove("packs/01/b"));
  EXPECT_TRUE(store->remove("packs/01/b"));
  EXPECT_EQ(store->get("packs/01/b").error().kind, ErrorKind::kNotFound);
  // A gateway that denies is no empty bucket (P68).
  configure(
      fmt::format("[tokyo]\ntype = s3\nprovider = Ceph\naccess_key_id = {}\nsecret_access_key = wrong\n"
                  "endpoint = {}\n",
                  owner->access_key, (*cluster)->endpoint()));
  auto denied = open_rclone_store("tokyo:" + *bucket + "/vault");
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().kind, ErrorKind::kFailed) << denied.error().what;
}

TEST_F(RcloneStoreTest, a_place_that_goes_away_is_no_empty_store) {  // P68, S7
  EXPECT_EQ(open_rclone_store("disk:none").error().kind, ErrorKind::kNotFound);
  auto store = make("disk:vault", {.sentinel = "vault"});
  ASSERT_TRUE(store->put_if_absent("vault", as_bytes("x")));
  ASSERT_TRUE(store->put_if_absent("packs/00/a", as_bytes("x")));
  ASSERT_TRUE(remove_tree(root()));
  ASSERT_TRUE(make_folders(root() + "/vault"));  // the mount point of a disk that was pulled out
  EXPECT_EQ(store->get("packs/00/a").error().kind, ErrorKind::kFailed);
  EXPECT_EQ(store->head("packs/00/a").error().kind, ErrorKind::kFailed);
  EXPECT_EQ(store->list("", "", 10).error().kind, ErrorKind::kFailed);
  EXPECT_EQ(store->list("packs/", "", 10).error().kind, ErrorKind::kFailed);
  EXPECT_EQ(store->put_if_absent("packs/00/b", as_bytes("x")).error().kind, ErrorKind::kFailed);
  EXPECT_EQ(store->remove("packs/00/a").error().kind, ErrorKind::kFailed);
  EXPECT_TRUE(list_folder(root() + "/vault")->empty()) << "something was written into the mount point";
}

TEST_F(RcloneStoreTest, a_remote_nobody_configured_is_named) {
  auto store = open_rclone_store("nowhere:vault");
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().kind, ErrorKind::kFailed);
  EXPECT_NE((store.error().what + store.error().why).find("config"), std::string::npos) << store.error().what;
}

pid_t child_of_this_thread() {
  auto children = read_file(fmt::format("/proc/self/task/{}/children", ::gettid()));
  return children ? atoi(std::string(children->begin(), children->end()).c_str()) : 0;
}

TEST_F(RcloneStoreTest, an_object_that_was_cut_on_its_way_is_none) {  // V28
  setenv("RCLONE_BWLIMIT", "1M", 1);
  auto store = make("disk:vault");
  unsetenv("RCLONE_BWLIMIT");
  const pid_t child = child_of_this_thread();
  ASSERT_GT(child, 0);
  Result<void> put;
  std::atomic<bool> over = false;
  std::jthread sender([&] {
    put = store->put_if_absent("packs/00/a", Bytes(size_t{64} << 20, 7));
    over = true;
  });
  auto some_is_there = [&] {
    auto files = list_folder(root() + "/vault/.tmp");
    return files && !files->empty();
  };
  while (!some_is_there() && !over) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  sender.join();
  ASSERT_FALSE(put);
  EXPECT_NE(put.error().kind, ErrorKind::kExists);
  auto fresh = make("disk:vault");
  EXPECT_TRUE(fresh->list("", "", 10)->objects.empty());
  EXPECT_EQ(fresh->get("packs/00/a").error().kind, ErrorKind::kNotFound);
  EXPECT_TRUE(fresh->put_if_absent("packs/00/a", as_bytes("whole")));
}

TEST_F(RcloneStoreTest, an_rclone_that_ended_is_named_and_nothing_waits) {  // P71
  auto store = make("disk:vault");
  ASSERT_TRUE(store->put_if_absent("a", as_bytes("x")));
  const pid_t child = child_of_this_thread();
  ASSERT_GT(child, 0);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  auto put = store->put_if_absent("b", as_bytes("x"));
  ASSERT_FALSE(put);
  EXPECT_NE(put.error().kind, ErrorKind::kExists);
  for (std::string why; why.find("rclone has ended") == why.npos;) {  // as soon as its last word is read
    auto got = store->get("a");
    ASSERT_FALSE(got);
    ASSERT_EQ(got.error().kind, ErrorKind::kFailed);
    why = got.error().why;
  }
  EXPECT_FALSE(status_of(root() + "/vault/b"));
}

// Between us and the real one: takes a connection and drops it without a word, as often as it is told.
constexpr const char* kDropping = R"(#!/usr/bin/python3
import ctypes, os, socket, subprocess, sys, threading

def die_with_us():
    ctypes.CDLL(None).prctl(1, 9)

real = subprocess.Popen([os.environ["REAL_RCLONE"], *sys.argv[1:]], stderr=subprocess.PIPE, text=True, preexec_fn=die_with_us)
for line in real.stderr:
    if "Serving remote control on " in line:
        port = int(line.split(":")[-1].strip().strip("/"))
        break
listener = socket.create_server(("127.0.0.1", 0))
print(f"Serving remote control on http://127.0.0.1:{listener.getsockname()[1]}/", file=sys.stderr, flush=True)

def pump(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)

for _ in range(int(os.environ["DROPPED"])):
    connection = listener.accept()[0]
    connection.recv(1)  # all that was sent must be read, or it ends with a reset
    connection.recv(65536)
    connection.close()
while True:
    ours, theirs = listener.accept()[0], socket.create_connection(("127.0.0.1", port))
    for pair in ((ours, theirs), (theirs, ours)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
)";

TEST_F(RcloneStoreTest, a_connection_that_breaks_without_a_word_is_made_again) {  // P71
  const std::string real = *find_program("rclone");
  const std::string path = getenv("PATH");
  ASSERT_TRUE(make_folders(folder_ / "bin"));
  ASSERT_TRUE(write_file_durably(folder_ / "bin/rclone", as_bytes(kDropping)));
  ASSERT_EQ(::chmod((folder_ / "bin/rclone").c_str(), 0700), 0);
  setenv("REAL_RCLONE", real.c_str(), 1);
  setenv("PATH", (folder_ / "bin:" + path).c_str(), 1);
  setenv("DROPPED", "2", 1);
  {
    auto store = create_rclone_store("disk:", {});
    ASSERT_TRUE(store) << store.error().what << ": " << store.error().why;
    EXPECT_TRUE((*store)->put_if_absent("a/b", as_bytes("there")));
    EXPECT_EQ(*(*store)->get("a/b"), to_bytes(as_bytes("there")));
  }
  setenv("DROPPED", "1000", 1);
  const auto never = create_rclone_store("disk:", {});
  ASSERT_FALSE(never);
  EXPECT_EQ(never.error().kind, ErrorKind::kUnknown);
  setenv("PATH", path.c_str(), 1);
  unsetenv("REAL_RCLONE");
  unsetenv("DROPPED");
}

TEST_F(RcloneStoreTest, without_rclone_it_says_what_to_install) {
  std::string path = getenv("PATH");
  setenv("PATH", folder_.path().c_str(), 1);
  auto store = open_rclone_store("disk:vault");
  setenv("PATH", path.c_str(), 1);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().kind, ErrorKind::kRefused);
  EXPECT_NE(store.error().next.find("apt-get install rclone"), std::string::npos);
}

TEST_F(RcloneStoreTest, what_was_left_unfinished_is_thrown_away_when_it_is_old) {
  auto store = make("disk:vault");
  ASSERT_TRUE(make_folders(root() + "/vault/.tmp"));
  ASSERT_TRUE(write_new_file(root() + "/vault/.tmp/left", as_bytes("half of someth")));
  EXPECT_TRUE(store->list("", "", 10)->objects.empty());
  EXPECT_EQ(*store->remove_unfinished(std::chrono::hours(1)), 0u);
  EXPECT_EQ(*store->remove_unfinished(Duration{0}), 1u);
  EXPECT_TRUE(list_folder(root() + "/vault/.tmp")->empty());
}

TEST_F(RcloneStoreTest, locations) {
  EXPECT_TRUE(is_rclone_location("rclone:gdrive:backup"));
  EXPECT_FALSE(is_rclone_location("/srv/rclone:x"));
  EXPECT_EQ(*parse_rclone_location("rclone:gdrive:backup/a/"), "gdrive:backup/a");
  EXPECT_EQ(*parse_rclone_location("rclone::local:/srv"), ":local:/srv");
  for (const char* bad :
       {"rclone:", "rclone:gdrive", "rclone:a:b]c", "rclone:-x:y", "rclone:a:b//c", "rclone::local"})
    EXPECT_EQ(parse_rclone_location(bad).error().kind, ErrorKind::kUsage) << bad;
}

TEST_F(RcloneStoreTest, answers_that_are_none_are_damage_not_emptiness) {  // V1
  EXPECT_EQ(parse_rclone_list(as_bytes("{\"list\": [{\"Path\": \"a\"")).error().kind, ErrorKind::kDamaged);
  EXPECT_EQ(parse_rclone_list(as_bytes("{}")).error().kind, ErrorKind::kDamaged);
  EXPECT_EQ(parse_rclone_item(as_bytes("{}")).error().kind, ErrorKind::kDamaged);
  EXPECT_FALSE(parse_rclone_item(as_bytes("{\"item\": null}"))->has_value());
  auto items = parse_rclone_list(as_bytes(
      "{\"list\":[{\"Path\":\"a/b\",\"Size\":7,\"ModTime\":\"2026-11-21T18:37:44.5Z\",\"IsDir\":false,"
      "\"Metadata\":{\"Path\":\"evil\",\"Size\":9}},{\"Path\":\"c\",\"Size\":-1,\"IsDir\":true}]}"));
  ASSERT_TRUE(items);
  ASSERT_EQ(items->size(), 2u);
  EXPECT_EQ(items->front().info.name, "a/b");
  EXPECT_EQ(items->front().info.size, 7u);
  EXPECT_TRUE(items->front().info.stored_at);
  EXPECT_TRUE(items->back().is_folder);
}

}  // namespace
}  // namespace kuramori
