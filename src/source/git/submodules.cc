#include "source/git/submodules.h"

#include <fmt/core.h>

#include <map>
#include <set>

namespace kuramori::git {
namespace {

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t end = text.find(by);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

// submodule.<name>.<what> of a .gitmodules: path and url by name.
Result<std::map<std::string, Submodule>> read_gitmodules(const Git& git, const std::string& repository,
                                                         const std::string& blob) {
  std::map<std::string, Submodule> found;
  TRY_ASSIGN(const Finished listed,
             git.run({.arguments = {"config", "--blob", blob, "-z", "--list"}, .repository = repository}));
  if (!listed.exit.ok()) return found;  // what is no configuration names nothing
  for (const std::string_view item : split(listed.output, '\0')) {
    const std::string_view key = item.substr(0, item.find('\n'));
    if (key.size() == item.size() || !key.starts_with("submodule.")) continue;
    const size_t last = key.rfind('.');
    if (last <= 9) continue;
    Submodule& one = found[std::string(key.substr(10, last - 10))];
    const std::string value(item.substr(key.size() + 1));
    if (key.substr(last + 1) == "path") one.path = value;
    if (key.substr(last + 1) == "url") one.url = value;
  }
  return found;
}

// The commits that stand in a tree of `head` at these paths.
Result<std::map<std::string, std::string>> commits_at(const Git& git, const std::string& repository,
                                                      const std::string& head,
                                                      const std::map<std::string, Submodule>& modules) {
  GitCall call{.arguments = {"ls-tree", "-z", "--full-tree", head, "--"}, .repository = repository};
  for (const auto& [name, module] : modules) {
    if (!module.path.empty()) call.arguments.push_back(module.path);
  }
  std::map<std::string, std::string> commits;
  TRY_ASSIGN(const Finished listed, git.run(std::move(call)));
  for (const std::string_view item : split(listed.output, '\0')) {
    const size_t tab = item.find('\t');
    if (tab == std::string_view::npos || !item.starts_with("160000 commit ")) continue;
    commits.emplace(item.substr(tab + 1), item.substr(14, tab - 14));
  }
  return commits;
}

}  // namespace

Result<Submodules> find_submodules(const Git& git, const std::string& repository, const Refs& refs,
                                   size_t heads_max) {
  Submodules found;
  std::vector<const Ref*> heads;
  std::set<std::string_view> met;
  std::string questions;
  for (const Ref& ref : refs) {
    if (!ref.name.starts_with("refs/heads/") || !met.insert(ref.oid).second) continue;
    heads.push_back(&ref);
    questions += fmt::format("{}:.gitmodules\n", ref.oid);
  }
  if (heads.empty()) return found;
  TRY_ASSIGN(const std::string answers, git.checked({.arguments = {"cat-file", "--batch-check", "--buffer"},
                                                     .repository = repository,
                                                     .input = std::move(questions)}));
  const auto lines = split(answers, '\n');
  std::map<std::string, std::map<std::string, Submodule>> by_blob;
  size_t looked = 0;
  for (size_t i = 0; i < std::min(lines.size(), heads.size()); ++i) {
    const auto words = split(lines[i], ' ');
    if (words.size() != 3 || words[1] != "blob") continue;
    if (looked++ >= heads_max) {
      ++found.heads_left_out;
      continue;
    }
    const std::string blob(words[0]);
    auto modules = by_blob.find(blob);
    if (modules == by_blob.end()) {
      TRY_ASSIGN(auto read, read_gitmodules(git, repository, blob));
      modules = by_blob.emplace(blob, std::move(read)).first;
    }
    if (modules->second.empty()) continue;
    TRY_ASSIGN(const auto commits, commits_at(git, repository, heads[i]->oid, modules->second));
    for (const auto& [name, module] : modules->second) {
      const auto commit = commits.find(module.path);
      found.records.push_back(
          {heads[i]->name, module.path, module.url, commit == commits.end() ? "" : commit->second});
    }
  }
  return found;
}

}  // namespace kuramori::git
