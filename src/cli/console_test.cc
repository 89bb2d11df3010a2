#include "cli/console.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "cli/context.h"

namespace kuramori {
namespace {

class FakeClock final : public Clock {
 public:
  Time now() override { return Time(now_); }
  Duration steady() override { return now_; }
  void sleep(Duration duration) override { now_ += duration; }

 private:
  Duration now_{0};
};

TEST(Table, NumbersGoRightAndWidthIsInCharacters) {
  Table table({{"name"}, {"size", Table::Align::kRight}, {"note"}});
  table.add({"蔵守", "1.2 GiB", ""});
  table.add({"b", "12 B", "x"});
  EXPECT_EQ(table.text(), "name     size  note\n蔵守  1.2 GiB\nb        12 B  x\n");
}

TEST(Console, AnErrorIsThreeLines) {
  FakeClock clock;
  testing::internal::CaptureStderr();
  Console console({}, clock);
  console.report(fail(ErrorKind::kRefused, "it did not work", "because", "type this"));
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "error: it did not work\nwhy:   because\nnext:  type this\n");
}

TEST(Console, WithJsonTheErrorIsTheDocument) {
  FakeClock clock;
  testing::internal::CaptureStdout();
  Console console({.json = true}, clock);
  console.report(fail(ErrorKind::kRefused, "what \"x\"", "", "next"));
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "{\"schema\":\"kuramori/error/1\",\"error\":{\"kind\":\"refused\",\"what\":\"what "
            "\\\"x\\\"\",\"why\":\"\",\"next\":\"next\"}}\n");
}

TEST(Console, ProgressIsForTerminalsAndPrograms) {
  FakeClock clock;
  testing::internal::CaptureStderr();
  {
    Console console({}, clock);
    console.phase("copying", 1000);
    clock.sleep(std::chrono::seconds(3));
    console.advance(500);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");

  testing::internal::CaptureStderr();
  {
    Console console({.terminal = true}, clock);
    console.phase("copying", 4 << 20);
    clock.sleep(std::chrono::seconds(4));
    console.advance(1 << 20);
  }
  std::string drawn = testing::internal::GetCapturedStderr();
  EXPECT_EQ(drawn, "copying  [######..................] 1.0 MiB of 4.0 MiB  256 KiB/s  12 s left\r\033[K");

  testing::internal::CaptureStderr();
  {
    Console console({.json = true}, clock);
    console.phase("copying", 4 << 20);
    clock.sleep(std::chrono::seconds(4));
    console.advance(1 << 20);
  }
  EXPECT_EQ(
      testing::internal::GetCapturedStderr(),
      "{\"schema\":\"kuramori/progress/"
      "1\",\"phase\":\"copying\",\"done_bytes\":1048576,\"total_bytes\":4194304,\"bytes_per_second\":262144,"
      "\"seconds_left\":12}\n");
}

TEST(Console, QuietSilencesNotesButNotWarnings) {
  FakeClock clock;
  testing::internal::CaptureStderr();
  Console console({.quiet = true}, clock);
  console.note("a note");
  console.warning("a warning");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "warning: a warning\n");
}

TEST(ResourceAtSnapshot, IsSplitAtTheSign) {
  EXPECT_EQ(parse_resource_at_snapshot("a@latest")->snapshot, "latest");
  EXPECT_EQ(parse_resource_at_snapshot("a/b")->resource, "a/b");
  for (const char* bad : {"", "@x", "a@", "a@b@c"}) EXPECT_FALSE(parse_resource_at_snapshot(bad)) << bad;
}

// A vault and a key are enough: no configuration is read, not even a broken one.
TEST(ChooseVault, ALocationAndAKeyNeedNoConfiguration) {
  char folder[] = "/tmp/kuramori_cli_test_XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  ASSERT_EQ(chdir(folder), 0);
  std::FILE* file = std::fopen("kuramori.yaml", "w");
  std::fputs("this: is: no: configuration\n", file);
  std::fclose(file);
  unsetenv("KURAMORI_KEY_FILE");
  FakeClock clock;
  Console console({.quiet = true}, clock);
  Invocation line;
  line.options["vault"] = {"/srv/x"};
  line.options["key-file"] = {"k"};
  {
    Context context(line, console, clock, {});
    auto choice = context.choose_vault();
    ASSERT_TRUE(choice) << choice.error().what;
    EXPECT_EQ(choice->location, "/srv/x");
    EXPECT_EQ(choice->key_file, "k");
    EXPECT_EQ(*context.config_if_any(), nullptr);
  }
  line.options.erase("key-file");
  {
    Context context(line, console, clock, {});
    EXPECT_FALSE(context.choose_vault());
  }
  setenv("KURAMORI_KEY_FILE", "e", 1);
  {
    Context context(line, console, clock, {});
    auto choice = context.choose_vault();
    ASSERT_TRUE(choice);
    EXPECT_EQ(choice->key_file, "e");
  }
  unsetenv("KURAMORI_KEY_FILE");
  unlink("kuramori.yaml");
  ASSERT_EQ(chdir("/"), 0);
  rmdir(folder);
}

}  // namespace
}  // namespace kuramori
