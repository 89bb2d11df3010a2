// A real bare repository, made by git itself.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "crypto/digest.h"
#include "os/file.h"
#include "os/process.h"
#include "source/git/git_source.h"
#include "source/git/refs.h"

namespace kuramori::git {

// As somebody whose configuration is empty.
inline Finished run_git(std::vector<std::string> words, const std::string& repository = "",
                        std::string input = "") {
  Command command{.argv = {"git"}};
  command.argv.insert(command.argv.end(), words.begin(), words.end());
  command.set = {{"GIT_CONFIG_NOSYSTEM", "1"},
                 {"GIT_CONFIG_GLOBAL", "/dev/null"},
                 {"GIT_AUTHOR_NAME", "A"},
                 {"GIT_AUTHOR_EMAIL", "a@example"},
                 {"GIT_COMMITTER_NAME", "A"},
                 {"GIT_COMMITTER_EMAIL", "a@example"},
                 {"GIT_AUTHOR_DATE", "1700000000 +0000"},
                 {"GIT_COMMITTER_DATE", "1700000000 +0000"}};
  if (!repository.empty()) command.set.emplace_back("GIT_DIR", repository);
  command.input = std::move(input);
  auto finished = ::kuramori::run(command);
  EXPECT_TRUE(finished) << words.front();
  return finished ? std::move(*finished) : Finished{};
}

inline std::string sha256_text(const std::string& path) {
  const auto bytes = read_file(path);
  return bytes ? sha256(*bytes).hex() : "";
}

class RepositoryForTests {
 public:
  explicit RepositoryForTests(std::string path, const std::string& format = "sha1") : path_(std::move(path)) {
    EXPECT_TRUE(
        run_git({"init", "--quiet", "--bare", "--initial-branch=main", "--object-format=" + format, path_})
            .exit.ok());
    root_ = commit("main", "the first");
  }
  const std::string& path() const { return path_; }
  const std::string& root() const { return root_; }

  // What it prints, without the end of its line; anything but success fails the test.
  std::string git(const std::vector<std::string>& words, const std::string& input = "") const {
    Finished finished = run_git(words, path_, input);
    EXPECT_TRUE(finished.exit.ok()) << words.front() << ": " << finished.errors;
    while (finished.output.ends_with('\n')) finished.output.pop_back();
    return finished.output;
  }
  std::string tip(const std::string& branch) const { return git({"rev-parse", "refs/heads/" + branch}); }
  bool has(const std::string& ref) const {
    return run_git({"show-ref", "--verify", "--quiet", ref}, path_).exit.ok();
  }

  // A commit on the branch with one file of this content, on top of its head or of `parent`.
  std::string commit(const std::string& branch, const std::string& content, std::string parent = "",
                     const std::string& file = "file") const {
    const std::string blob = git({"hash-object", "-w", "--stdin"}, content);
    const std::string tree = git({"mktree"}, "100644 blob " + blob + "\t" + file + "\n");
    const std::string ref = "refs/heads/" + branch;
    if (parent.empty() && has(ref)) parent = tip(branch);
    std::vector<std::string> words{"commit-tree", tree, "-m", content};
    if (!parent.empty()) words.insert(words.end(), {"-p", parent});
    const std::string made = git(words);
    git({"update-ref", ref, made});
    return made;
  }

 private:
  std::string path_, root_;
};

}  // namespace kuramori::git
