// The kind `command` keeps the contract of sources, with an output and with a folder.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "os/file.h"
#include "source/command/command.h"
#include "source/program/program.h"
#include "testing/source_contract.h"

namespace kuramori::command {
namespace {

// One line for each thing below `folder`, but for what is at `left_out`.
std::string listing(const std::string& folder, const std::string& left_out = "") {
  std::string all;
  const auto entries = list_folder(folder);
  for (const FolderEntry& entry : *entries) {
    const std::string path = join_path(folder, entry.name);
    if (path == left_out) continue;
    all += fmt::format("{} {}\n", path, static_cast<int>(entry.type));
    if (entry.type == FileType::kFolder) all += listing(path, left_out);
    if (entry.type == FileType::kFile) all += std::string(as_text(*read_file(path))) + "\n";
  }
  return all;
}

class CommandFixture : public SourceFixture {
 public:
  explicit CommandFixture(bool folder) : folder_(folder) {
    for (const char* name : {"data/below", "dump", "outside", "targets"})
      (void)make_folders(ground_ / name, 0755);
    (void)write_file_durably(ground_ / "outside/precious", as_bytes("not to be touched"));
    change();
    CommandSettings settings{.run = {"cat", ground_ / "data/a"}};
    if (folder) {
      settings.run = shell_argv("rm -rf \"$KURAMORI_FOLDER\"/*; cp -a '" + ground_ / "data" +
                                "/.' \"$KURAMORI_FOLDER\"");
      settings.folder = ground_ / "dump";
    }
    source_ = make_source(settings);
  }
  Source& source() override { return *source_; }
  std::unique_ptr<Source> broken() override { return make_source({.run = {ground_ / "no such program"}}); }
  void change() override {
    ++generation_;
    for (const char* name : {"a", "below/b"}) {
      std::string content = fmt::format("salaries of {} in {}\n", generation_, name);
      while (content.size() < 200'000 + generation_ * 1000) content += content;
      // Replaced as a whole: what a program reads of a file that changes under it is the program's matter.
      (void)write_file_durably(ground_ / ("data/" + std::string(name)), as_bytes(content), 0640);
      history_[name].insert(content);
    }
    (void)write_file_durably(ground_ / fmt::format("data/new{}", generation_), as_bytes("new"), 0644);
    history_[fmt::format("new{}", generation_)].insert("new");
  }
  bool was_ever(const TreeEntry& entry, std::string_view content) override {
    const std::string name = folder_ ? entry.path.substr(std::string_view("folder/").size()) : "a";
    return history_[name].contains(std::string(content));
  }
  std::string new_target() override { return ground_ / fmt::format("targets/new{}", ++targets_); }
  std::string occupied_target() override {
    const std::string target = new_target();
    if (folder_) (void)make_folders(target);
    (void)write_file_durably(folder_ ? target + "/something" : target, as_bytes("x"));
    return target;
  }
  std::vector<std::string> differences(const std::string& target) override {
    if (!folder_) {
      if (equal(*read_file(target), *read_file(ground_ / "data/a"))) return {};
      return {"the output is another"};
    }
    std::string here = listing(ground_ / "data"), there = listing(target);
    for (size_t at; (at = there.find(target)) != std::string::npos;)
      there.replace(at, target.size(), ground_ / "data");
    if (here == there) return {};
    return {"the folder is another"};
  }
  std::string surroundings(const std::string& target) override { return listing(ground_.path(), target); }
  std::string outside() override { return ground_ / "outside"; }
  std::string sandbox() override {
    (void)make_folders(ground_ / "targets/sandbox");
    return ground_ / "targets/sandbox";
  }
  std::vector<std::string> secrets() override { return {"salaries", ground_.path()}; }

 private:
  const bool folder_;
  TemporaryFolder ground_ = *TemporaryFolder::make("command-contract");
  std::unique_ptr<Source> source_;
  size_t generation_ = 0, targets_ = 0;
  std::map<std::string, std::set<std::string>> history_;
};

TEST(CommandContract, an_output_keeps_the_contract_of_sources_S14_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<CommandFixture>(false); }),
            std::vector<std::string>{});
}

TEST(CommandContract, a_folder_keeps_the_contract_of_sources_S14_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<CommandFixture>(true); }),
            std::vector<std::string>{});
}

}  // namespace
}  // namespace kuramori::command
