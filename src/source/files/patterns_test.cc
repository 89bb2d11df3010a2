#include "source/files/patterns.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <set>

#include "os/file.h"
#include "os/process.h"

namespace kuramori::files {
namespace {

using Answer = Patterns::Answer;

Answer look(const std::vector<std::string>& lines, std::string_view path, bool is_folder = false) {
  return Patterns(lines).look(path, is_folder);
}

TEST(FilesPatterns, a_name_matches_at_any_depth_and_a_path_only_from_the_top) {
  EXPECT_EQ(look({"*.tmp"}, "a/b/c.tmp"), Answer::kMatched);
  EXPECT_EQ(look({"/*.tmp"}, "a/c.tmp"), Answer::kNone);
  EXPECT_EQ(look({"/*.tmp"}, "c.tmp"), Answer::kMatched);
  EXPECT_EQ(look({"a/c"}, "x/a/c"), Answer::kNone);
  EXPECT_EQ(look({"**/a/c"}, "x/a/c"), Answer::kMatched);
  EXPECT_EQ(look({"a/**/c"}, "a/c"), Answer::kMatched);
  EXPECT_EQ(look({"a/**"}, "a", true), Answer::kNone);
  EXPECT_EQ(look({"cache/"}, "cache"), Answer::kNone);
  EXPECT_EQ(look({"cache/"}, "x/cache", true), Answer::kMatched);
}

TEST(FilesPatterns, the_last_pattern_that_speaks_of_a_path_decides) {
  EXPECT_EQ(look({"*.log", "!keep.log"}, "keep.log"), Answer::kUnmatched);
  EXPECT_EQ(look({"!keep.log", "*.log"}, "keep.log"), Answer::kMatched);
  EXPECT_EQ(Patterns({"*.log", "!keep.log"}).deciding("keep.log", false), 1);
}

TEST(FilesPatterns, stars_beside_other_bytes_are_one_star) {
  EXPECT_EQ(look({"/foo**/x"}, "foobar/x"), Answer::kMatched);
  EXPECT_EQ(look({"/foo**/x"}, "foo/bar/x"), Answer::kNone);
}

TEST(FilesPatterns, names_are_bytes) {
  EXPECT_EQ(look({"b\xff*"}, "b\xff\xfe"), Answer::kMatched);
  EXPECT_EQ(look({"?"}, "\xff"), Answer::kMatched);
  EXPECT_EQ(look({"?"}, "ä"), Answer::kNone);  // two bytes
}

TEST(FilesPatterns, many_stars_cost_no_more_than_the_product_of_the_lengths) {
  std::string glob, name(5000, 'a');
  for (int i = 0; i < 200; ++i) glob += "*a";
  EXPECT_FALSE(glob_matches(glob + "b", name));
  std::string deep = "x", pattern;
  for (int i = 0; i < 1000; ++i) deep += "/a";
  for (int i = 0; i < 30; ++i) pattern += "**/a/";
  EXPECT_EQ(look({pattern + "b"}, deep), Answer::kNone);
}

// --- beside the real git -----------------------------------------------------------------------------

class BesideGit : public testing::Test {
 protected:
  void SetUp() override {
    Result<TemporaryFolder> made = TemporaryFolder::make("patterns");
    ASSERT_TRUE(made);
    folder_.emplace(std::move(*made));
    git({"init", "--quiet"});
    const std::vector<std::string> names = {"a",    "b",    "ab",   "a.b", "foo", "bar",  "foo.c",
                                            "A",    "a b ", "[a]",  "x*y", "!k",  "#h",   "f-o",
                                            "\xff", "a\\b", "foo ", "-",   "]",   "z9_.t"};
    std::mt19937 random(4711);
    std::set<std::string> folders = {""};
    for (int i = 0; i < 170; ++i) {
      auto above = folders.begin();
      std::advance(above, static_cast<long>(random() % folders.size()));
      std::string path = join_path(*above, names[random() % names.size()]);
      if (!paths_.emplace(path, false).second) continue;
      bool is_folder = random() % 2 == 0;
      paths_[path] = is_folder;
      if (is_folder) {
        ASSERT_TRUE(make_folders(*folder_ / path));
        folders.insert(path);
      } else {
        ASSERT_TRUE(write_new_file(*folder_ / path, {}));
      }
    }
  }

  std::string git(std::vector<std::string> arguments, std::string input = {}) {
    std::vector<std::string> argv = {"git", "-C", folder_->path()};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    Result<Finished> ran = run({.argv = argv,
                                .set = {{"GIT_CONFIG_NOSYSTEM", "1"}, {"HOME", folder_->path()}},
                                .input = std::move(input)});
    EXPECT_TRUE(ran && ran->exit.code <= 1) << (ran ? ran->errors : ran.error().what);
    return ran ? ran->output : "";
  }

  std::set<std::string> ignored_by_git(const std::vector<std::string>& lines) {
    std::string text, asked;
    for (const std::string& line : lines) text += line + "\n";
    Result<Fd> file = open_file(*folder_ / ".git/info/exclude", O_WRONLY | O_CREAT | O_TRUNC);
    EXPECT_TRUE(file && write_full(*file, as_bytes(text), "exclude"));
    for (const auto& [path, is_folder] : paths_) asked += path + '\0';
    std::string said = git({"check-ignore", "--no-index", "-z", "--stdin"}, asked);
    std::set<std::string> ignored;
    for (size_t at = 0, end; (end = said.find('\0', at)) != std::string::npos; at = end + 1)
      ignored.insert(said.substr(at, end - at));
    return ignored;
  }

  std::set<std::string> ignored_by_us(const std::vector<std::string>& lines) {
    Patterns patterns(lines);
    std::set<std::string> ignored;
    for (const auto& [path, is_folder] : paths_) {  // a folder before what it holds
      size_t slash = path.rfind('/');
      bool above = slash != std::string::npos && ignored.contains(path.substr(0, slash));
      if (above || patterns.look(path, is_folder) == Answer::kMatched) ignored.insert(path);
    }
    return ignored;
  }

  std::optional<TemporaryFolder> folder_;
  std::map<std::string, bool> paths_;  // to whether it is a folder
};

// Where literal bytes stand before "**" in a part, git cuts them off and then takes the rest for a "**" of
// its own, against its documentation ("other consecutive asterisks are considered regular asterisks"), which
// we follow.
bool git_departs_from_its_documentation(std::string_view pattern) {
  for (size_t at = pattern.find("**"); at != std::string_view::npos; at = pattern.find("**", at + 1)) {
    bool alone = (at == 0 || pattern[at - 1] == '/' || pattern[at - 1] == '!') &&
                 (at + 2 == pattern.size() || pattern[at + 2] == '/');
    if (!alone) return true;
  }
  return false;
}

std::string random_pattern(std::mt19937& random) {
  static const std::vector<std::string> kPieces = {"a",
                                                   "b",
                                                   "foo",
                                                   "bar",
                                                   ".",
                                                   "*",
                                                   "**",
                                                   "?",
                                                   "[ab]",
                                                   "[!a]",
                                                   "[^b]",
                                                   "[a-f]",
                                                   "[[:alpha:]]",
                                                   "[[:digit:]_]",
                                                   "\\a",
                                                   "\\*",
                                                   "\\[a\\]",
                                                   "\\!",
                                                   "\\#",
                                                   " ",
                                                   "\\ ",
                                                   "*.b",
                                                   "foo*",
                                                   "[]a]",
                                                   "[z-a]",
                                                   "[\\]]",
                                                   "\xff",
                                                   "[[:no:]]",
                                                   "[a",
                                                   "A",
                                                   "-",
                                                   "[a-]",
                                                   "[!]]",
                                                   "\\",
                                                   "x",
                                                   "[[:",
                                                   "[[:alpha:]-z]",
                                                   "#",
                                                   "!",
                                                   "ab"};
  std::string pattern;
  if (random() % 5 == 0) pattern += "!";
  if (random() % 4 == 0) pattern += "/";
  size_t parts = 1 + random() % 3;
  for (size_t i = 0; i < parts; ++i) {
    if (i > 0) pattern += "/";
    if (random() % 5 == 0) {
      pattern += "**";
      continue;
    }
    size_t pieces = 1 + random() % 3;
    for (size_t k = 0; k < pieces; ++k) pattern += kPieces[random() % kPieces.size()];
  }
  if (random() % 4 == 0) pattern += "/";
  if (random() % 12 == 0) pattern += " ";
  return pattern;
}

TEST_F(BesideGit, patterns_mean_what_git_says_they_mean) {
  std::mt19937 random(20261122);
  size_t agreed = 0, matched = 0;
  for (int round = 0; round < 400; ++round) {
    std::vector<std::string> lines;
    for (size_t count = 1 + random() % 6; count > 0; --count) {
      std::string line = random_pattern(random);
      if (!git_departs_from_its_documentation(line)) lines.push_back(std::move(line));
    }
    std::set<std::string> theirs = ignored_by_git(lines), ours = ignored_by_us(lines);
    matched += theirs.size();
    if (theirs == ours) {
      ++agreed;
      continue;
    }
    std::string told;
    for (const std::string& line : lines) told += "  <" + line + ">\n";
    for (const auto& [path, is_folder] : paths_) {
      if (theirs.contains(path) != ours.contains(path))
        told += fmt::format("    \"{}\"{}: git says {}\n", path, is_folder ? "/" : "", theirs.contains(path));
    }
    ADD_FAILURE() << "round " << round << ":\n" << told;
    if (round - agreed > 10) break;
  }
  EXPECT_GT(matched, 1000u);  // the comparison is not of empty sets
}

}  // namespace
}  // namespace kuramori::files
