// Real repositories: what is captured, what survives at the remote's worst, and what comes back.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include "source/git/watch.h"

#include <algorithm>
#include <cstdlib>

#include "source/git/layout.h"
#include "source/git/lfs.h"
#include "source/git/repository_for_tests.h"
#include "source/git/webhook.h"
#include "source/tree/captured_tree_for_tests.h"

namespace kuramori::git {
namespace {

// Says what was said to it.
class Heard final : public Reporter {
 public:
  void phase(std::string_view name, uint64_t) override { phases += fmt::format("{}\n", name); }
  void advance(uint64_t) override {}
  void note(std::string_view text) override { notes += fmt::format("{}\n", text); }
  void warning(std::string_view text) override { warnings += fmt::format("{}\n", text); }
  std::string phases, notes, warnings;
};

struct GitTest : testing::Test {
  TemporaryFolder ground = *TemporaryFolder::make("git-test");
  Heard heard;

  GitSettings settings_of(const std::string& url) { return {.url = url, .mirror = ground / "state/mirror"}; }
  TreeForTests capture(const GitSettings& settings, OpenEarlierTree earlier = {}) {
    auto source = open_git(settings);
    EXPECT_TRUE(source) << source.error().what;
    if (earlier) (*source)->set_earlier(std::move(earlier));
    last_ = capture_of(**source, heard);
    EXPECT_FALSE(last_.error) << last_.error->what << ": " << last_.error->why;
    return TreeForTests(last_);
  }
  Error refusal(const GitSettings& settings) {
    auto source = open_git(settings);
    if (!source) return source.error();
    auto begun = (*source)->capture(heard, {});
    EXPECT_FALSE(begun);
    return begun ? Error{} : begun.error();
  }
  std::string restore(const TreeForTests& tree, const std::string& name) {
    const auto source = *open_git({.mirror = ground / "state/mirror"});
    auto restored = source->restore(tree, {.to = ground / name}, heard, {});
    EXPECT_TRUE(restored) << restored.error().what << restored.error().why;
    return ground / name;
  }
  Result<SourceRestoreOutcome> push(const TreeForTests& tree, const SourceRestoreRequest& request) {
    const auto source = *open_git({.mirror = ground / "state/mirror"});
    return source->restore(tree, request, heard, {});
  }
  std::string verdicts(const TreeForTests& tree) {
    const TemporaryFolder sandbox = *TemporaryFolder::make("sandbox", ground.path());
    const auto source = *open_git({.mirror = ground / "state/mirror"});
    auto checks = source->drill(tree, sandbox.path(), silent_reporter(), {});
    if (!checks) return checks.error().what;
    std::string all;
    for (const CheckResult& check : *checks)
      all += check.verdict == "passed" ? "" : check.name + ": " + check.verdict + "; " + check.detail;
    return all;
  }
  static std::string kept_of(const std::string& repository) {
    return run_git({"for-each-ref", "--format=%(objectname)", "refs/kuramori/kept"}, repository).output;
  }
  // A tree that says what was read, for the mirror that is made from it.
  static OpenEarlierTree earlier_of(const TreeForTests& tree) {
    struct Borrowed final : CapturedTree {
      explicit Borrowed(const TreeForTests& from) : of(from) {}
      Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& act) const override {
        return of.visit(act);
      }
      Result<void> read(std::string_view path, ContentSink& sink) const override {
        return of.read(path, sink);
      }
      const std::map<std::string, std::string>& facts() const override { return of.facts(); }
      const TreeForTests& of;
    };
    return [&tree]() -> Result<std::unique_ptr<CapturedTree>> { return std::make_unique<Borrowed>(tree); };
  }
  files::Captured last_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// --- what the remote does
// ------------------------------------------------------------------------------------

TEST_F(GitTest, a_force_push_and_a_deletion_survive_and_fsck_is_clean_I4) {
  const RepositoryForTests remote(ground / "remote");
  const std::string old = remote.commit("main", "to be forced away"),
                    topic = remote.commit("topic", "to be deleted");
  remote.git({"tag", "v1", old});
  capture(settings_of(remote.path()));
  const std::string now = remote.commit("main", "another history", remote.root());
  remote.git({"update-ref", "-d", "refs/heads/topic"});
  remote.git({"tag", "-f", "v1", now});
  // At the remote they are really gone.
  remote.git({"reflog", "expire", "--expire=now", "--all"});
  remote.git({"gc", "--quiet", "--prune=now"});
  ASSERT_FALSE(run_git({"cat-file", "-e", old}, remote.path()).exit.ok());
  const TreeForTests tree = capture(settings_of(remote.path()));
  EXPECT_TRUE(last_.defects.empty());
  EXPECT_EQ(tree.told.at("refs_kept"), "3") << "main, topic and the tag that moved";
  const std::string back = restore(tree, "back");
  EXPECT_EQ(run_git({"rev-parse", "refs/heads/main"}, back).output, now + "\n");
  for (const std::string& oid : {old, topic}) EXPECT_TRUE(contains(kept_of(back), oid));
  EXPECT_TRUE(run_git({"fsck", "--full", "--strict"}, back).exit.ok());
  run_git({"gc", "--quiet", "--prune=now"}, back);
  EXPECT_TRUE(run_git({"cat-file", "-e", old}, back).exit.ok()) << "whoever collects there keeps it";
  EXPECT_EQ(verdicts(tree), "");
}

TEST_F(GitTest, what_did_not_move_is_not_fetched_and_looks_as_before) {
  const RepositoryForTests remote(ground / "remote");
  capture(settings_of(remote.path()));
  const files::Captured first = last_;
  heard.phases = "";
  capture(settings_of(remote.path()));
  EXPECT_FALSE(contains(heard.phases, "fetching"));
  ASSERT_EQ(first.entries.size(), last_.entries.size());
  for (size_t i = 0; i < first.entries.size(); ++i) {
    const CaptureItem &a = first.entries[i].item, &b = last_.entries[i].item;
    EXPECT_EQ(a.entry, b.entry) << a.entry.path;
    EXPECT_EQ(a.inode, b.inode);
    EXPECT_EQ(a.ctime_ns, b.ctime_ns);
    EXPECT_NE(a.ctime_ns, 0);
  }
  // Forward is no loss, and old packs stay as they were.
  remote.commit("main", "forward");
  capture(settings_of(remote.path()));
  EXPECT_EQ(last_.facts.at("refs_kept"), "0");
  size_t as_before = 0;
  for (const files::Kept& kept : first.entries) {
    const files::Kept* now = last_.find(kept.item.entry.path);
    if (kept.item.entry.path.ends_with(".pack")) {
      ASSERT_NE(now, nullptr);
      as_before += now->item.ctime_ns == kept.item.ctime_ns && now->item.inode == kept.item.inode ? 1 : 0;
    }
  }
  EXPECT_EQ(as_before, 1u);
}

TEST_F(GitTest, a_watch_tells_when_refs_move_and_when_the_remote_goes_away_I4) {
  using namespace std::chrono_literals;
  RepositoryForTests remote(ground / "remote.git");
  auto watch = *watch_git(settings_of(remote.path()), 50ms);
  EXPECT_FALSE(*watch->wait(300ms, {})) << "nothing moved";
  remote.commit("main", "the second");
  EXPECT_TRUE(*watch->wait(20s, {})) << "a branch moved";
  EXPECT_FALSE(*watch->wait(300ms, {}));
  remote.git({"tag", "v1", "main"});
  EXPECT_TRUE(*watch->wait(20s, {})) << "a tag came";
  remote.git({"update-ref", "refs/heads/main", remote.root()});
  EXPECT_TRUE(*watch->wait(20s, {})) << "history was forced back";
  ASSERT_EQ(::rename(remote.path().c_str(), (ground / "away").c_str()), 0);
  EXPECT_TRUE(*watch->wait(20s, {})) << "it is away: the capture will say so";
  EXPECT_FALSE(*watch->wait(300ms, {})) << "and still is";
  ASSERT_EQ(::rename((ground / "away").c_str(), remote.path().c_str()), 0);
  EXPECT_TRUE(*watch->wait(20s, {})) << "it is back";
  std::stop_source stop;
  stop.request_stop();
  EXPECT_FALSE(*watch->wait(1h, stop.get_token()));
}

TEST_F(GitTest, a_call_of_the_webhook_is_judged_by_its_signature) {
  // The example of GitHub's documentation.
  const std::string secret = "It's a Secret to Everybody",
                    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
  const auto status = [&](std::vector<HttpHeader> headers, const std::string& body = "Hello, World!") {
    ServerRequest request{.headers = std::move(headers)};
    append(request.body, as_bytes(body));
    return judge_hook(request, secret).status;
  };
  for (const char* name : {"x-hub-signature-256", "x-hub-signature"}) {
    EXPECT_EQ(status({{name, "sha256=" + digest}}), 202);
    EXPECT_EQ(status({{name, "sha256=" + digest}}, "Hello, World?"), 403);
    EXPECT_EQ(status({{name, "sha256=" + digest.substr(1)}}), 403);
    EXPECT_EQ(status({{name, "sha256="}}), 403);
    EXPECT_EQ(status({{name, digest}}), 401);
  }
  for (const char* name : {"x-gitea-signature", "x-gogs-signature"}) {
    EXPECT_EQ(status({{name, digest}}), 202);
    EXPECT_EQ(status({{name, digest + "0"}}), 403);
  }
  EXPECT_EQ(status({{"x-gitlab-token", secret}}), 202);
  EXPECT_EQ(status({{"x-gitlab-token", secret + "!"}}), 403);
  EXPECT_EQ(status({{"x-hub-signature", "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59"}}), 401);
  EXPECT_EQ(status({{"authorization", "Bearer " + secret}}), 401);
  EXPECT_EQ(status({}), 401);
  // The strongest that is given decides: a right token does not help a wrong signature.
  EXPECT_EQ(status({{"x-hub-signature-256", "sha256=00"}, {"x-gitlab-token", secret}}), 403);
}

TEST_F(GitTest, a_watch_asks_at_once_when_the_webhook_is_called_and_for_nobody_else_I4) {
  using namespace std::chrono_literals;
  RepositoryForTests remote(ground / "remote.git");
  GitSettings settings = settings_of(remote.path());
  settings.webhook =
      WebhookSettings{.listen = "127.0.0.1:0", .path = "/hooks/app", .secret = "sixteen bytes and more"};
  auto watch = *watch_git(settings, 1h);
  const std::string how = watch->how(),
                    url = how.substr(how.find("http://"), how.rfind(" is called") - how.find("http://"));
  const auto call = [&](const std::string& token, const std::string& where = "") {
    return *run_checked({.argv = {"curl", "-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}",
                                  "-d", "{}", "-H", "X-Gitlab-Token: " + token, url + where}});
  };
  remote.commit("main", "second");
  EXPECT_EQ(call("sixteen bytes and less"), "403");
  EXPECT_EQ(call(settings.webhook->secret, "/other"), "404");
  EXPECT_FALSE(*watch->wait(700ms, {})) << "nobody who may has called";
  EXPECT_EQ(call(settings.webhook->secret), "202");
  EXPECT_TRUE(*watch->wait(20s, {}));
  // A call that lies costs a question, and many at once hardly more.
  for (int i = 0; i < 20; ++i) EXPECT_EQ(call(settings.webhook->secret), "202");
  EXPECT_FALSE(*watch->wait(2s, {})) << "nothing moved";
  remote.commit("main", "third");
  EXPECT_EQ(call(settings.webhook->secret), "202");
  EXPECT_TRUE(*watch->wait(20s, {}));
  // One port, one listener.
  settings.webhook->listen = url.substr(7, url.find('/', 7) - 7);
  auto second = watch_git(settings, 1h);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().why.find("in use"), std::string::npos) << second.error().why;
}

TEST_F(GitTest, doctor_tells_of_a_webhook_that_others_can_listen_to) {
  RepositoryForTests remote(ground / "remote.git");
  const auto told = [&](const std::string& listen) {
    GitSettings settings = settings_of(remote.path());
    settings.webhook = WebhookSettings{.listen = listen, .secret = "sixteen bytes and more"};
    const auto findings = *(*open_git(settings))->doctor();
    return std::ranges::any_of(findings,
                               [](const SourceFinding& finding) { return finding.about == "webhook"; });
  };
  EXPECT_TRUE(told("0.0.0.0:8787"));
  EXPECT_FALSE(told("127.0.0.1:8787"));
}

TEST_F(GitTest, a_webhook_that_cannot_be_meant_is_refused) {
  for (const WebhookSettings& bad :
       {WebhookSettings{.secret = "sixteen bytes and more"}, WebhookSettings{.listen = "127.0.0.1:0"},
        WebhookSettings{.listen = "127.0.0.1:0", .secret = "short"},
        WebhookSettings{.listen = "127.0.0.1:0", .path = "hook", .secret = "sixteen bytes and more"},
        WebhookSettings{.listen = "127.0.0.1:0", .secret = "sixteen bytes and more", .key_file = "/k"}}) {
    GitSettings settings = settings_of("/srv/app.git");
    settings.webhook = bad;
    auto source = open_git(settings);
    ASSERT_FALSE(source);
    EXPECT_EQ(source.error().kind, ErrorKind::kUsage);
    EXPECT_NE(source.error().next, "");
  }
}

TEST_F(GitTest, a_lost_mirror_comes_back_from_the_snapshot_before_with_what_the_remote_forgot_I4) {
  const RepositoryForTests remote(ground / "remote");
  const std::string old = remote.commit("main", "old");
  capture(settings_of(remote.path()));
  remote.commit("main", "new", remote.root());
  const TreeForTests before = capture(settings_of(remote.path()));
  remote.git({"reflog", "expire", "--expire=now", "--all"});
  remote.git({"gc", "--quiet", "--prune=now"});
  ASSERT_TRUE(remove_tree(ground / "state"));
  remote.commit("main", "newer");
  const TreeForTests tree = capture(settings_of(remote.path()), earlier_of(before));
  EXPECT_TRUE(last_.defects.empty());
  EXPECT_TRUE(contains(kept_of(restore(tree, "back")), old));
  EXPECT_EQ(verdicts(tree), "");
  // Its packs are those of the snapshot before: nothing of them is read again.
  for (const files::Kept& kept : before.entries) {
    if (kept.item.entry.path.ends_with(".pack")) {
      EXPECT_NE(last_.find(kept.item.entry.path), nullptr);
    }
  }
}

TEST_F(GitTest, a_lost_mirror_that_no_snapshot_can_be_read_for_is_a_partial_snapshot) {
  const RepositoryForTests remote(ground / "remote");
  capture(settings_of(remote.path()), []() -> Result<std::unique_ptr<CapturedTree>> {
    return fail(ErrorKind::kRefused, "this key may add and not read");
  });
  ASSERT_EQ(last_.defects.size(), 1u);
  EXPECT_TRUE(contains(last_.defects[0].why, "may add and not read"));
  capture(settings_of(remote.path()));
  EXPECT_TRUE(last_.defects.empty());
  // A vault that does not answer is another matter: nothing is begun anew for it.
  ASSERT_TRUE(remove_tree(ground / "state"));
  const auto source = *open_git(settings_of(remote.path()));
  source->set_earlier(
      []() -> Result<std::unique_ptr<CapturedTree>> { return fail(ErrorKind::kUnknown, "no answer"); });
  const auto begun = source->capture(heard, {});
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().kind, ErrorKind::kUnknown);
}

TEST_F(GitTest, a_remote_that_is_emptied_or_replaced_is_told_and_all_is_kept_I4) {
  const std::string old = [&] {
    const RepositoryForTests remote(ground / "remote");
    const std::string tip = remote.commit("main", "precious");
    capture(settings_of(remote.path()));
    return tip;
  }();
  ASSERT_TRUE(remove_tree(ground / "remote"));
  run_git({"init", "--quiet", "--bare", ground / "remote"});
  TreeForTests tree = capture(settings_of(ground / "remote"));
  EXPECT_TRUE(contains(heard.warnings, "replaced or removed"));
  EXPECT_EQ(tree.told.at("refs"), "0");
  EXPECT_TRUE(contains(kept_of(restore(tree, "emptied")), old));
  EXPECT_EQ(verdicts(tree), "");
  ASSERT_TRUE(remove_tree(ground / "remote"));
  const RepositoryForTests other(ground / "remote");
  const std::string now = other.commit("main", "another history altogether");
  tree = capture(settings_of(ground / "remote"));
  const std::string back = restore(tree, "replaced");
  EXPECT_TRUE(contains(kept_of(back), old));
  EXPECT_EQ(run_git({"rev-parse", "refs/heads/main"}, back).output, now + "\n");
}

TEST_F(GitTest, a_name_that_was_a_branch_and_becomes_a_folder_of_branches) {
  const RepositoryForTests remote(ground / "remote");
  const std::string old = remote.commit("a", "one");
  capture(settings_of(remote.path()));
  remote.git({"update-ref", "-d", "refs/heads/a"});
  remote.commit("a/b", "two");
  const TreeForTests tree = capture(settings_of(remote.path()));
  EXPECT_TRUE(contains(kept_of(restore(tree, "back")), old));
  remote.git({"update-ref", "-d", "refs/heads/a/b"});
  remote.commit("a", "three");
  EXPECT_EQ(capture(settings_of(remote.path())).told.at("refs_kept"), "2");
}

TEST_F(GitTest, refs_of_any_name_and_HEAD_as_it_is) {
  const RepositoryForTests remote(ground / "remote");
  const std::string tip = remote.tip("main");
  const std::vector<std::string> names = {"refs/heads/-dash",
                                          "refs/heads/日本語",
                                          "refs/heads/with'quote",
                                          "refs/heads/$(x)",
                                          "refs/pull/1/head",
                                          "refs/notes/commits",
                                          "refs/heads/refs/heads/x",
                                          "refs/kuramori/other",
                                          "refs/heads/a;b|c&d",
                                          "refs/stash",
                                          "refs/heads/" + std::string(200, 'x')};
  for (const std::string& name : names) remote.git({"update-ref", name, tip});
  remote.git({"tag", "-a", "-m", "annotated", "v1", tip});
  remote.git({"branch", "-m", "main", "trunk"});
  remote.git({"symbolic-ref", "HEAD", "refs/heads/trunk"});
  std::string back = restore(capture(settings_of(remote.path())), "back");
  for (const std::string& name : names)
    EXPECT_EQ(run_git({"rev-parse", "--verify", "--end-of-options", name}, back).output, tip + "\n") << name;
  EXPECT_EQ(kuramori::text_of(back + "/HEAD"), "ref: refs/heads/trunk\n");
  EXPECT_EQ(run_git({"cat-file", "-t", "refs/tags/v1"}, back).output, "tag\n");
  EXPECT_TRUE(run_git({"clone", "--quiet", back, ground / "clone"}).exit.ok());
  remote.git({"update-ref", "--no-deref", "HEAD", tip});
  back = restore(capture(settings_of(remote.path())), "detached");
  EXPECT_EQ(kuramori::text_of(back + "/HEAD"), tip + "\n");
  EXPECT_EQ(last_.facts.at("refs_kept"), "0");
}

TEST_F(GitTest, an_empty_repository_and_one_of_sha256) {
  run_git({"init", "--quiet", "--bare", "--object-format=sha256", ground / "remote"});
  TreeForTests tree = capture(settings_of(ground / "remote"));
  EXPECT_EQ(tree.told.at("refs"), "0");
  EXPECT_EQ(verdicts(tree), "");
  restore(tree, "empty");
  ASSERT_TRUE(remove_tree(ground / "remote"));
  const RepositoryForTests remote(ground / "remote", "sha256");
  tree = capture(settings_of(remote.path()));
  EXPECT_EQ(tree.told.at("object_format"), "sha256");
  EXPECT_EQ(verdicts(tree), "");
  EXPECT_EQ(run_git({"rev-parse", "refs/heads/main"}, restore(tree, "back")).output,
            remote.tip("main") + "\n");
  // Afterwards it is another: one repository cannot hold both.
  ASSERT_TRUE(remove_tree(ground / "remote"));
  const RepositoryForTests other(ground / "remote");
  EXPECT_EQ(refusal(settings_of(other.path())).kind, ErrorKind::kRefused);
}

TEST_F(GitTest, objects_that_a_repository_borrows_are_in_the_snapshot) {
  const RepositoryForTests lender(ground / "lender");
  lender.commit("main", "lent");
  ASSERT_TRUE(
      run_git({"clone", "--quiet", "--bare", "--shared", lender.path(), ground / "borrower"}).exit.ok());
  const TreeForTests tree = capture(settings_of(ground / "borrower"));
  ASSERT_TRUE(remove_tree(lender.path()));
  EXPECT_TRUE(run_git({"fsck", "--full"}, restore(tree, "back")).exit.ok());
}

TEST_F(GitTest, a_shallow_clone_is_refused_in_words) {
  const RepositoryForTests remote(ground / "remote");
  remote.commit("main", "second");
  ASSERT_TRUE(
      run_git({"clone", "--quiet", "--bare", "--depth=1", "file://" + remote.path(), ground / "shallow"})
          .exit.ok());
  const Error error = refusal(settings_of(ground / "shallow"));
  EXPECT_EQ(error.kind, ErrorKind::kRefused);
  EXPECT_TRUE(contains(error.next, "--unshallow"));
  EXPECT_EQ(refusal(settings_of(ground / "shallow")).kind, ErrorKind::kRefused) << "the second time too";
}

TEST_F(GitTest, a_history_that_fsck_dislikes_is_kept_and_told) {
  const RepositoryForTests remote(ground / "remote");
  const std::string blob = remote.git({"hash-object", "-w", "--stdin"}, "x");
  // One name twice: every strict receiver refuses it, and somebody's old program made it.
  std::string raw;
  for (int i = 0; i < 2; ++i) {
    raw += "100644 twice";
    raw.push_back('\0');
    raw += as_text(*from_hex(blob));
  }
  const std::string tree = remote.git({"hash-object", "--literally", "-t", "tree", "-w", "--stdin"}, raw);
  const std::string bad = remote.git({"commit-tree", tree, "-m", "bad"});
  remote.git({"update-ref", "refs/heads/bad", bad});
  const TreeForTests captured = capture(settings_of(remote.path()));
  EXPECT_TRUE(contains(heard.warnings, "kept as they are"));
  EXPECT_EQ(captured.told.at("fsck_lenient"), "yes");
  EXPECT_EQ(run_git({"rev-parse", "refs/heads/bad"}, restore(captured, "back")).output, bad + "\n");
  EXPECT_TRUE(contains(verdicts(captured), "bounded")) << verdicts(captured);
  // Damage is no old habit.
  TreeForTests damaged = captured;
  for (files::Kept& kept : damaged.entries) {
    if (kept.item.entry.path.ends_with(".pack")) kept.bytes[kept.bytes.size() / 2] ^= 1;
  }
  EXPECT_TRUE(contains(verdicts(damaged), "failed"));
}

// --- the mirror
// ----------------------------------------------------------------------------------------------

TEST_F(GitTest, many_packs_are_joined_and_no_object_is_lost) {
  const RepositoryForTests remote(ground / "remote");
  std::vector<std::string> forced;
  for (int i = 0; i < 30; ++i) {
    forced.push_back(remote.commit("main", fmt::format("history {}", i), remote.root()));
    capture(settings_of(remote.path()));
  }
  EXPECT_LE(std::stoul(last_.facts.at("packs")), 24u);
  EXPECT_EQ(last_.facts.at("refs_kept"), "29");
  const std::string back = restore(TreeForTests(last_), "back");
  for (const std::string& oid : forced) EXPECT_TRUE(run_git({"cat-file", "-e", oid}, back).exit.ok()) << oid;
  EXPECT_EQ(verdicts(TreeForTests(last_)), "");
}

TEST_F(GitTest, what_a_killed_run_left_is_cleared_and_a_damaged_mirror_is_named) {
  const RepositoryForTests remote(ground / "remote");
  const GitSettings settings = settings_of(remote.path());
  capture(settings);
  const std::string mirror = settings.mirror + "/repository";
  for (const char* left : {"/objects/pack/tmp_pack_x1", "/objects/pack/pack-1.keep", "/packed-refs.lock",
                           "/packed-refs.new", "/refs/heads/main.lock", "/HEAD.lock", "/shallow.lock"}) {
    ASSERT_TRUE(make_folders(folder_of(mirror + left)));
    ASSERT_TRUE(write_file_durably(mirror + left, as_bytes("x")));
  }
  ASSERT_TRUE(make_folders(mirror + "/objects/incoming-x"));
  remote.commit("main", "more");
  TreeForTests tree = capture(settings);
  EXPECT_EQ(verdicts(tree), "");
  EXPECT_FALSE(*status_if_there(mirror + "/objects/pack/tmp_pack_x1"));
  // A mirror that says of itself nothing is made again.
  ASSERT_TRUE(write_file_durably(settings.mirror + "/state", as_bytes("version=9\n")));
  EXPECT_EQ(verdicts(capture(settings, earlier_of(tree))), "");
  for (const char* garbled : {"/seen", "/kept", "/lfs"}) {
    const TreeForTests before = TreeForTests(last_);
    ASSERT_TRUE(write_file_durably(settings.mirror + garbled, as_bytes("garbage\n")));
    EXPECT_EQ(verdicts(capture(settings, earlier_of(before))), "") << garbled;
  }
  const auto packs = list_folder(mirror + "/objects/pack");
  for (const FolderEntry& pack : *packs) {
    if (!pack.name.ends_with(".pack")) continue;
    const std::string path = mirror + "/objects/pack/" + pack.name;
    ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
    ASSERT_EQ(::truncate(path.c_str(), 40), 0);
  }
  remote.commit("main", "on top of what is broken");
  const TreeForTests before = TreeForTests(last_);
  const TreeForTests again = capture(settings, earlier_of(before));
  EXPECT_EQ(verdicts(again), "") << "made again from the snapshot before";
  EXPECT_TRUE(contains(heard.warnings, "damaged"));
}

TEST_F(GitTest, a_flipped_bit_in_the_mirror_is_in_no_snapshot) {
  const RepositoryForTests remote(ground / "remote");
  const GitSettings settings = settings_of(remote.path());
  const TreeForTests before = capture(settings);
  const auto packs = list_folder(settings.mirror + "/repository/objects/pack");
  for (const FolderEntry& pack : *packs) {
    if (!pack.name.ends_with(".pack")) continue;
    const std::string path = settings.mirror + "/repository/objects/pack/" + pack.name;
    Bytes bytes = *read_file(path);
    bytes[bytes.size() / 2] ^= 1;
    ASSERT_TRUE(write_file_durably(path, bytes));
  }
  const auto source = *open_git(settings);
  last_ = capture_of(*source, heard);
  ASSERT_TRUE(last_.error);
  EXPECT_EQ(last_.error->kind, ErrorKind::kDamaged);
  EXPECT_EQ(verdicts(capture(settings, earlier_of(before))), "") << "made anew";
}

TEST_F(GitTest, killed_between_kept_and_seen_nothing_is_kept_twice) {
  const RepositoryForTests remote(ground / "remote");
  const GitSettings settings = settings_of(remote.path());
  remote.commit("main", "old");
  capture(settings);
  const std::string seen = kuramori::text_of(settings.mirror + "/seen");
  remote.commit("main", "new", remote.root());
  capture(settings);
  ASSERT_TRUE(write_file_durably(settings.mirror + "/seen", as_bytes(seen)));
  const TreeForTests tree = capture(settings);
  EXPECT_EQ(tree.told.at("refs_kept"), "1");
  EXPECT_EQ(verdicts(tree), "");
}

TEST_F(GitTest, ten_thousand_refs_are_no_matter) {
  const RepositoryForTests remote(ground / "remote");
  std::string commands;
  for (int i = 0; i < 10'000; ++i)
    commands += fmt::format("create refs/heads/many/{} {}\n", i, remote.root());
  remote.git({"update-ref", "--stdin"}, commands);
  remote.git({"pack-refs", "--all"});
  TreeForTests tree = capture(settings_of(remote.path()));
  EXPECT_EQ(tree.told.at("refs"), "10001");
  commands.clear();
  for (int i = 0; i < 10'000; ++i) commands += fmt::format("delete refs/heads/many/{}\n", i);
  remote.git({"update-ref", "--stdin"}, commands);
  tree = capture(settings_of(remote.path()));
  EXPECT_EQ(tree.told.at("refs"), "1");
  EXPECT_EQ(tree.told.at("refs_kept"), "10000");
  EXPECT_EQ(verdicts(tree), "");
}

// --- what is not trusted
// ---------------------------------------------------------------------------------------

TEST_F(GitTest, neither_the_user_s_configuration_nor_the_repository_s_acts) {
  const RepositoryForTests remote(ground / "remote");
  const std::string trap = ground / "trapped", home = ground / "home";
  const std::string script = ground / "trap";
  ASSERT_TRUE(write_file_durably(script, as_bytes("#!/bin/sh\ntouch '" + trap + "'\nexit 1\n"), 0700));
  ASSERT_TRUE(make_folders(home));
  const std::string hostile = fmt::format(
      "[core]\n\tfsmonitor = {0}\n\tsshCommand = {0}\n\tpager = {0}\n\talternateRefsCommand = "
      "{0}\n[credential]\n\thelper = {0}\n"
      "[uploadpack]\n\tpackObjectsHook = {0}\n[url \"ext::{0} \"]\n\tinsteadOf = /\n[protocol]\n\tallow = "
      "always\n",
      script);
  ASSERT_TRUE(write_file_durably(home + "/.gitconfig", as_bytes(hostile)));
  remote.git({"config", "core.fsmonitor", script});
  remote.git({"config", "core.alternateRefsCommand", script});
  remote.git({"config", "uploadpack.packObjectsHook", script});
  for (const char* hook : {"reference-transaction", "post-update", "pre-receive", "post-checkout"}) {
    ASSERT_TRUE(make_folders(remote.path() + "/hooks"));
    ASSERT_TRUE(write_file_durably(remote.path() + "/hooks/" + hook,
                                   as_bytes("#!/bin/sh\ntouch '" + trap + "'\n"), 0700));
  }
  const std::pair<const char*, std::string> variables[] = {
      {"HOME", home},
      {"GIT_CONFIG_GLOBAL", home + "/.gitconfig"},
      {"GIT_SSH_COMMAND", script},
      {"GIT_EXTERNAL_DIFF", script},
      {"GIT_EXEC_PATH", ground.path()},
      {"GIT_DIR", ground / "elsewhere"},
      {"GIT_ALTERNATE_OBJECT_DIRECTORIES", ground / "elsewhere"}};
  std::vector<std::pair<std::string, std::optional<std::string>>> before;
  for (const auto& [name, value] : variables) {
    const char* was = std::getenv(name);
    before.emplace_back(name, was == nullptr ? std::nullopt : std::optional<std::string>(was));
    ::setenv(name, value.c_str(), 1);
  }
  const TreeForTests tree = capture(settings_of(remote.path()));
  const std::string failed = verdicts(tree);
  for (const auto& [name, value] : before)
    value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  EXPECT_EQ(failed, "");
  EXPECT_FALSE(*status_if_there(trap));
  EXPECT_EQ(tree.told.at("refs"), "1");
}

// --- LFS
// -------------------------------------------------------------------------------------------------------

struct LfsTest : GitTest {
  RepositoryForTests remote{ground / "remote"};
  // A pointer in the history, and its object where git-lfs keeps it.
  std::string add(const std::string& content, bool with_object = true) {
    const std::string oid = sha256(as_bytes(content)).hex();
    remote.commit("main",
                  fmt::format("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n", oid,
                              content.size()),
                  "", "big.bin");
    if (with_object) {
      const std::string path = join_path(remote.path(), lfs_path(oid));
      EXPECT_TRUE(make_folders(folder_of(path)));
      EXPECT_TRUE(write_file_durably(path, as_bytes(content)));
    }
    return oid;
  }
};

TEST_F(LfsTest, objects_come_along_also_those_of_a_history_that_is_forced_away) {
  ASSERT_TRUE(Git::lfs_version()) << "git-lfs is a package of the tests";
  const std::string first = add("the first large file"), second = add(std::string(300'000, 'b'));
  TreeForTests tree = capture(settings_of(remote.path()));
  EXPECT_TRUE(last_.defects.empty()) << last_.defects[0].why;
  EXPECT_EQ(tree.told.at("lfs_objects"), "2");
  remote.commit("main", "without", remote.root());
  ASSERT_TRUE(remove_tree(remote.path() + "/lfs"));
  tree = capture(settings_of(remote.path()));
  EXPECT_TRUE(last_.defects.empty());
  EXPECT_EQ(verdicts(tree), "");
  const std::string back = restore(tree, "back");
  EXPECT_EQ(sha256_text(join_path(back, lfs_path(first))), first);
  EXPECT_EQ(sha256_text(join_path(back, lfs_path(second))), second);
  // A flipped bit in one is seen by the drill.
  for (files::Kept& kept : tree.entries) {
    if (kept.item.entry.path == lfs_path(second)) kept.bytes[7] ^= 1;
  }
  EXPECT_TRUE(contains(verdicts(tree), "LFS objects are what their names say: failed"));
}

TEST_F(LfsTest, an_object_that_is_nowhere_makes_the_snapshot_partial_and_is_fetched_when_it_is_there) {
  const std::string oid = add("nobody pushed it", false);
  TreeForTests tree = capture(settings_of(remote.path()));
  ASSERT_EQ(last_.defects.size(), 1u);
  EXPECT_EQ(last_.defects[0].path, lfs_path(oid));
  EXPECT_FALSE(last_.defects[0].why.empty());
  EXPECT_TRUE(contains(verdicts(tree), "bounded"));
  ASSERT_TRUE(make_folders(folder_of(join_path(remote.path(), lfs_path(oid)))));
  ASSERT_TRUE(write_file_durably(join_path(remote.path(), lfs_path(oid)), as_bytes("nobody pushed it")));
  tree = capture(settings_of(remote.path()));
  EXPECT_TRUE(last_.defects.empty());
  EXPECT_EQ(verdicts(tree), "");
}

TEST_F(LfsTest, an_object_that_is_not_what_its_name_says_is_no_object) {
  const std::string oid = add("what it should be");
  const GitSettings settings = settings_of(remote.path());
  capture(settings);
  const std::string path = join_path(settings.mirror + "/repository", lfs_path(oid));
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  ASSERT_TRUE(write_file_durably(path, as_bytes("what it shouldn't")));
  capture(settings);
  ASSERT_EQ(last_.defects.size(), 1u);
  EXPECT_FALSE(*status_if_there(path)) << "it is fetched again";
  const TreeForTests tree = capture(settings);
  EXPECT_EQ(verdicts(tree), "");
}

TEST_F(LfsTest, without_lfs_it_is_told_and_nothing_is_fetched) {
  add("large");
  GitSettings settings = settings_of(remote.path());
  settings.lfs = LfsMode::kOff;
  const TreeForTests tree = capture(settings);
  EXPECT_TRUE(last_.defects.empty());
  EXPECT_EQ(tree.told.at("lfs"), "left out");
  EXPECT_EQ(tree.told.at("lfs_objects"), "0");
  EXPECT_TRUE(contains(verdicts(tree), "bounded"));
}

// --- back
// --------------------------------------------------------------------------------------------------------

TEST_F(LfsTest, pushed_to_an_empty_remote_with_kept_refs_and_LFS_I4) {
  const std::string oid = add("a large file"), old = remote.tip("main");
  capture(settings_of(remote.path()));
  remote.commit("main", "other", remote.root());
  const TreeForTests tree = capture(settings_of(remote.path()));
  const std::string target = ground / "target";
  run_git({"init", "--quiet", "--bare", target});
  auto pushed = push(tree, {.to = "file://" + target});
  ASSERT_TRUE(pushed) << pushed.error().what << pushed.error().why;
  const auto refs = [&](const std::string& path) {
    return run_git({"for-each-ref", "--format=%(objectname) %(refname)"}, path).output;
  };
  EXPECT_EQ(refs(target), refs(restore(tree, "folder")));
  EXPECT_TRUE(contains(kept_of(target), old));
  EXPECT_EQ(sha256_text(join_path(target, lfs_path(oid))), oid);
  EXPECT_TRUE(run_git({"fsck", "--full"}, target).exit.ok());
  // Nothing of the work is left.
  const auto left = list_folder(ground / "state");
  for (const FolderEntry& entry : *left) EXPECT_FALSE(entry.name.starts_with("restore-")) << entry.name;
}

TEST_F(GitTest, a_remote_with_something_in_it_is_refused_and_kept_when_it_is_overwritten) {
  const RepositoryForTests remote(ground / "remote"), target(ground / "target");
  remote.commit("main", "ours");
  const std::string theirs = target.commit("main", "theirs"), topic = target.commit("topic", "their topic");
  const TreeForTests tree = capture(settings_of(remote.path()));
  auto refused = push(tree, {.to = "file://" + target.path()});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_TRUE(contains(refused.error().next, "--overwrite"));
  EXPECT_EQ(target.tip("main"), theirs);
  auto pushed = push(tree, {.to = "file://" + target.path(), .overwrite = true});
  ASSERT_TRUE(pushed) << pushed.error().what << pushed.error().why;
  EXPECT_EQ(target.tip("main"), remote.tip("main"));
  EXPECT_FALSE(target.has("refs/heads/topic"));
  const std::string replaced =
      target.git({"for-each-ref", "--format=%(objectname)", "refs/kuramori/replaced"});
  EXPECT_TRUE(contains(replaced, theirs) && contains(replaced, topic)) << replaced;
  EXPECT_FALSE(pushed->moved_aside.empty());
}

TEST_F(GitTest, refs_that_a_remote_refuses_are_named) {
  const RepositoryForTests remote(ground / "remote");
  remote.commit("main", "old");
  capture(settings_of(remote.path()));
  remote.commit("main", "new", remote.root());
  const TreeForTests tree = capture(settings_of(remote.path()));
  const std::string target = ground / "target";
  run_git({"init", "--quiet", "--bare", target});
  run_git({"config", "receive.hideRefs", "refs/kuramori"}, target);
  auto pushed = push(tree, {.to = "file://" + target});
  ASSERT_TRUE(pushed) << pushed.error().what << pushed.error().why;
  std::string notes;
  for (const std::string& note : pushed->notes) notes += note;
  EXPECT_TRUE(contains(notes, "refs/kuramori/kept")) << notes;
  EXPECT_EQ(run_git({"rev-parse", "refs/heads/main"}, target).output, remote.tip("main") + "\n");
  run_git({"init", "--quiet", "--bare", ground / "locked"});
  run_git({"config", "receive.hideRefs", "refs/heads"}, ground / "locked");
  pushed = push(tree, {.to = "file://" + (ground / "locked")});
  ASSERT_FALSE(pushed);
  EXPECT_EQ(pushed.error().kind, ErrorKind::kPartial);
}

TEST_F(LfsTest, some_refs_bring_what_they_lead_to_and_nothing_else) {
  const std::string oid = add("large, and on main alone");
  const std::string secret = remote.commit("secret", "not for everybody", remote.root());
  const TreeForTests tree = capture(settings_of(remote.path()));
  auto restored = push(tree, {.to = ground / "some", .only = {"refs/heads/main"}});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  EXPECT_EQ(run_git({"for-each-ref", "--format=%(refname)"}, ground / "some").output, "refs/heads/main\n");
  EXPECT_FALSE(run_git({"cat-file", "-e", secret}, ground / "some").exit.ok());
  EXPECT_EQ(sha256_text(join_path(ground / "some", lfs_path(oid))), oid);
  restored = push(tree, {.to = ground / "other", .only = {"refs/heads/secret"}});
  ASSERT_TRUE(restored);
  EXPECT_FALSE(*status_if_there(join_path(ground / "other", lfs_path(oid))));
  EXPECT_EQ(kuramori::text_of(ground / "other/HEAD"), "ref: refs/heads/secret\n");
  const auto unknown = push(tree, {.to = ground / "none", .only = {"refs/heads/nothing"}});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, ErrorKind::kUsage);
  EXPECT_FALSE(*status_if_there(ground / "none"));
}

TEST_F(GitTest, submodules_of_every_branch_are_recorded) {
  const RepositoryForTests remote(ground / "remote");
  const std::string commit(40, '5');
  const std::string modules =
      remote.git({"hash-object", "-w", "--stdin"},
                 "[submodule \"lib\"]\n\tpath = third/lib\n\turl = https://user:secret@host/lib.git\n");
  const std::string inner = remote.git({"mktree", "--missing"}, "160000 commit " + commit + "\tlib\n");
  const std::string tree =
      remote.git({"mktree"}, "100644 blob " + modules + "\t.gitmodules\n040000 tree " + inner + "\tthird\n");
  remote.git({"update-ref", "refs/heads/with", remote.git({"commit-tree", tree, "-m", "with"})});
  const TreeForTests captured = capture(settings_of(remote.path()));
  EXPECT_EQ(captured.told.at("submodules"), "1");
  const std::string about = *text_of(captured, kAboutPath);
  for (const char* part : {"refs/heads/with", "third/lib", "host/lib.git", commit.c_str()})
    EXPECT_TRUE(contains(about, part)) << about;
  EXPECT_FALSE(contains(about, "secret"));
  EXPECT_EQ(verdicts(captured), "");
  capture(settings_of(remote.path()));
  EXPECT_EQ(last_.facts.at("submodules"), "1") << "also when nothing moved";
}

TEST_F(GitTest, a_password_is_in_no_message_and_an_argument_that_holds_one_is_refused) {
  GitSettings settings = settings_of("http://user:s3cret@127.0.0.1:9/x.git");
  const Error error = refusal(settings);
  EXPECT_FALSE(contains(error.what + error.why + error.next, "s3cret")) << error.what;
  EXPECT_FALSE(error.next.empty());
  const RepositoryForTests remote(ground / "remote");
  const TreeForTests tree = capture(settings_of(remote.path()));
  const auto refused = push(tree, {.to = "https://user:s3cret@host/x.git"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_FALSE(contains(refused.error().what, "s3cret"));
  settings = settings_of("/srv/x");
  settings.password = "p";
  EXPECT_FALSE(open_git(settings));
  settings = settings_of("https://host/x");
  settings.password = "two\nlines";
  settings.user = "u";
  EXPECT_FALSE(open_git(settings));
}

}  // namespace
}  // namespace kuramori::git
