// A value is planted, and looked for in all that was said and in every file that was written.
#include "source/secret/secret.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>

#include "os/file.h"
#include "source/program/program.h"
#include "source/tree/captured_tree_for_tests.h"

namespace kuramori::secret {
namespace {

using files::Captured;

constexpr std::string_view kPlanted = "s3cr3t-value-planted-here";

// Everything that is said.
class Listener final : public Reporter {
 public:
  std::string heard;
  void phase(std::string_view name, uint64_t) override { hear(name); }
  void advance(uint64_t) override {}
  void note(std::string_view text) override { hear(text); }
  void warning(std::string_view text) override { hear(text); }
  void hear(std::string_view text) { heard += std::string(text) + "\n"; }
  void hear(const Error& error) { hear(error.what + error.why + error.next); }
};

// The files below `folder` that hold the planted value.
std::vector<std::string> leaks_below(const std::string& folder) {
  std::vector<std::string> leaks;
  const auto entries = list_folder(folder);
  for (const FolderEntry& entry : *entries) {
    const std::string path = join_path(folder, entry.name);
    if (entry.type == FileType::kFolder) {
      for (std::string& leak : leaks_below(path)) leaks.push_back(std::move(leak));
    } else if (entry.type == FileType::kFile && text_of(path).find(kPlanted) != std::string::npos) {
      leaks.push_back(path);
    }
  }
  return leaks;
}

struct SecretTest : testing::Test {
  TemporaryFolder ground = *TemporaryFolder::make("secret");
  TemporaryFolder written = *TemporaryFolder::make("secret-written");  // $TMPDIR meanwhile
  std::string app = ground / "app";
  std::string tmpdir;

  void SetUp() override {
    const char* before = std::getenv("TMPDIR");
    tmpdir = before != nullptr ? before : "/tmp";
    ::setenv("TMPDIR", written.path().c_str(), 1);
    ASSERT_TRUE(make_folders(app + "/keys", 0700));
    put("/.env", "# the application's\nDB_PASSWORD=" + std::string(kPlanted) + "\nexport JWT=\"" +
                     std::string(kPlanted) + "\\n\" # signing\nPORT=8080\n");
    put("/keys/tls.pem",
        "-----BEGIN PRIVATE KEY-----\n" + std::string(kPlanted) + "\n-----END PRIVATE KEY-----\n");
  }
  void TearDown() override { ::setenv("TMPDIR", tmpdir.c_str(), 1); }
  void put(const std::string& path, const std::string& text) {
    ASSERT_TRUE(write_file_durably(app + path, as_bytes(text), 0600));
  }
};

TEST_F(SecretTest, no_value_is_in_anything_but_the_content_and_what_is_restored) {
  Listener listener;
  const auto listen = [&](const Captured& captured) {
    for (const Defect& defect : captured.defects) listener.hear(defect.path + defect.why);
    for (const auto& [name, value] : captured.facts) listener.hear(name + value);
    for (const files::Kept& kept : captured.entries) {
      listener.hear(kept.item.entry.path + kept.item.entry.link);
      for (const auto& [name, value] : kept.item.entry.attributes) listener.hear(name + value);
    }
    if (captured.error) listener.hear(*captured.error);
  };
  const auto source = make_source({.paths = {app}});
  Captured captured = capture_of(*source, listener);
  listen(captured);
  ASSERT_FALSE(captured.error) << captured.error->what;
  EXPECT_NE(captured.find(".env")->bytes.find(kPlanted), std::string::npos);
  EXPECT_EQ(captured.facts, (std::map<std::string, std::string>{{"files", "2"}, {"keys", "3"}}));
  const TreeForTests tree(std::move(captured));

  const std::string sandbox = written / "sandbox";
  ASSERT_TRUE(make_folders(sandbox));
  const auto checks = source->drill(tree, sandbox, listener, {});
  ASSERT_TRUE(checks);
  for (const CheckResult& check : *checks) {
    EXPECT_EQ(check.verdict, "passed") << check.name << ": " << check.detail;
    listener.hear(check.name + check.detail);
  }
  EXPECT_TRUE(list_folder(sandbox)->empty()) << "a drill writes nothing";

  const auto restored = source->restore(tree, {.to = ground / "back"}, listener, {});
  ASSERT_TRUE(restored) << restored.error().what;
  for (const std::string& note : restored->notes) listener.hear(note);
  const auto refused = source->restore(tree, {.to = ground / "back"}, listener, {});
  ASSERT_FALSE(refused);
  listener.hear(refused.error());

  // Programs that print it, on either stream, and fail or not.
  const std::string file = app + "/.env";
  for (const std::string& line :
       {"cat " + file, "cat " + file + " >&2; exit 1", "cat " + file + "; exit 1",
        "cat " + file + "; kill -9 $$", "(sleep 0.2; cat " + file + ") & cat " + file})
    listen(capture_of(*make_source({.run = shell_argv(line)}), listener));
  // A line that is none, and a value that goes on behind its quote.
  for (const std::string& text : {"=" + std::string(kPlanted), "A=\"" + std::string(kPlanted),
                                  "A='x'" + std::string(kPlanted), std::string(kPlanted)}) {
    const auto keys = parse_dotenv(as_bytes(text));
    ASSERT_FALSE(keys) << text;
    listener.hear(keys.error());
  }
  put("/.env", "DB_PASSWORD=" + std::string(kPlanted) + "2\n");
  const TreeForTests later(capture_of(*source, listener));
  EXPECT_FALSE(source->may_be_shown());
  const auto changes = source->changed_parts(".env", tree, later);
  ASSERT_TRUE(changes);
  EXPECT_FALSE(changes->empty());
  for (const PartChange& change : *changes) listener.hear(change.name + std::string(name_of(change.how)));
  const auto findings = source->doctor();
  for (const SourceFinding& finding : *findings) listener.hear(finding.what + finding.why + finding.fix);

  EXPECT_EQ(listener.heard.find(kPlanted.substr(0, 12)), std::string::npos) << listener.heard;
  EXPECT_GT(listener.heard.size(), 100u);
  EXPECT_EQ(leaks_below(written.path()), std::vector<std::string>{});
}

TEST_F(SecretTest, a_restore_is_for_its_owner_alone) {
  ASSERT_EQ(::chmod((app + "/.env").c_str(), 0644), 0);
  const auto source = make_source({.paths = {app}});
  const TreeForTests tree(capture_of(*source));
  ASSERT_TRUE(source->restore(tree, {.to = ground / "back"}, silent_reporter(), {}));
  EXPECT_EQ(status_of(ground / "back/.env")->mode, 0600u);
  EXPECT_EQ(status_of(ground / "back/keys")->mode, 0700u);
  EXPECT_EQ(text_of(ground / "back/keys/tls.pem"), text_of(app + "/keys/tls.pem"));
  // One file is the target itself.
  auto one = source->restore(tree, {.to = ground / "new.env", .only = {".env"}}, silent_reporter(), {});
  ASSERT_TRUE(one) << one.error().what;
  EXPECT_EQ(status_of(ground / "new.env")->mode, 0600u);
  EXPECT_EQ(text_of(ground / "new.env"), text_of(app + "/.env"));
  EXPECT_FALSE(source->restore(tree, {.to = ground / "x", .only = {"absent"}}, silent_reporter(), {}));
  EXPECT_FALSE(source->restore(tree, {.to = "relative"}, silent_reporter(), {}));
}

TEST_F(SecretTest, other_names_and_links_come_back_as_well) {
  ASSERT_EQ(::link((app + "/.env").c_str(), (app + "/keys/.env").c_str()), 0);
  ASSERT_TRUE(remove_tree(app + "/keys/tls.pem"));
  ASSERT_EQ(::symlink(".env", (app + "/keys/current").c_str()), 0);
  const auto source = make_source({.paths = {app}});
  const TreeForTests tree(capture_of(*source));
  ASSERT_TRUE(source->restore(tree, {.to = ground / "back"}, silent_reporter(), {}));
  EXPECT_EQ(text_of(ground / "back/.env"), text_of(app + "/.env"));
  EXPECT_EQ(text_of(ground / "back/keys/current"), text_of(app + "/.env"));
  ASSERT_TRUE(source->restore(tree, {.to = ground / "one", .only = {"keys/.env"}}, silent_reporter(), {}));
  EXPECT_EQ(text_of(ground / "one"), text_of(app + "/.env"));
}

TEST_F(SecretTest, what_a_program_prints_is_kept_when_it_ends_well_S14) {
  Captured captured = capture_of(*make_source({.run = {"cat", app + "/.env"}}));
  ASSERT_FALSE(captured.error) << captured.error->what;
  EXPECT_EQ(captured.paths(), (std::vector<std::string>{"", "output"}));
  EXPECT_EQ(captured.find("output")->bytes, text_of(app + "/.env"));
  EXPECT_EQ(captured.facts, (std::map<std::string, std::string>{{"files", "1"}, {"keys", "3"}}));
  const TreeForTests tree(std::move(captured));
  ASSERT_TRUE(make_source({})->restore(tree, {.to = ground / "back"}, silent_reporter(), {}));
  EXPECT_EQ(text_of(ground / "back"), text_of(app + "/.env"));
  for (const char* line : {"echo A=1; exit 2", "echo A=1 | false", "true", "false | cat"}) {
    captured = capture_of(*make_source({.run = shell_argv(line)}));
    ASSERT_TRUE(captured.error) << line;
    EXPECT_EQ(captured.error->kind, ErrorKind::kFailed);
  }
  EXPECT_EQ(capture_of(*make_source({})).error->kind, ErrorKind::kUsage);
  EXPECT_EQ(capture_of(*make_source({.paths = {app}, .run = {"true"}})).error->kind, ErrorKind::kUsage);
}

TEST_F(SecretTest, a_drill_misses_what_is_missing) {
  const auto source = make_source({.paths = {app}});
  const auto failed = [&](const TreeForTests& tree) {
    const auto checks = source->drill(tree, "", silent_reporter(), {});
    EXPECT_TRUE(checks);
    return std::ranges::count(*checks, "failed", &CheckResult::verdict);
  };
  TreeForTests tree(capture_of(*source));
  EXPECT_EQ(failed(tree), 0);
  TreeForTests cut = tree;
  auto env = std::ranges::find(cut.entries, ".env", [](const auto& kept) { return kept.item.entry.path; });
  ASSERT_NE(env, cut.entries.end());
  env->bytes.resize(env->bytes.find("PORT"));
  EXPECT_EQ(failed(cut), 2) << "its size, and a key";
  cut.entries.erase(env);
  EXPECT_EQ(failed(cut), 2) << "a file, and its keys";
  EXPECT_EQ(failed(TreeForTests()), 1) << "nothing at all";
}

// --- what changed ----------------------------------------------------------------------------------------

std::string diff(std::string_view before, std::string_view after) {
  const auto changes = diff_keys(as_bytes(before), as_bytes(after));
  EXPECT_TRUE(changes) << (changes ? "" : changes.error().what);
  std::string all;
  for (const PartChange& change : *changes)
    all += change.name + " " + std::string(name_of(change.how)) + ", ";
  return all;
}

TEST(Dotenv, a_difference_is_told_by_the_names_of_keys_I3) {
  EXPECT_EQ(diff("A=1\nB=2\nC=3\n", "A=1\nB=3\nD=4\n"), "B changed, C removed, D added, ");
  EXPECT_EQ(diff("", "A=\n"), "A added, ");
  EXPECT_EQ(diff("A=1\n", "A=1\n"), "") << "no change: nothing";
  EXPECT_EQ(diff("A=1\nB=2", "# moved\r\nB=2\r\n\r\nexport A=1\r\n"), "");
  EXPECT_EQ(diff("A=x y", "A = \"x y\"  # said otherwise"), "");
  EXPECT_EQ(diff("A='x y'", "A=x y # comment"), "");
  EXPECT_EQ(diff("A=x#y", "A=x"), "A changed, ") << "no blank before it: part of the value";
  EXPECT_EQ(diff("A=1\nA=2\n", "A=2\n"), "") << "the last counts";
  EXPECT_EQ(diff("A=\"two\nlines\"\nB=1", "A=\"two\\nlines\"\nB=1"), "");
  EXPECT_EQ(diff("A='\\n'", "A=\"\\n\""), "A changed, ");
  EXPECT_EQ(diff("A=\"\\\"\\\\\\$\\t\\r\\x\"", "A='\"\\$\t\r\\x'"), "");
  EXPECT_EQ(diff("\xef\xbb\xbf"
                 "A=1",
                 "A=1"),
            "");
  EXPECT_EQ(diff("a.b-c_9=1", ""), "a.b-c_9 removed, ");
  EXPECT_EQ(diff("exported=1", "exported=2"), "exported changed, ");
  EXPECT_EQ(diff("A=", "A=\"\""), "");
}

TEST(Dotenv, a_line_that_is_none_is_told_by_its_number) {
  const auto line_of = [](std::string_view text) {
    const auto keys = parse_dotenv(as_bytes(text));
    EXPECT_FALSE(keys) << text;
    return keys ? "" : keys.error().what.substr(0, 7);
  };
  EXPECT_EQ(line_of("A=1\nnonsense\n"), "line 2 ");
  EXPECT_EQ(line_of("A=1\n\n# x\n9=1"), "line 4 ");
  EXPECT_EQ(line_of("A=\"x\ny\"\nB"), "line 3 ");
  EXPECT_EQ(line_of("A=1\nB='open\nC=3\n"), "line 2 ");
  EXPECT_EQ(line_of("A='x' y"), "line 1 ");
  EXPECT_EQ(line_of("export"), "line 1 ");
  EXPECT_EQ(line_of(std::string_view("\0\1\2", 3)), "line 1 ");
}

TEST(Dotenv, any_bytes_are_read_without_harm) {
  std::string text;
  uint32_t state = 7;
  constexpr std::string_view kAlphabet = "AB=\"'\\\n\r #$\texport\0\xff";
  for (int round = 0; round < 20'000; ++round) {
    text.clear();
    for (int i = 0; i < 24; ++i) {
      state = state * 1664525 + 1013904223;
      text.push_back(kAlphabet[(state >> 16) % kAlphabet.size()]);
    }
    const auto keys = parse_dotenv(as_bytes(text));
    if (keys) {
      EXPECT_TRUE(diff_keys(as_bytes(text), as_bytes(text))->empty());
    }
  }
}

TEST_F(SecretTest, a_file_differs_by_the_names_of_keys_I3) {
  const auto source = make_source({.paths = {app}});
  const TreeForTests before(capture_of(*source));
  EXPECT_TRUE(source->changed_parts(".env", before, before)->empty());
  put("/.env", "DB_PASSWORD=other\nPORT=8080\nNEW=1\n");
  put("/keys/tls.pem", "-----BEGIN PRIVATE KEY-----\nanother\n");
  const TreeForTests after(capture_of(*source));
  using How = PartChange::How;
  const std::vector<PartChange> expected{
      {How::kChanged, "DB_PASSWORD"}, {How::kRemoved, "JWT"}, {How::kAdded, "NEW"}};
  EXPECT_EQ(*source->changed_parts(".env", before, after), expected);
  // No keys, and so no names of what changed.
  EXPECT_TRUE(source->changed_parts("keys/tls.pem", before, after)->empty());
}

TEST_F(SecretTest, doctor_sees_a_file_that_is_open_to_others_and_one_that_is_gone) {
  EXPECT_TRUE(make_source({.paths = {app + "/.env"}})->doctor()->empty());
  ASSERT_EQ(::chmod((app + "/.env").c_str(), 0644), 0);
  const auto open = make_source({.paths = {app + "/.env", app + "/absent"}})->doctor();
  ASSERT_EQ(open->size(), 2u);
  EXPECT_EQ((*open)[0].fix, "chmod 600 '" + app + "/.env'");
  EXPECT_EQ((*open)[1].severity, SourceFinding::Severity::kProblem);
  EXPECT_EQ(make_source({})->doctor()->size(), 1u);
  EXPECT_EQ(make_source({.run = {"no-such-program-anywhere"}})->doctor()->size(), 1u);
}

}  // namespace
}  // namespace kuramori::secret
