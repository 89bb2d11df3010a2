// The kind `git` keeps the contract of sources, on real repositories.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <set>

#include "source/git/layout.h"
#include "source/git/repository_for_tests.h"
#include "testing/source_contract.h"

namespace kuramori::git {
namespace {

class GitFixture : public SourceFixture {
 public:
  GitFixture() : remote_(ground_ / "remote.git") {
    for (const char* name : {"outside", "targets"}) (void)make_folders(ground_ / name);
    (void)write_file_durably(ground_ / "outside/precious", as_bytes("not to be touched"));
    change();
    source_ = *open_git({.url = remote_.path(), .mirror = ground_ / "state/mirror"});
  }
  Source& source() override { return *source_; }
  std::unique_ptr<Source> broken() override {
    return *open_git({.url = ground_ / "no-such-repository", .mirror = ground_ / "state/broken"});
  }
  // Goes on, forces one branch back, deletes another.
  void change() override {
    ++generation_;
    remote_.commit("main", fmt::format("salaries of {}", generation_));
    remote_.commit("forced", fmt::format("other {}", generation_), remote_.root());
    if (generation_ > 1)
      remote_.git({"update-ref", "-d", fmt::format("refs/heads/topic{}", generation_ - 1)});
    remote_.commit(fmt::format("topic{}", generation_), "topic");
    remember();
  }
  bool was_ever(const TreeEntry& entry, std::string_view content) override {
    if (entry.path == "HEAD") return content == "ref: refs/heads/main\n";
    if (entry.path == "config") return content == config_text("sha1");
    if (entry.path == kAboutPath) return content.find("\"schema\"") != std::string_view::npos;
    if (entry.path == "packed-refs") {
      // The refs of one moment, and such as were there once.
      const auto refs = parse_refs(content);
      if (!refs) return false;
      const SplitRefs split = split_refs(*refs);
      for (const Ref& ref : split.kept) {
        const std::string below = ref.name.substr(kKeptBelow.size());
        if (!ever_.contains({"refs/" + below.substr(below.find('/') + 1), ref.oid})) return false;
      }
      return states_.contains(refs_text(split.seen));
    }
    // A pack: the sum at its end is of all before it, and git can tell.
    if (!entry.path.starts_with("objects/pack/pack-")) return false;
    const std::string name = entry.path.substr(entry.path.rfind('/') + 1);
    const std::string at = ground_ / ("looked-at-" + name);
    (void)write_file_durably(at, as_bytes(content));
    if (!name.ends_with(".pack")) return content.size() > 1000;
    const bool good = run_git({"index-pack", "-o", at + ".idx", at}).exit.ok();
    (void)remove_file(at);
    (void)remove_file(at + ".idx");
    return good;
  }
  std::string new_target() override { return ground_ / fmt::format("targets/new{}", ++targets_); }
  std::string occupied_target() override {
    const std::string target = new_target();
    (void)make_folders(target);
    (void)write_file_durably(target + "/something", as_bytes("x"));
    return target;
  }
  std::vector<std::string> differences(const std::string& target) override {
    const std::string here =
        run_git({"for-each-ref", "--format=%(objectname) %(refname)"}, remote_.path()).output;
    const std::string there = run_git({"for-each-ref", "--format=%(objectname) %(refname)"}, target).output;
    std::vector<std::string> all;
    if (here != there) all.push_back(here + "is not\n" + there);
    if (const Finished fsck = run_git({"fsck", "--full"}, target); !fsck.exit.ok())
      all.push_back(fsck.errors);
    return all;
  }
  std::string surroundings(const std::string& target) override { return listing(ground_.path(), target); }
  std::string outside() override { return ground_ / "outside"; }
  std::string sandbox() override {
    (void)make_folders(ground_ / "targets/sandbox");
    return ground_ / "targets/sandbox";
  }
  std::vector<std::string> secrets() override { return {"salaries", "topic", "forced", ground_.path()}; }

 private:
  void remember() {
    const Refs refs =
        *parse_refs(run_git({"for-each-ref", "--format=%(objectname) %(refname)"}, remote_.path()).output);
    states_.insert(refs_text(refs));
    for (const Ref& ref : refs) ever_.emplace(ref.name, ref.oid);
  }
  // All that is there, but the mirror's lock and what is at `left_out`.
  static std::string listing(const std::string& folder, const std::string& left_out) {
    std::string all;
    const auto entries = list_folder(folder);
    for (const FolderEntry& entry : *entries) {
      const std::string path = join_path(folder, entry.name);
      if (path == left_out) continue;
      all += fmt::format("{} {}\n", path, static_cast<int>(entry.type));
      if (entry.type == FileType::kFolder) all += listing(path, left_out);
      if (entry.type == FileType::kFile) all += sha256_text(path) + "\n";
    }
    return all;
  }

  TemporaryFolder ground_ = *TemporaryFolder::make("git-contract");
  RepositoryForTests remote_;
  std::unique_ptr<Source> source_;
  int generation_ = 0, targets_ = 0;
  std::set<std::string> states_;
  std::set<std::pair<std::string, std::string>> ever_;
};

TEST(GitContract, repositories_keep_the_contract_of_sources_I4_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<GitFixture>(); }), std::vector<std::string>{});
}

}  // namespace
}  // namespace kuramori::git
