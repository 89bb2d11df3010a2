#include "source/git/refs.h"

#include <gtest/gtest.h>

#include "base/time_text.h"
#include "source/git/layout.h"
#include "source/git/lfs.h"
#include "source/git/remote.h"
#include "source/tree/captured_tree_for_tests.h"

namespace kuramori::git {
namespace {

const std::string kA(40, 'a'), kB(40, 'b'), kC(40, 'c');
const Time kNow = parse_moment("2026-11-22T18:50:00Z")->time;

bool never(const Ref&, const Ref&) {
  return false;
}
bool always(const Ref&, const Ref&) {
  return true;
}

// --- addresses
// -----------------------------------------------------------------------------------------------

TEST(GitRemote, what_runs_a_program_or_looks_like_an_option_is_no_address) {
  for (const char* text : {"ext::sh -c 'touch /tmp/x'",
                           "ext::https://host/x",
                           "fd::7",
                           "-uhost:path",
                           "--upload-pack=x",
                           "ssh://-oProxyCommand=x/y",
                           "ssh://-oProxyCommand=x@host/y",
                           "-oProxyCommand=x:y",
                           "user@-oProxyCommand:y",
                           "host:-x",
                           "relative/path",
                           "",
                           "https://",
                           "https://host",
                           "https://host/",
                           "https:///path",
                           "ftp://host/x",
                           "git://user@host/x",
                           "file://relative",
                           "https://host/a\nb",
                           "https://us%0aer@host/x",
                           "https://us%zz@host/x",
                           "https://ho st/x",
                           "ssh://user:secret@host/x"}) {
    const auto remote = parse_remote(text);
    ASSERT_FALSE(remote) << text;
    EXPECT_EQ(remote.error().kind, ErrorKind::kUsage) << text;
    EXPECT_FALSE(remote.error().next.empty());
    EXPECT_EQ((remote.error().what + remote.error().why).find("secret"), std::string::npos) << text;
  }
}

TEST(GitRemote, an_address_is_taken_apart_and_the_password_is_not_in_it) {
  const auto http = parse_remote("https://us%40er:s%3Acret@git.example:8443/team/app.git");
  ASSERT_TRUE(http);
  EXPECT_EQ(http->url, "https://git.example:8443/team/app.git");
  EXPECT_EQ(http->site, "https://git.example:8443");
  EXPECT_EQ(http->user, "us@er");
  EXPECT_EQ(http->password, "s:cret");
  EXPECT_EQ(parse_remote("git@host:team/app.git")->way, Remote::Way::kSsh);
  EXPECT_EQ(parse_remote("ssh://git@host:2222/app")->way, Remote::Way::kSsh);
  EXPECT_EQ(parse_remote("git://host/app")->way, Remote::Way::kGit);
  EXPECT_EQ(parse_remote("/srv/a b.git")->path, "/srv/a b.git");
  EXPECT_EQ(parse_remote("file:///srv/a%20b.git")->path, "/srv/a b.git");
  EXPECT_TRUE(http->is_same_site(*parse_remote("https://git.example:8443/other")));
  EXPECT_FALSE(http->is_same_site(*parse_remote("http://git.example:8443/other")));
  EXPECT_FALSE(parse_remote("/a")->is_same_site(*parse_remote("/b")));
}

// --- lists
// ---------------------------------------------------------------------------------------------------

TEST(GitRefs, a_remote_s_list_is_read_with_its_head) {
  const auto found =
      parse_ls_remote("ref: refs/heads/main\tHEAD\n" + kA + "\tHEAD\n" + kA + "\trefs/heads/main\n" + kB +
                      "\trefs/tags/v1\n" + kC + "\trefs/tags/v1^{}\n" + kB + "\trefs/heads/a\n");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->head, "ref: refs/heads/main");
  EXPECT_EQ(found->refs, (Refs{{"refs/heads/a", kB}, {"refs/heads/main", kA}, {"refs/tags/v1", kB}}));
  EXPECT_EQ(parse_ls_remote(kA + "\tHEAD\n")->head, kA) << "detached";
  EXPECT_EQ(parse_ls_remote("")->head, "");
  EXPECT_FALSE(parse_ls_remote("<html>"));
}

TEST(GitRefs, lists_are_written_and_read_again_in_git_s_own_order) {
  const Refs refs{{"refs/heads/a", kA}, {"refs/heads/a-b", kB}, {"refs/heads/a/b", kC}};
  EXPECT_EQ(*parse_refs(packed_refs(refs, {})), refs);
  EXPECT_FALSE(parse_refs("x refs/heads/a\n"));
  EXPECT_FALSE(parse_refs(kA + " ../../x\n"));
}

TEST(GitRefs, what_vanished_or_moved_elsewhere_than_forward_is_kept_under_its_own_name_I4) {
  const Refs before{{"refs/heads/gone", kA}, {"refs/heads/main", kA}, {"refs/heads/same", kB}};
  const Refs now{{"refs/heads/main", kB}, {"refs/heads/new", kC}, {"refs/heads/same", kB}};
  const Moves moves = moves_between(before, now, {}, kNow, never);
  EXPECT_EQ(moves.to_keep, (Refs{{"refs/kuramori/kept/20261122T185000Z/heads/gone", kA},
                                 {"refs/kuramori/kept/20261122T185000Z/heads/main", kA}}));
  EXPECT_EQ(moves.moved, 1u);
  EXPECT_EQ(moves.gone, 1u);
  EXPECT_EQ(moves_between(before, now, {}, kNow, always).to_keep.size(), 1u) << "forward is no loss";
  // Killed after that and before `seen` moved on: the same again adds nothing.
  EXPECT_TRUE(moves_between(before, now, moves.to_keep, kNow + std::chrono::hours(1), never).to_keep.empty());
}

TEST(GitRefs, two_moves_within_a_second_are_two_names_I4) {
  const Refs kept{{"refs/kuramori/kept/20261122T185000Z/heads/main", kA}};
  const Moves moves = moves_between({{"refs/heads/main", kB}}, {}, kept, kNow, never);
  EXPECT_EQ(moves.to_keep, (Refs{{"refs/kuramori/kept/20261122T185000Z.2/heads/main", kB}}));
}

TEST(GitRefs, a_folder_and_a_file_of_one_name_are_both_kept) {
  // refs/heads/a made way for refs/heads/a/b, and that for a again.
  Refs kept = moves_between({{"refs/heads/a", kA}}, {{"refs/heads/a/b", kB}}, {}, kNow, never).to_keep;
  const Moves later = moves_between({{"refs/heads/a/b", kB}}, {{"refs/heads/a", kA}}, kept,
                                    kNow + std::chrono::seconds(9), never);
  kept = merged(kept, later.to_keep);
  EXPECT_EQ(kept, (Refs{{"refs/kuramori/kept/20261122T185000Z/heads/a", kA},
                        {"refs/kuramori/kept/20261122T185009Z/heads/a/b", kB}}));
}

TEST(GitRefs, a_remote_that_has_kept_refs_of_its_own_takes_none_of_ours) {
  const std::string name = "refs/kuramori/kept/20261122T185000Z/heads/main";
  EXPECT_EQ(merged({{name, kA}}, {{name, kA}}).size(), 1u);
  EXPECT_EQ(merged({{name, kA}}, {{name, kB}}), (Refs{{name, kB}, {name + ".ours", kA}}));
  // What it had of them and has no more is kept by its first name, not by ever longer ones.
  EXPECT_EQ(moves_between({{name, kA}}, {}, {}, kNow, never).to_keep, (Refs{{name, kA}}));
}

// --- pointers
// ------------------------------------------------------------------------------------------------

TEST(GitLfs, a_pointer_is_what_the_specification_says) {
  const std::string oid(64, '7');
  const std::string good = "version https://git-lfs.github.com/spec/v1\noid sha256:" + oid + "\nsize 12345\n";
  EXPECT_EQ(parse_pointer(good), (LfsPointer{oid, 12345}));
  EXPECT_FALSE(parse_pointer("version https://git-lfs.github.com/spec/v1\noid sha256:" + oid + "\n"));
  EXPECT_FALSE(parse_pointer("version https://git-lfs.github.com/spec/v1\noid sha256:" + oid + "\nsize x\n"));
  EXPECT_FALSE(parse_pointer("version https://git-lfs.github.com/spec/v1\noid sha256:../../x\nsize 1\n"));
  EXPECT_FALSE(parse_pointer(good + std::string(2000, ' ')));
  EXPECT_FALSE(parse_pointer("oid sha256:" + oid + "\nsize 1\n"));
}

TEST(GitLfs, a_server_that_only_the_content_names_is_never_spoken_to) {
  const auto settings = lfs_settings(*parse_remote("https://host/team/app"), "");
  ASSERT_TRUE(settings);
  EXPECT_NE(
      std::ranges::find(*settings,
                        std::pair<std::string, std::string>{"lfs.url", "https://host/team/app.git/info/lfs"}),
      settings->end());
  EXPECT_FALSE(lfs_settings(*parse_remote("git://host/app"), ""));
  EXPECT_TRUE(lfs_settings(*parse_remote("git://host/app"), "https://host/lfs"));
}

TEST(GitLfs, what_a_mirror_knows_is_read_again_and_garbage_is_refused) {
  Lfs lfs;
  lfs.scanned = {"pack-" + kA};
  lfs.pointers = {{std::string(64, '1'), 5}};
  const auto again = Lfs::parse(lfs.text());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->text(), lfs.text());
  EXPECT_FALSE(Lfs::parse("pointer x 1\n"));
}

// --- trees
// ---------------------------------------------------------------------------------------------------

TEST(GitLayout, what_would_act_where_it_is_restored_is_refused_V27) {
  const auto with = [](const std::string& path, EntryType type) {
    TreeForTests tree;
    tree.add({.path = "", .type = EntryType::kDirectory});
    tree.add({.path = path,
              .type = type,
              .content = type == EntryType::kFile ? ContentKind::kBytes : ContentKind::kNone});
    return RepositoryTree(tree).visit([](const TreeEntry&) -> Result<void> { return {}; }).has_value();
  };
  const std::string oid =
      "ab"
      "cd" +
      std::string(60, '0');
  for (const std::string& good : {std::string("HEAD"), std::string("packed-refs"),
                                  "objects/pack/pack-" + kA + ".pack", "objects/aa/" + std::string(38, '0'),
                                  "lfs/objects/ab/cd/" + oid, std::string("kuramori/repository.json")})
    EXPECT_TRUE(with(good, EntryType::kFile)) << good;
  for (const std::string& bad :
       {std::string("hooks/post-receive"), std::string("objects/info/alternates"),
        std::string("config.worktree"), std::string("commondir"), std::string("objects/pack/pack-x.pack"),
        std::string("objects/pack/pack-" + kA + ".keep"), "lfs/objects/ab/ce/" + oid,
        std::string("refs/heads/main"), std::string("../HEAD"), std::string("info/attributes")})
    EXPECT_FALSE(with(bad, EntryType::kFile)) << bad;
  EXPECT_FALSE(with("objects", EntryType::kSymlink));
  EXPECT_FALSE(with("hooks", EntryType::kDirectory));
}

TEST(GitLayout, its_configuration_is_ours_whatever_the_tree_says_V27) {
  TreeForTests tree;
  tree.add({.path = "config", .content = ContentKind::kBytes}, "[core]\n\tsshCommand = touch /tmp/x\n");
  EXPECT_EQ(*text_of(RepositoryTree(tree), "config"), config_text("sha1"));
  tree.told["object_format"] = "sha256";
  EXPECT_EQ(*text_of(RepositoryTree(tree), "config"), config_text("sha256"));
}

}  // namespace
}  // namespace kuramori::git
