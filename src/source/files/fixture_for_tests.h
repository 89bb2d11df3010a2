// A tree of files for the contract suite of sources (testing/source_contract.h).
#pragma once
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "source/files/attributes.h"
#include "source/files/captured_for_tests.h"
#include "source/files/content.h"
#include "source/files/failing_calls_for_tests.h"
#include "source/files/files_source.h"
#include "testing/source_contract.h"

namespace kuramori::files {

// One line for each thing below `folder`, all that a restore must give back in it; a file's further names by
// the first.
inline std::map<std::string, std::string> described(const std::string& folder) {
  std::map<std::string, std::string> all;
  std::map<std::pair<uint64_t, uint64_t>, std::string> first_names;
  std::function<void(const std::string&)> visit = [&](const std::string& path) {
    const std::string at = join_path(folder, path);
    struct stat status;
    if (::lstat(at.c_str(), &status) != 0) return;
    std::string line = fmt::format("mode {:o} owner {}:{} time {}.{:09}", status.st_mode, status.st_uid,
                                   status.st_gid, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) line += fmt::format(" device {}", status.st_rdev);
    if (S_ISLNK(status.st_mode)) line += " to " + *read_link(at);
    if (!S_ISDIR(status.st_mode)) {
      auto [found, is_first] = first_names.try_emplace({status.st_dev, status.st_ino}, path);
      if (!is_first) line += " is " + found->second;
    }
    Fd opened = *open_file(at, O_PATH | O_NOFOLLOW);
    std::vector<std::pair<std::string, std::string>> unreadable;
    const Attributes attributes = *read_attributes(opened, at, unreadable);
    for (const auto& [name, value] : attributes) line += fmt::format(" {}={}", name, to_hex(as_bytes(value)));
    if (S_ISREG(status.st_mode)) {
      Bytes content = *read_file(at, size_t{1} << 30);
      line += fmt::format(" {} bytes, hash {:x}", content.size(),
                          std::hash<std::string_view>()(as_text(content)));
      // Within what one filesystem does for small files.
      if (static_cast<uint64_t>(status.st_blocks) * 512 + (1 << 20) < content.size()) line += " sparse";
    }
    all[path] = line;
    if (!S_ISDIR(status.st_mode)) return;
    const std::vector<FolderEntry> entries = *list_folder(at);
    for (const FolderEntry& entry : entries) visit(join_path(path, entry.name));
  };
  visit("");
  return all;
}

class FilesFixture : public SourceFixture {
 public:
  using Wrap = std::function<std::unique_ptr<Source>(std::unique_ptr<Source>)>;

  // `wrap`: makes of the right source another, for tests of the suite itself. `parent`: the folder to stand
  // in.
  explicit FilesFixture(const Wrap& wrap = {}, std::string parent = {}) : ground_(std::move(parent)) {
    ground_.folder("targets");
    ground_.file("outside/precious", "not to be touched");
    ground_.folder("tree");
    for (const char* name : {"a/salaries.txt", "a/b/deep", "a.b", "z", "n\xff\xfe", "empty/none"})
      write(name);
    for (const char* name : {"a/second name", "z2"})
      (void)::link((ground_ / "tree/a.b").c_str(), (ground_ / ("tree/" + std::string(name))).c_str());
    ground_.link("a/b/deep", "tree/link");
    (void)::mkfifo((ground_ / "tree/pipe").c_str(), 0640);
    (void)::mknod((ground_ / "tree/socket").c_str(), S_IFSOCK | 0755, 0);
    (void)::mknod((ground_ / "tree/null").c_str(), S_IFCHR | 0622, makedev(1, 3));
    {
      Fd sparse = *open_file(ground_ / "tree/sparse", O_CREAT | O_RDWR);
      (void)pwrite_full(sparse, 1 << 20, as_bytes("middle"), "sparse");
      (void)::ftruncate(sparse.get(), 2 << 20);
      std::string content(size_t{2} << 20, '\0');
      content.replace(1 << 20, 6, "middle");
      history_["sparse"].insert(std::hash<std::string_view>()(content));
    }
    (void)::setxattr((ground_ / "tree/a/b").c_str(), "user.folder", "f", 1, 0);
    (void)::setxattr((ground_ / "tree/z").c_str(), "user.file", "\0x", 2, 0);
    // An ACL that lets user 1234 read: user::rw- user:1234:r-- group::r-- mask::r-- other::---
    const unsigned char acl[] = {2, 0,    0,   0,   1,   0,   6,    0, 255, 255, 255, 255, 2,   0,    4,
                                 0, 0xd2, 4,   0,   0,   4,   0,    4, 0,   255, 255, 255, 255, 0x10, 0,
                                 4, 0,    255, 255, 255, 255, 0x20, 0, 0,   0,   255, 255, 255, 255};
    (void)::setxattr((ground_ / "tree/a/salaries.txt").c_str(), "system.posix_acl_access", acl, sizeof acl,
                     0);
    (void)::lchown((ground_ / "tree/link").c_str(), 1234, 1235);
    (void)::lchown((ground_ / "tree/z").c_str(), 1234, 1235);
    (void)::chmod((ground_ / "tree/z").c_str(), 06755);
    (void)::chmod((ground_ / "tree/a/b").c_str(), 01777);
    const timespec old[2] = {{.tv_sec = 1, .tv_nsec = 2}, {.tv_sec = -86400, .tv_nsec = 123456789}};
    (void)::utimensat(AT_FDCWD, (ground_ / "tree/link").c_str(), old, AT_SYMLINK_NOFOLLOW);
    (void)::utimensat(AT_FDCWD, (ground_ / "tree/a/b").c_str(), old, 0);
    source_ = make_files_source({.paths = {ground_ / "tree"}});
    if (wrap) source_ = wrap(std::move(source_));
  }

  Source& source() override { return *source_; }
  std::unique_ptr<Source> broken() override {
    return make_files_source({.paths = {ground_ / "no such folder"}});
  }

  void change() override {
    ++generation_;
    for (const char* name : {"a/salaries.txt", "a/b/deep", "a.b", "z", "sparse"}) write(name);
    (void)::unlink((ground_ / "tree/empty/none").c_str());
    (void)::rename((ground_ / "tree/n\xff\xfe").c_str(), (ground_ / "tree/renamed").c_str());
    history_["renamed"] = history_["n\xff\xfe"];
    write(fmt::format("b/new {}", generation_));
  }
  bool was_ever(const TreeEntry& entry, std::string_view content) override {
    return history_[entry.path].contains(std::hash<std::string_view>()(content));
  }
  std::vector<std::string> make_unreadable() override {
    (void)::chmod((ground_ / "tree/a/b").c_str(), 0);
    (void)::chmod((ground_ / "tree/a.b").c_str(), 0);
    return {"a/b/deep", "a.b"};
  }
  void captured_by(const std::function<void()>& work) override { without_privileges(work); }

  std::string new_target() override { return ground_ / fmt::format("targets/{}/restored", ++targets_); }
  std::string occupied_target() override {
    const std::string target = fmt::format("targets/{}/restored", ++targets_);
    ground_.file(target + "/something");
    return ground_ / target;
  }
  std::vector<std::string> differences(const std::string& target) override {
    std::map<std::string, std::string> here = described(ground_ / "tree"), there = described(target);
    std::vector<std::string> all;
    for (const auto& [path, line] : here) {
      if (!there.contains(path)) {
        all.push_back(fmt::format("\"{}\" is missing", path));
      } else if (there[path] != line) {
        all.push_back(fmt::format("\"{}\" was {} and is {}", path, line, there[path]));
      }
    }
    for (const auto& [path, line] : there) {
      if (!here.contains(path)) all.push_back(fmt::format("\"{}\" is there as well", path));
    }
    return all;
  }
  std::string surroundings(const std::string& target) override {
    // Without the numbered folders of targets, whose times change as they are filled.
    const std::string own = target.empty() ? "" : folder_of(target).substr(ground_.path().size() + 1);
    std::string all;
    for (const auto& [path, line] : described(ground_.path())) {
      if (path.empty() || path == "targets") continue;
      if (!own.empty() && path == own) continue;
      if (!own.empty() && path.starts_with(own + "/restored")) continue;
      all += path + ": " + line + "\n";
    }
    return all;
  }
  std::string outside() override { return ground_ / "outside"; }
  std::string sandbox() override {
    ground_.folder("targets/sandbox");
    return ground_ / "targets/sandbox";
  }
  std::vector<std::string> secrets() override { return {"salaries", ground_.path(), "middle", "deep"}; }

 private:
  // Each generation has content of its own, and of its own length: more than one step of reading for some.
  void write(const std::string& name) {
    const size_t size = (name == "z" ? kReadStepBytes : 100) + generation_ * 1000 + name.size();
    std::string content = fmt::format("{} of {}\n", name, generation_);
    while (content.size() < size) content += content;
    content.resize(size);
    const std::string path = ground_ / ("tree/" + name);
    if (Result<Fd> fd = open_file(path, O_WRONLY | O_TRUNC); fd) {
      (void)write_full(*fd, as_bytes(content), path);
    } else {
      ground_.file("tree/" + name, content);
    }
    const size_t hash = std::hash<std::string_view>()(content);
    history_[name].insert(hash);
    if (name == "a.b") history_["a/second name"].insert(hash), history_["z2"].insert(hash);
  }

  Ground ground_;
  std::unique_ptr<Source> source_;
  size_t generation_ = 0, targets_ = 0;
  std::map<std::string, std::set<size_t>> history_;  // hashes of all that each file ever held
};

}  // namespace kuramori::files
