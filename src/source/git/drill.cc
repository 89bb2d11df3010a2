// Restored for real, and looked at with git's own eyes.
//
// `git fsck --full`: every object's digest, and that all that refs lead to is there. Not `--strict`: what it
// calls wrong beyond that (odd dates, modes of twenty years ago) stands in well-known histories and hurts
// nobody.
#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "source/git/git_source.h"
#include "source/git/layout.h"
#include "source/git/lfs.h"

namespace kuramori::git {
namespace {

constexpr Duration kDrillStepMax = std::chrono::hours(6);

std::string fact(const CapturedTree& tree, const std::string& name) {
  const auto found = tree.facts().find(name);
  return found == tree.facts().end() ? "" : found->second;
}

class Drill {
 public:
  Drill(const CapturedTree& tree, std::string sandbox, Reporter& reporter, std::stop_token stop)
      : tree_(tree), sandbox_(std::move(sandbox)), reporter_(reporter), stop_(std::move(stop)) {}

  Result<std::vector<CheckResult>> run() {
    repository_ = join_path(sandbox_, "repository");
    TRY_ASSIGN(const SourceRestoreOutcome written, write_repository(tree_, repository_, reporter_, stop_));
    (void)written;
    TRY_ASSIGN(
        Git git,
        Git::make({.way = Remote::Way::kFolder, .scheme = "file", .url = repository_, .path = repository_},
                  {}, join_path(sandbox_, "home"), stop_));
    git_ = &git;
    reporter_.phase("checking", 0);
    TRY(fsck());
    TRY(refs());
    TRY(lfs());
    TRY(clone());
    return std::move(checks_);
  }

 private:
  void tell(std::string name, bool good, std::string detail) {
    checks_.push_back({std::move(name), good ? "passed" : "failed", std::move(detail)});
  }

  Result<void> fsck() {
    TRY_ASSIGN(const Finished finished,
               git_->run({.arguments = {"fsck", "--full", "--no-dangling", "--no-progress"},
                          .repository = repository_,
                          .timeout = kDrillStepMax}));
    // Known to be wrong when it was captured, as the remote had it: damage is another matter.
    const bool known = !finished.exit.ok() && fact(tree_, "fsck_lenient") == "yes" &&
                       finished.errors.find("missing") == std::string::npos &&
                       finished.errors.find("corrupt") == std::string::npos &&
                       finished.errors.find("mismatch") == std::string::npos &&
                       finished.errors.find("broken") == std::string::npos;
    if (known) {
      checks_.push_back(
          {"git fsck --full", "bounded",
           fmt::format("objects are malformed as the remote has them: {}", last_words(finished.errors))});
      return {};
    }
    tell("git fsck --full", finished.exit.ok(),
         finished.exit.ok() ? "every object is what its id says, and nothing is missing"
                            : fmt::format("{}: {}", finished.exit.describe(),
                                          last_words(finished.errors + finished.output)));
    return {};
  }

  Result<void> refs() {
    TRY_ASSIGN(const std::string text, text_of(tree_, "packed-refs"));
    TRY_ASSIGN(const Refs all, parse_refs(text));
    std::string questions;
    for (const Ref& ref : all) questions += ref.name + "\n";
    TRY_ASSIGN(const std::string answers,
               git_->checked({.arguments = {"cat-file", "--batch-check=%(objectname)", "--buffer"},
                              .repository = repository_,
                              .input = std::move(questions),
                              .timeout = kDrillStepMax}));
    size_t good = 0, at = 0;
    for (const Ref& ref : all) {
      const size_t end = answers.find('\n', at);
      if (end == std::string::npos) break;
      good += std::string_view(answers).substr(at, end - at) == ref.oid ? 1 : 0;
      at = end + 1;
    }
    const auto kept =
        std::ranges::count_if(all, [](const Ref& ref) { return ref.name.starts_with(kKeptBelow); });
    const std::string captured = fact(tree_, "refs"), captured_kept = fact(tree_, "refs_kept");
    // A ref of the remote may have a name below ours, so that only the sum is certain.
    const bool as_many =
        captured.empty() || all.size() <= std::stoull("0" + captured) + std::stoull("0" + captured_kept);
    tell("every ref resolves", good == all.size() && as_many,
         fmt::format("{} of {} refs, {} of them kept from before; captured {} and {}", good, all.size(), kept,
                     captured, captured_kept));
    return {};
  }

  Result<void> lfs() {
    uint64_t objects = 0, wrong = 0;
    std::string first;
    std::set<std::string> there;
    TRY(tree_.visit([&](const TreeEntry& entry) -> Result<void> {
      if (entry.type != EntryType::kFile || !entry.path.starts_with(kLfsObjects)) return {};
      const std::string oid = entry.path.substr(entry.path.rfind('/') + 1);
      TRY_ASSIGN(const bool good, is_lfs_object(join_path(repository_, entry.path), oid, stop_));
      ++objects;
      if (!good) {
        ++wrong;
        if (first.empty()) first = oid;
      }
      there.insert(oid);
      return {};
    }));
    Lfs history;
    TRY(history.scan(*git_, repository_, format_of(tree_) == "sha256" ? 32 : 20));
    if (history.pointers.empty() && objects == 0) return {};
    size_t missing = 0;
    for (const auto& [oid, size] : history.pointers) missing += size > 0 && !there.contains(oid) ? 1 : 0;
    tell("LFS objects are what their names say", wrong == 0,
         wrong == 0 ? fmt::format("SHA-256 of {} objects", objects)
                    : fmt::format("{} of {} are not, {} first", wrong, objects, first));
    const bool told =
        fact(tree_, "lfs") == "left out" || std::to_string(missing) == fact(tree_, "lfs_missing");
    checks_.push_back(
        {"LFS pointers lead to objects",
         missing == 0 ? "passed"
         : told       ? "bounded"
                      : "failed",
         fmt::format("{} of {} pointers in the history{}", history.pointers.size() - missing,
                     history.pointers.size(), missing > 0 && told ? ", as the snapshot says" : "")});
    return {};
  }

  Result<void> clone() {
    // As anybody would, through git's own protocol; no file is checked out.
    TRY_ASSIGN(const Finished finished,
               git_->run({.arguments = {"clone", "--quiet", "--no-local", "--no-checkout", "--template=",
                                        "--end-of-options", repository_, join_path(sandbox_, "clone")},
                          .timeout = kDrillStepMax,
                          .lenient = true}));
    tell("git clone", finished.exit.ok(),
         finished.exit.ok() ? "the restored repository can be cloned" : last_words(finished.errors));
    return {};
  }

  const CapturedTree& tree_;
  const std::string sandbox_;
  Reporter& reporter_;
  std::stop_token stop_;
  std::string repository_;
  const Git* git_ = nullptr;
  std::vector<CheckResult> checks_;
};

}  // namespace

Result<std::vector<CheckResult>> drill_git(const GitSettings&, const CapturedTree& tree,
                                           const std::string& sandbox, Reporter& reporter,
                                           std::stop_token stop) {
  return Drill(tree, sandbox, reporter, std::move(stop)).run();
}

}  // namespace kuramori::git
