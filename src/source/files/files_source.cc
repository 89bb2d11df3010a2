#include "source/files/files_source.h"

#include <fmt/core.h>
#include <unistd.h>

#include "source/files/watch.h"
#include "source/files/write_tree.h"

namespace kuramori::files {
namespace {

// Holds a restored folder to the tree, both in the same order, so that neither has to be remembered.
class Comparison {
 public:
  Comparison(const std::string& folder, std::stop_token stop)
      : settings_{.paths = {folder}}, stop_(std::move(stop)) {}

  Result<CheckResult> run(const CapturedTree& tree) {
    TRY_ASSIGN(places_, Places::open(settings_.paths, defects_));
    Walk walk(
        settings_, places_, {}, [this](Defect defect) { defects_.push_back(std::move(defect)); }, stop_);
    TRY(walk.next());  // the folder itself
    TRY_ASSIGN(std::optional<CaptureItem> found, walk.next());
    TRY(tree.visit([&](const TreeEntry& entry) -> Result<void> {
      if (entry.path.empty()) return {};
      ++entries_;
      while (found && tree_order(found->entry.path, entry.path)) {
        differs(found->entry.path, "is not in the snapshot");
        TRY_ASSIGN(found, walk.next());
      }
      if (!found || found->entry.path != entry.path) {
        const bool device = entry.type == EntryType::kCharDevice || entry.type == EntryType::kBlockDevice;
        if (device && ::geteuid() != 0) {
          ++devices_;
        } else {
          differs(entry.path, "is missing");
        }
        return {};
      }
      if (found->entry.type != entry.type || found->entry.size != entry.size ||
          found->entry.link != entry.link)
        differs(entry.path, "differs");
      TRY_ASSIGN(found, walk.next());
      return {};
    }));
    for (; found;) {
      differs(found->entry.path, "is not in the snapshot");
      TRY_ASSIGN(found, walk.next());
    }
    for (const Defect& defect : defects_) differs(defect.path, defect.why);
    return answer();
  }

 private:
  void differs(const std::string& path, std::string_view how) {
    if (differences_++ == 0) first_ = fmt::format("\"{}\": {}", path, how);
  }
  CheckResult answer() const {
    CheckResult check{.name = "entries"};
    if (differences_ > 0) {
      check.verdict = "failed";
      check.detail = fmt::format("{} of {} entries are not as in the snapshot; the first: {}", differences_,
                                 entries_, first_);
    } else if (devices_ > 0) {
      check.verdict = "bounded";
      check.detail = fmt::format("{} entries are there; {} device nodes are not, which only root may make",
                                 entries_ - devices_, devices_);
    } else {
      check.verdict = "passed";
      check.detail = fmt::format("{} entries are there", entries_);
    }
    return check;
  }

  const FilesSettings settings_;
  const std::stop_token stop_;
  Places places_;
  std::vector<Defect> defects_;
  uint64_t entries_ = 0, devices_ = 0, differences_ = 0;
  std::string first_;
};

class FilesSource : public Source {
 public:
  FilesSource(FilesSettings settings, MountFiles mounts)
      : settings_(std::move(settings)), mounts_(std::move(mounts)) {}

  bool is_files() const override { return true; }
  Result<std::unique_ptr<TreeCapture>> capture(Reporter& reporter, std::stop_token stop) override {
    return begin_capture(settings_, mounts_, reporter, std::move(stop));
  }
  Result<SourceRestoreOutcome> restore(const CapturedTree& tree, const SourceRestoreRequest& request,
                                       Reporter& reporter, std::stop_token stop) override {
    return write_tree(tree, request, {}, reporter, stop);
  }
  Result<std::vector<CheckResult>> drill(const CapturedTree& tree, const std::string& sandbox,
                                         Reporter& reporter, std::stop_token stop) override {
    const std::string folder = join_path(sandbox, "restored");
    TRY(write_tree(tree, {.to = folder}, {}, reporter, stop));
    TRY_ASSIGN(CheckResult check, Comparison(folder, stop).run(tree));
    return std::vector{std::move(check)};
  }
  Result<std::vector<SourceFinding>> doctor() override { return examine(settings_, mounts_); }
  Result<std::unique_ptr<Watch>> watch() override { return watch_files(settings_); }

 private:
  const FilesSettings settings_;
  const MountFiles mounts_;
};

}  // namespace

std::unique_ptr<Source> make_files_source(FilesSettings settings, MountFiles mounts) {
  return std::make_unique<FilesSource>(std::move(settings), std::move(mounts));
}

}  // namespace kuramori::files
