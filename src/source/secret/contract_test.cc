// The kind `secret` keeps the contract of sources.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <set>

#include "os/file.h"
#include "source/files/failing_calls_for_tests.h"
#include "source/secret/secret.h"
#include "testing/source_contract.h"

namespace kuramori::secret {
namespace {

// One line for each thing below `folder`, with modes, but for what is at `left_out`.
std::string listing(const std::string& folder, const std::string& left_out = "") {
  std::string all;
  const auto entries = list_folder(folder);
  for (const FolderEntry& entry : *entries) {
    const std::string path = join_path(folder, entry.name);
    if (path == left_out) continue;
    all += fmt::format("{} {} {:o}\n", path, static_cast<int>(entry.type), status_of(path)->mode);
    if (entry.type == FileType::kFolder) all += listing(path, left_out);
    if (entry.type == FileType::kFile) all += std::string(as_text(*read_file(path))) + "\n";
  }
  return all;
}

class SecretFixture : public SourceFixture {
 public:
  SecretFixture() {
    for (const char* name : {"app/keys", "outside", "targets"}) (void)make_folders(ground_ / name, 0700);
    (void)write_file_durably(ground_ / "outside/precious", as_bytes("not to be touched"));
    change();
    source_ = make_source({.paths = {ground_ / "app"}});
  }
  Source& source() override { return *source_; }
  std::unique_ptr<Source> broken() override { return make_source({.paths = {ground_ / "no such folder"}}); }
  void change() override {
    ++generation_;
    put(".env", fmt::format("DB_PASSWORD=hunter{}\nPORT=8080\n", generation_));
    put("keys/tls.pem", fmt::format("-----BEGIN PRIVATE KEY-----\nhunter{}\n", generation_));
    put(fmt::format("keys/new{}", generation_), "A=hunter");
  }
  bool was_ever(const TreeEntry& entry, std::string_view content) override {
    return history_[entry.path].contains(std::string(content));
  }
  std::vector<std::string> make_unreadable() override {
    (void)::chmod((ground_ / "app/.env").c_str(), 0);
    return {".env"};
  }
  void captured_by(const std::function<void()>& work) override { files::without_privileges(work); }
  std::string new_target() override { return ground_ / fmt::format("targets/new{}", ++targets_); }
  std::string occupied_target() override {
    const std::string target = new_target();
    (void)make_folders(target);
    (void)write_file_durably(target + "/something", as_bytes("x"));
    return target;
  }
  std::vector<std::string> differences(const std::string& target) override {
    const std::string here = listing(ground_ / "app");
    std::string there = listing(target);
    for (size_t at; (at = there.find(target)) != std::string::npos;)
      there.replace(at, target.size(), ground_ / "app");
    if (here == there) return {};
    return {there + "is not\n" + here};
  }
  std::string surroundings(const std::string& target) override { return listing(ground_.path(), target); }
  std::string outside() override { return ground_ / "outside"; }
  std::string sandbox() override {
    (void)make_folders(ground_ / "targets/sandbox");
    return ground_ / "targets/sandbox";
  }
  std::vector<std::string> secrets() override { return {"hunter", "DB_PASSWORD", ".env", ground_.path()}; }

 private:
  void put(const std::string& name, const std::string& content) {
    (void)write_file_durably(ground_ / ("app/" + name), as_bytes(content), 0600);
    history_[name].insert(content);
  }
  TemporaryFolder ground_ = *TemporaryFolder::make("secret-contract");
  std::unique_ptr<Source> source_;
  size_t generation_ = 0, targets_ = 0;
  std::map<std::string, std::set<std::string>> history_;
};

TEST(SecretContract, secrets_keep_the_contract_of_sources_V13_V27) {
  EXPECT_EQ(check_source_contract([] { return std::make_unique<SecretFixture>(); }),
            std::vector<std::string>{});
}

}  // namespace
}  // namespace kuramori::secret
