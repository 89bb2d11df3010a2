#include "source/files/apply.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "os/user.h"
#include "source/files/attributes.h"
#include "source/files/captured_for_tests.h"
#include "source/files/failing_calls_for_tests.h"
#include "source/files/files_source.h"
#include "source/files/write_tree.h"
#include "testing/source_contract.h"

namespace kuramori::files {
namespace {

struct stat look(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status;
}

TreeEntry file_entry(const std::string& path, uint32_t mode = 0644) {
  return {.path = path, .content = ContentKind::kBytes, .mode = mode, .uid = ::geteuid(), .gid = ::getegid()};
}

class Apply : public testing::Test {
 protected:
  void SetUp() override { folder_ = *open_folder(ground_.path()); }
  Ground ground_;
  Fd folder_;
  Applier applier_;
};

TEST_F(Apply, makes_links_pipes_sockets_and_devices_with_their_metadata) {
  const EntryType types[] = {EntryType::kSymlink, EntryType::kFifo, EntryType::kSocket,
                             EntryType::kCharDevice, EntryType::kBlockDevice};
  const mode_t kinds[] = {S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
  for (size_t i = 0; i < std::size(types); ++i) {
    const std::string name = std::to_string(i);
    TreeEntry entry{.path = name,
                    .type = types[i],
                    .mode = 0604,
                    .uid = ::geteuid(),
                    .gid = ::getegid(),
                    .mtime_ns = -1'500'000'001,
                    .link = "to nowhere",
                    .rdev = makedev(1, 3)};
    Result<bool> made = applier_.make_special(folder_, name, entry);
    ASSERT_TRUE(made) << made.error().what;
    if (!*made) continue;
    ASSERT_TRUE(applier_.apply(folder_, name, entry));
    const struct stat status = look(ground_ / name);
    EXPECT_EQ(status.st_mode & S_IFMT, kinds[i]);
    EXPECT_EQ(status.st_mode & 07777, types[i] == EntryType::kSymlink ? 0777u : 0604u);
    EXPECT_EQ(status.st_mtim.tv_sec, -2);
    EXPECT_EQ(status.st_mtim.tv_nsec, 499'999'999);
    EXPECT_EQ(status.st_rdev, types[i] >= EntryType::kCharDevice ? makedev(1, 3) : 0);
  }
  EXPECT_EQ(*read_link(ground_ / "0"), "to nowhere");
  EXPECT_EQ(applier_.make_special(folder_, "1", {.path = "1", .type = EntryType::kFifo}).error().kind,
            ErrorKind::kExists);
}

TEST_F(Apply, who_is_not_root_keeps_what_is_made_and_says_so_once) {
  for (const char* name : {"a", "b"}) ground_.file(name);
  without_privileges([&] {
    for (const char* name : {"a", "b"}) {
      TreeEntry entry = file_entry(name, 06755);
      entry.uid = 1234;
      entry.gid = 1235;
      entry.attributes = {{"trusted.x", "1"}, {"user.x", "2"}};
      Result<void> applied = applier_.apply(folder_, name, entry);
      EXPECT_TRUE(applied) << applied.error().what << applied.error().why;
    }
    Result<bool> made = applier_.make_special(
        folder_, "null", {.path = "null", .type = EntryType::kCharDevice, .rdev = makedev(1, 3)});
    EXPECT_TRUE(made && !*made);
  });
  // A file that ran as its owner must not run as whoever restored it.
  EXPECT_EQ(look(ground_ / "a").st_mode & 07777, 0755u);
  char value = 0;
  EXPECT_EQ(::getxattr((ground_ / "a").c_str(), "user.x", &value, 1), 1);
  const std::vector<std::string> notes = applier_.notes();
  ASSERT_EQ(notes.size(), 4u);
  EXPECT_TRUE(notes[0].starts_with("2 entries belong to who restored them"));
  EXPECT_TRUE(notes[1].starts_with("2 entries lost their set-user-ID"));
  EXPECT_TRUE(notes[2].starts_with("2 extended attributes"));
  EXPECT_TRUE(notes[3].starts_with("1 device nodes"));
}

TEST_F(Apply, owners_go_by_name_where_asked_and_where_the_name_is_known) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const User nobody = *user_of_name("nobody");
  for (const char* name : {"number", "name", "unknown"}) ground_.file(name);
  TreeEntry entry = file_entry("x");
  entry.uid = 4242;
  entry.gid = 4243;
  entry.user = "nobody";
  entry.group = *group_name_of(nobody.gid);
  Applier by_name({.owners_by_name = true});
  ASSERT_TRUE(applier_.apply(folder_, "number", entry));
  ASSERT_TRUE(by_name.apply(folder_, "name", entry));
  entry.user = "no such user here";
  ASSERT_TRUE(by_name.apply(folder_, "unknown", entry));
  EXPECT_EQ(look(ground_ / "number").st_uid, 4242u);
  EXPECT_EQ(look(ground_ / "name").st_uid, nobody.uid);
  EXPECT_EQ(look(ground_ / "name").st_gid, nobody.gid);
  EXPECT_EQ(look(ground_ / "unknown").st_uid, 4242u);
  EXPECT_TRUE(by_name.notes().empty());
}

TEST_F(Apply, capabilities_and_setuid_outlive_the_change_of_owner) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  ground_.file("ping");
  // cap_net_raw=ep, revision 2
  const std::string capability("\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  TreeEntry entry = file_entry("ping", 06711);
  entry.uid = 1234;
  entry.attributes = {{"security.capability", capability}};
  ASSERT_TRUE(applier_.apply(folder_, "ping", entry));
  std::vector<std::pair<std::string, std::string>> unreadable;
  EXPECT_EQ(*read_attributes(*open_at(folder_, "ping", O_PATH), "ping", unreadable), entry.attributes);
  EXPECT_EQ(look(ground_ / "ping").st_mode & 07777, 06711u);
}

TEST(Nfs4Acl, says_what_the_mode_says_or_more) {
  struct Entry {
    uint32_t type, flags;
    std::string who;
  };
  const auto acl = [](const std::vector<Entry>& entries) {
    std::string bytes;
    const auto number = [&](uint32_t value) {
      for (int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<char>(value >> shift));
    };
    number(static_cast<uint32_t>(entries.size()));
    for (const Entry& entry : entries) {
      number(entry.type), number(entry.flags), number(0x1601a7),
          number(static_cast<uint32_t>(entry.who.size()));
      bytes += entry.who;
      bytes.resize((bytes.size() + 3) / 4 * 4);
    }
    return bytes;
  };
  const Entry owner{0, 0, "OWNER@"}, denied{1, 0x40, "GROUP@"}, everyone{0, 0, "EVERYONE@"};
  EXPECT_TRUE(is_mode_as_nfs4_acl(acl({owner, denied, everyone})));
  EXPECT_FALSE(is_mode_as_nfs4_acl(acl({owner, {0, 0, "alice@example.org"}, everyone})));
  EXPECT_FALSE(is_mode_as_nfs4_acl(acl({owner, {0, 0, "1234"}})));
  EXPECT_FALSE(is_mode_as_nfs4_acl(acl({owner, {2, 0, "EVERYONE@"}})));     // audit
  EXPECT_FALSE(is_mode_as_nfs4_acl(acl({owner, {0, 0x0b, "EVERYONE@"}})));  // inherited
  const std::string whole = acl({owner, everyone});
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(is_mode_as_nfs4_acl(whole.substr(0, size))) << size;
  EXPECT_FALSE(is_mode_as_nfs4_acl(whole + "more"));
}

TEST_F(Apply, an_acl_that_was_inherited_in_the_target_does_not_stay) {
  // user::rwx user:1234:rwx group::r-x mask::rwx other::---
  const unsigned char acl[] = {2, 0,    0,   0,   1,   0,   7,    0, 255, 255, 255, 255, 2,   0,    7,
                               0, 0xd2, 4,   0,   0,   4,   0,    5, 0,   255, 255, 255, 255, 0x10, 0,
                               7, 0,    255, 255, 255, 255, 0x20, 0, 0,   0,   255, 255, 255, 255};
  if (::setxattr(ground_.path().c_str(), "system.posix_acl_default", acl, sizeof acl, 0) != 0)
    GTEST_SKIP() << "this filesystem has no ACLs";
  ground_.file("a");
  ASSERT_GT(::getxattr((ground_ / "a").c_str(), "system.posix_acl_access", nullptr, 0), 0);
  ASSERT_TRUE(applier_.apply(folder_, "a", file_entry("a", 0640)));
  EXPECT_LT(::getxattr((ground_ / "a").c_str(), "system.posix_acl_access", nullptr, 0), 0);
  EXPECT_EQ(look(ground_ / "a").st_mode & 07777, 0640u);
}

TEST_F(Apply, further_names_are_given_to_what_is_in_the_target_only_V27) {
  Ground outside;
  outside.file("secret");
  ground_.file("a");
  ground_.link("a", "link");
  ground_.link(outside.path(), "way out");
  auto link = [&](const std::string& first, const std::string& name) {
    return applier_.make_hard_link(folder_, {.path = name, .type = EntryType::kHardLink, .link = first},
                                   folder_, name);
  };
  EXPECT_TRUE(link("a", "b"));
  EXPECT_EQ(look(ground_ / "b").st_ino, look(ground_ / "a").st_ino);
  EXPECT_TRUE(link("link", "other link"));
  EXPECT_EQ(look(ground_ / "other link").st_ino, look(ground_ / "link").st_ino);
  EXPECT_EQ(link("way out/secret", "c").error().kind, ErrorKind::kRefused);
  EXPECT_EQ(link("../" + outside.path().substr(outside.path().rfind('/') + 1) + "/secret", "c").error().kind,
            ErrorKind::kRefused);
  EXPECT_EQ(link(outside / "secret", "c").error().kind, ErrorKind::kRefused);
  EXPECT_FALSE(*status_if_there(ground_ / "c"));
}

TEST_F(Apply, a_name_that_is_a_path_is_refused_V27) {
  for (const char* name : {"..", ".", "", "a/b", "../a", "/tmp/a"}) {
    EXPECT_EQ(applier_.make_special(folder_, name, {.path = "x", .type = EntryType::kFifo}).error().kind,
              ErrorKind::kRefused);
    EXPECT_EQ(applier_.apply(folder_, name, file_entry("x")).error().kind, ErrorKind::kRefused);
  }
  for (const char* path : {"", "/a", "a/", "a//b", "a/../b", "..", "a/."})
    EXPECT_EQ(split_tree_path(path).error().kind, ErrorKind::kRefused) << path;
  EXPECT_EQ(split_tree_path("a/b/c")->folder, "a/b");
  EXPECT_EQ(split_tree_path("c")->name, "c");
}

TEST_F(Apply, what_was_put_in_an_entrys_place_is_left_alone_V27) {
  Ground outside;
  outside.file("victim");
  ground_.link(outside / "victim", "a");
  TreeEntry entry = file_entry("a", 04777);
  EXPECT_EQ(applier_.apply(folder_, "a", entry).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(look(outside / "victim").st_mode & 07777, 0644u);
}

// --- whole trees -------------------------------------------------------------------------------------

MemoryTree tree_of(const std::vector<std::pair<TreeEntry, std::string>>& entries) {
  MemoryTree tree;
  for (const auto& [entry, content] : entries) {
    MemoryTree::Node node{.entry = entry, .content = content};
    node.entry.size = content.size();
    tree.nodes.push_back(std::move(node));
  }
  return tree;
}

const MemoryTree& some_tree() {
  static const MemoryTree kTree =
      tree_of({{{.path = "", .type = EntryType::kDirectory, .mode = 0750}, ""},
               {{.path = "a", .type = EntryType::kDirectory, .mode = 0500}, ""},
               {file_entry("a/one"), "1"},
               {file_entry("a/two"), "22"},
               {{.path = "b", .type = EntryType::kHardLink, .mode = 0644, .link = "a/one"}, ""},
               {file_entry("c"), "333"}});
  return kTree;
}

TEST(FilesRestore, only_what_was_asked_for_comes_with_the_folders_above_it) {
  Ground ground;
  Result<SourceRestoreOutcome> outcome =
      write_tree(some_tree(), {.to = ground / "t", .only = {"a/two", "b"}}, {}, silent_reporter(), {});
  ASSERT_TRUE(outcome) << outcome.error().what;
  Captured all = capture({.paths = {ground / "t"}});
  EXPECT_EQ(all.paths(), (std::vector<std::string>{"", "a", "a/two", "b"}));
  // Its first name was not asked for: a file of its own, with all the content.
  EXPECT_EQ(all.entry("b").type, EntryType::kFile);
  EXPECT_EQ(all.entry("a").mode, 0500u);
  EXPECT_EQ(all.entry("").mode, 0750u);
}

TEST(FilesRestore, a_tree_deeper_than_a_path_may_be_comes_back) {
  Ground ground;
  std::vector<std::pair<TreeEntry, std::string>> entries;
  std::string path;
  for (int i = 0; i < 40; ++i) {  // 8,000 bytes
    path = join_path(path, std::string(200, 'd'));
    entries.push_back({{.path = path, .type = EntryType::kDirectory, .mode = 0755}, ""});
  }
  entries.push_back({file_entry(path + "/f"), "deep"});
  Result<SourceRestoreOutcome> outcome =
      write_tree(tree_of(entries), {.to = ground / "t"}, {}, silent_reporter(), {});
  ASSERT_TRUE(outcome) << outcome.error().why;
  Captured all = capture({.paths = {ground / "t"}});
  EXPECT_TRUE(all.defects.empty());
  EXPECT_EQ(all.find(path + "/f")->bytes, "deep");
}

TEST(FilesRestore, overwriting_is_refused) {
  Ground ground;
  SourceRestoreRequest request{.to = ground.path(), .overwrite = true};
  EXPECT_EQ(write_tree(some_tree(), request, {}, silent_reporter(), {}).error().kind, ErrorKind::kRefused);
}

TEST(FilesDrill, an_entry_that_does_not_come_back_whole_fails_it) {
  Ground ground;
  auto source = make_files_source(ground.settings());
  MemoryTree tree = some_tree();
  auto drill = [&](const std::string& sandbox) {
    ground.folder(sandbox);
    return (*source->drill(tree, ground / sandbox, silent_reporter(), {})).at(0);
  };
  EXPECT_EQ(drill("s1").verdict, "passed") << drill("s1b").detail;
  tree.nodes[2].content.clear();  // what is kept is less than what was captured
  CheckResult failed = drill("s2");
  EXPECT_EQ(failed.verdict, "failed");
  EXPECT_NE(failed.detail.find("a/one"), std::string::npos) << failed.detail;
}

// --- doctor ------------------------------------------------------------------------------------------

std::string findings(const FilesSettings& settings, const MountFiles& mounts = {}) {
  std::string all;
  const std::vector<SourceFinding> found = *examine(settings, mounts);
  for (const SourceFinding& finding : found) {
    EXPECT_FALSE(finding.why.empty() || finding.fix.empty()) << finding.what;
    all += fmt::format("{}:{}: {}\n", static_cast<int>(finding.severity), finding.about, finding.what);
  }
  return all;
}

TEST(FilesDoctor, says_nothing_of_what_is_well) {
  Ground ground;
  for (const char* name : {"a.tmp", "b/c", "keep.tmp"}) ground.file(name);
  FilesSettings settings = ground.settings();
  settings.exclude = {"*.tmp", "!keep.tmp"};
  settings.include = {"b/", "*.tmp"};
  EXPECT_EQ(findings(settings), "");
}

TEST(FilesDoctor, names_paths_that_cannot_be_captured_and_patterns_that_match_nothing) {
  Ground ground;
  ground.file("a");
  FilesSettings settings{.paths = {ground.path(), ground / "gone", "relative"},
                         .exclude = {"*.log", "# words"}};
  EXPECT_EQ(findings(settings),
            fmt::format("0:{0}: \"{0}\" cannot be captured\n0:relative: the path \"relative\" is not "
                        "absolute\n2:exclude: \"*.log\": the pattern matches nothing\n",
                        ground / "gone"));
  EXPECT_EQ(findings({}), "0:paths: the resource names no path\n");
  settings = ground.settings();
  settings.exclude = {"*"};
  EXPECT_EQ(findings(settings), "1:paths: nothing would be kept\n");
}

TEST(FilesDoctor, names_what_cannot_be_read_unless_it_is_excluded_V13) {
  Ground ground;
  ground.file("open");
  for (const char* name : {"closed/a", "cache/closed/a"}) {
    ground.file(name);
    ASSERT_EQ(::chmod(folder_of(ground / name).c_str(), 0), 0);
  }
  FilesSettings settings = ground.settings();
  settings.exclude = {"cache"};
  std::string found;
  without_privileges([&] { found = findings(settings); });
  EXPECT_EQ(found,
            fmt::format("0:paths: 1 entries cannot be read as user {}: \"closed\" (Permission denied)\n",
                        user_of_uid(::geteuid())->name));
}

TEST(FilesDoctor, names_a_mount_that_is_missing) {
  Ground ground;
  ground.folder("efs");
  ground.file("fstab", fmt::format("fs-1:/ {} nfs4 defaults 0 0\n", ground / "efs"));
  EXPECT_EQ(findings({.paths = {ground / "efs"}}, {.expected = ground / "fstab", .mounted = ground / "none"}),
            fmt::format("0:{0}: \"{0}\" is not mounted\n", ground / "efs"));
}

}  // namespace
}  // namespace kuramori::files
