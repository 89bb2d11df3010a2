// Programs as sources, run for real.
#include "source/command/command.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "os/file.h"
#include "source/program/program.h"
#include "source/tree/captured_tree_for_tests.h"

namespace kuramori::command {
namespace {

using files::Captured;

struct CommandTest : testing::Test {
  TemporaryFolder ground = *TemporaryFolder::make("command");
  std::string data = ground / "data";

  void SetUp() override {
    ASSERT_TRUE(make_folders(data + "/below", 0755));
    ASSERT_TRUE(write_new_file(data + "/a", as_bytes("the content of a"), 0640));
    ASSERT_TRUE(write_new_file(data + "/below/b", Bytes(300'000, 'b'), 0644));
  }
  static Captured run(CommandSettings settings) { return capture_of(*make_source(std::move(settings))); }
  static Captured run_line(const std::string& line) { return run({.run = shell_argv(line)}); }
};

TEST_F(CommandTest, a_program_s_output_is_the_tree_and_goes_back_into_its_mirror) {
  CommandSettings settings{.run = {"tar", "-C", data, "-c", "."},
                           .restore = {"tar", "-C", ground / "back", "-x"}};
  const auto source = make_source(settings);
  Captured captured = capture_of(*source);
  ASSERT_FALSE(captured.error) << captured.error->what << captured.error->why;
  EXPECT_EQ(captured.paths(), (std::vector<std::string>{"", "output"}));
  EXPECT_TRUE(captured.defects.empty());
  EXPECT_EQ(captured.facts,
            (std::map<std::string, std::string>{
                {"bytes", std::to_string(captured.find("output")->bytes.size())}, {"exit", "0"}}));
  EXPECT_EQ(captured.entry("output").size, captured.find("output")->bytes.size());
  EXPECT_EQ(captured.find("output")->item.ctime_ns, 0) << "it is always read";
  const TreeForTests tree(std::move(captured));

  ASSERT_TRUE(make_folders(ground / "back"));
  auto restored = source->restore(tree, {.to = "command:"}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  EXPECT_EQ(restored->bytes, tree.entries[1].bytes.size());
  EXPECT_EQ(text_of(ground / "back/a"), "the content of a");
  EXPECT_EQ(status_of(ground / "back/below/b")->size, 300'000u);

  restored = source->restore(tree, {.to = ground / "file.tar"}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what;
  EXPECT_EQ(text_of(ground / "file.tar"), tree.entries[1].bytes);
  EXPECT_EQ(status_of(ground / "file.tar")->mode, 0600u);
  auto again = source->restore(tree, {.to = ground / "file.tar"}, silent_reporter(), {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(source->restore(tree, {.to = "somewhere"}, silent_reporter(), {}).error().kind,
            ErrorKind::kUsage);
}

TEST_F(CommandTest, a_program_that_does_not_end_well_gives_no_snapshot_S14) {
  for (const char* line : {"echo half; exit 1", "echo half; kill -TERM $$", "false | cat",
                           "cat /no/such/dump | gzip -c", "(sleep 0.3; echo late) & echo early"}) {
    const Captured captured = run_line(line);
    ASSERT_TRUE(captured.error) << line;
    EXPECT_EQ(captured.error->kind, ErrorKind::kFailed)
        << "anything else would leave the entry out: " << line;
  }
  const Captured missing = run({.run = {"no-such-program-anywhere"}});
  ASSERT_TRUE(missing.error);
  EXPECT_EQ(missing.error->kind, ErrorKind::kFailed);
  const Captured said = run_line("echo 'pg_dump: error: connection lost' >&2; exit 1");
  EXPECT_EQ(said.error->why, "pg_dump: error: connection lost");
  EXPECT_EQ(run({}).error->kind, ErrorKind::kUsage);
}

TEST_F(CommandTest, finish_refuses_what_was_never_read) {
  auto capture = make_source({.run = {"true"}})->capture(silent_reporter(), {});
  ASSERT_TRUE(capture);
  while (*(*capture)->next()) continue;
  EXPECT_FALSE((*capture)->finish());
}

TEST_F(CommandTest, output_is_streamed_in_bounded_memory_and_touches_no_disk) {
  struct Counter final : ContentSink {
    uint64_t bytes = 0;
    Result<void> add(ByteView more) override { return bytes += more.size(), Result<void>(); }
    Result<void> add_hole(uint64_t) override { return {}; }
    Result<void> restart() override { return {}; }
  } counter;
  const auto written_blocks = [] {
    struct rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return std::pair(usage.ru_maxrss, usage.ru_oublock);
  };
  auto capture = make_source({.run = {"head", "-c", "300M", "/dev/zero"}})->capture(silent_reporter(), {});
  ASSERT_TRUE(capture);
  (void)(*capture)->next();
  auto item = (*capture)->next();
  const auto before = written_blocks();
  ASSERT_TRUE((*capture)->read(**item, counter));
  const auto after = written_blocks();
  ASSERT_TRUE((*capture)->finish());
  EXPECT_EQ(counter.bytes, uint64_t{300} << 20);
  EXPECT_EQ((*item)->entry.size, uint64_t{300} << 20);
  EXPECT_LT(after.first - before.first, 16 << 10) << "KiB";
  EXPECT_EQ(after.second, before.second);
}

TEST_F(CommandTest, a_sudden_shrink_is_kept_and_flagged_with_both_figures) {
  const auto defects_of = [](const std::string& line, std::optional<uint64_t> before, double shrink_max) {
    return run({.run = shell_argv(line), .shrink_max = shrink_max, .bytes_before = before}).defects;
  };
  EXPECT_TRUE(defects_of("head -c 500 /dev/zero", 1000, 0.5).empty());
  const auto flagged = defects_of("head -c 499 /dev/zero", 1000, 0.5);
  ASSERT_EQ(flagged.size(), 1u);
  EXPECT_EQ(flagged[0].path, "output");
  EXPECT_NE(flagged[0].why.find("499"), std::string::npos);
  EXPECT_NE(flagged[0].why.find("1000"), std::string::npos);
  EXPECT_TRUE(defects_of("head -c 101 /dev/zero", 1000, 0.9).empty());
  EXPECT_EQ(defects_of("true", std::nullopt, 0.5).size(), 1u) << "a first snapshot of nothing";
  EXPECT_EQ(defects_of("true", 10, 1).size(), 1u);
  EXPECT_TRUE(defects_of("true", 0, 0.5).empty()) << "as it was";
}

// --- a folder --------------------------------------------------------------------------------------------

TEST_F(CommandTest, a_folder_that_it_fills_is_the_tree) {
  const std::string dump = ground / "dump";
  ASSERT_TRUE(make_folders(dump));
  CommandSettings settings{
      .run = shell_argv("cp -a " + data +
                        "/. \"$KURAMORI_FOLDER\"; touch \"$KURAMORI_FOLDER/a\"; "
                        "ln \"$KURAMORI_FOLDER/a\" \"$KURAMORI_FOLDER/hard\"; echo dropped"),
      .folder = dump,
      .restore = shell_argv("cp -a \"$KURAMORI_FOLDER\" " + ground / "mirror"),
      .environment = {{"X", "1"}}};
  const auto source = make_source(settings);
  Captured captured = capture_of(*source);
  ASSERT_FALSE(captured.error) << captured.error->what << captured.error->why;
  EXPECT_EQ(captured.paths(), (std::vector<std::string>{"", "folder", "folder/a", "folder/below",
                                                        "folder/below/b", "folder/hard"}));
  EXPECT_EQ(captured.entry("folder/hard").type, EntryType::kHardLink);
  EXPECT_EQ(captured.entry("folder/hard").link, "folder/a");
  EXPECT_EQ(captured.find("folder/a")->bytes, "the content of a");
  EXPECT_TRUE(captured.defects.empty());
  EXPECT_EQ(captured.facts.at("bytes"), std::to_string(300'000 + 16));
  EXPECT_EQ(captured.facts.at("files"), "2");
  const TreeForTests tree(std::move(captured));
  auto restored = source->restore(tree, {.to = ground / "back"}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what;
  EXPECT_EQ(text_of(ground / "back/a"), "the content of a");
  EXPECT_EQ(status_of(ground / "back/a")->mode, 0640u);
  EXPECT_EQ(status_of(ground / "back/a")->inode, status_of(ground / "back/hard")->inode);
  restored = source->restore(tree, {.to = "command:"}, silent_reporter(), {});
  ASSERT_TRUE(restored) << restored.error().what << restored.error().why;
  EXPECT_EQ(text_of(ground / "mirror/a"), "the content of a");
}

TEST_F(CommandTest, a_folder_it_did_not_fill_is_told) {
  timespec old[2] = {{1'600'000'000, 0}, {1'600'000'000, 0}};
  for (const char* path : {"/a", "/below/b", "/below", ""})
    ASSERT_EQ(::utimensat(AT_FDCWD, (data + path).c_str(), old, 0), 0);
  EXPECT_TRUE(run({.run = {"touch", data + "/a"}, .folder = data}).defects.empty());
  // ctime cannot be set back, so the program is made to begin later than what was left.
  const Captured stale = run({.run = {"sleep", "2.2"}, .folder = data});
  EXPECT_TRUE(stale.defects.empty()) << "within the clock's step of its begin";
  ::usleep(100'000);
  const Captured left = run({.run = {"true"}, .folder = data});
  EXPECT_EQ(left.defect_of("folder").substr(0, 10), "nothing in") << "left from an older run";
  const Captured failed = run({.run = {"false"}, .folder = data});
  ASSERT_TRUE(failed.error);
  const Captured gone = run({.run = {"true"}, .folder = ground / "absent"});
  EXPECT_TRUE(gone.error);
  EXPECT_FALSE(run({.run = {"true"}, .folder = data, .bytes_before = 1'000'000}).defects.empty())
      << "it shrank";
}

// --- restore, drill, doctor ------------------------------------------------------------------------------

TEST_F(CommandTest, a_restore_by_a_program_is_believed_only_when_it_ends_well) {
  TreeForTests tree;
  tree.add({.path = "output", .type = EntryType::kFile, .content = ContentKind::kBytes},
           std::string(500'000, 'x'));
  const auto restore = [&](const std::string& line) {
    return make_source({.run = {"true"}, .restore = shell_argv(line)})
        ->restore(tree, {.to = "command:"}, silent_reporter(), {});
  };
  EXPECT_TRUE(restore("cat > " + ground / "got"));
  EXPECT_EQ(status_of(ground / "got")->size, 500'000u);
  EXPECT_FALSE(restore("cat > /dev/null; exit 1"));
  EXPECT_FALSE(restore("head -c 100 > /dev/null")) << "it ended well, and took a part";
  auto none = make_source({.run = {"true"}})->restore(tree, {.to = "command:"}, silent_reporter(), {});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, ErrorKind::kUsage);
  EXPECT_FALSE(none.error().next.empty());
  const TreeForTests foreign;
  EXPECT_FALSE(make_source({.run = {"true"}})->restore(foreign, {.to = ground / "x"}, silent_reporter(), {}));
}

TEST_F(CommandTest, a_drill_restores_the_bytes_and_sees_that_there_are_some) {
  const auto source = make_source({.run = {"tar", "-C", data, "-c", "."}});
  TreeForTests tree(capture_of(*source));
  const auto verdicts = [&] {
    const TemporaryFolder sandbox = *TemporaryFolder::make("sandbox");
    const auto checks = source->drill(tree, sandbox.path(), silent_reporter(), {});
    std::string all;
    for (const CheckResult& check : *checks) all += check.verdict + " ";
    return all;
  };
  EXPECT_EQ(verdicts(), "passed passed ");
  tree.entries[1].bytes.pop_back();
  EXPECT_EQ(verdicts(), "failed passed ");
  tree.entries[1].bytes.clear();
  tree.told["bytes"] = "0";
  EXPECT_EQ(verdicts(), "passed failed ");
}

TEST_F(CommandTest, doctor_says_what_would_fail_and_what_to_type) {
  ASSERT_TRUE(write_new_file(ground / "plain", as_bytes("x"), 0644));
  const auto about = [](const CommandSettings& settings) {
    std::string all;
    const auto findings = make_source(settings)->doctor();
    for (const SourceFinding& finding : *findings) {
      EXPECT_FALSE(finding.what.empty() || finding.why.empty() || finding.fix.empty()) << finding.what;
      if (finding.severity != SourceFinding::Severity::kHint)
        all += finding.about + ": " + finding.what + "\n";
    }
    return all;
  };
  EXPECT_EQ(about({.run = {"tar", "-c", data}}), "");
  EXPECT_NE(about({.run = {"no-such-program-anywhere"}}).find("not in PATH"), std::string::npos);
  EXPECT_NE(about({.run = {ground / "plain"}}).find("may not be executed"), std::string::npos);
  EXPECT_NE(about({.run = {"true"}, .restore = {"no-such-program-anywhere"}}).find("restore: "),
            std::string::npos);
  EXPECT_NE(about({.run = {"true"}, .folder = "relative"}).find("not absolute"), std::string::npos);
  EXPECT_NE(about({.run = {"true"}, .folder = ground / "plain"}).find("is no folder"), std::string::npos);
  EXPECT_NE(about({.run = {"true"}, .shrink_max = 1.5}).find("shrink_max"), std::string::npos);
  EXPECT_NE(about({.run = {"sh", "-c", "pg_dump a | gzip"}}).find("may fail in part"), std::string::npos);
  EXPECT_NE(about({}).find("names no program"), std::string::npos);
}

}  // namespace
}  // namespace kuramori::command
