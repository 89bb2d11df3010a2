#include <fmt/core.h>

#include <cstdlib>

#include "source/bucket/bucket_source.h"
#include "source/bucket/folder_view.h"
#include "source/bucket/layout.h"
#include "source/files/write_tree.h"

namespace kuramori::bucket {
namespace {

constexpr uint64_t kDrillBytes = uint64_t{4} << 30;  // that are restored; of more, a sample
constexpr size_t kReadBytes = size_t{1} << 20;

uint64_t fact(const CapturedTree& tree, const std::string& name) {
  const auto found = tree.facts().find(name);
  return found == tree.facts().end() ? 0 : std::strtoull(found->second.c_str(), nullptr, 10);
}

// The MD5 of a restored file, and how long it is.
Result<std::pair<std::string, uint64_t>> md5_of_file(const std::string& path) {
  TRY_ASSIGN(const Fd file, open_file(path));
  Md5Stream md5;
  Bytes bytes(kReadBytes);
  uint64_t at = 0;
  for (;;) {
    TRY_ASSIGN(const size_t got, pread_some(file, at, bytes, path));
    if (got == 0) return std::pair(to_hex(md5.finish()), at);
    md5.add(ByteView(bytes).first(got));
    at += got;
  }
}

}  // namespace

Result<std::vector<CheckResult>> drill_bucket(const CapturedTree& tree, const std::string& sandbox,
                                              Reporter& reporter, const std::stop_token& stop) {
  const uint64_t bytes = fact(tree, "bytes");
  const uint64_t every = bytes / kDrillBytes + 1;
  // Counted as they stand in the tree.
  uint64_t objects = 0, versions = 0, markers = 0, described = 0;
  TRY(tree.visit([&](const TreeEntry& entry) -> Result<void> {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the drill was stopped");
    if (entry.type == EntryType::kDirectory) return {};
    TRY(key_of_entry(entry.path));
    if (!attribute(entry, kMarkerAttribute).empty()) {
      ++markers;
      return {};
    }
    ++(entry.path.starts_with("versions/") ? versions : objects);
    described += attribute(entry, kEtagAttribute).empty() ? 0 : 1;
    return {};
  }));
  const FolderView view(tree, {.every = every}, stop);
  TRY_ASSIGN(const SourceRestoreOutcome restored,
             files::write_tree(view, {.to = sandbox + "/objects"}, {}, reporter, stop));
  uint64_t equal = 0, sized = 0;
  std::string wrong;
  const FolderView again(tree, {.every = every}, stop);
  TRY(again.visit([&](const TreeEntry& entry) -> Result<void> {
    if (entry.type != EntryType::kFile) return {};
    TRY_ASSIGN(const auto found, md5_of_file(sandbox + "/objects/" + entry.path));
    const std::string_view etag = attribute(entry, kEtagAttribute);
    const bool has_md5 = is_md5(etag, attribute(entry, "user.s3.encryption"));
    const bool is_good = found.second == entry.size && (!has_md5 || found.first == etag);
    if (!is_good) {
      if (wrong.empty()) wrong = entry.path;
      return {};
    }
    ++(has_md5 ? equal : sized);
    return {};
  }));
  const auto check = [](std::string name, bool holds, std::string detail) {
    return CheckResult{std::move(name), holds ? "passed" : "failed", std::move(detail)};
  };
  std::vector<CheckResult> checks;
  checks.push_back(check("objects are those that were captured", objects == fact(tree, "objects"),
                         fmt::format("{} now, {} captured", objects, fact(tree, "objects"))));
  checks.push_back(
      check("versions are those that were captured",
            versions == fact(tree, "versions") && markers == fact(tree, "delete_markers"),
            fmt::format("{} older versions and {} delete markers now, {} and {} captured", versions, markers,
                        fact(tree, "versions"), fact(tree, "delete_markers"))));
  checks.push_back(check("objects carry their metadata", described == objects + versions,
                         fmt::format("{} of {}", described, objects + versions)));
  checks.push_back(check(
      "restored files are what the store said they are", wrong.empty(),
      wrong.empty() ? fmt::format("{} by MD5, {} by size", equal, sized) : fmt::format("not so: {}", wrong)));
  if (every > 1) {
    checks.push_back({"all was restored", "bounded",
                      fmt::format("{} of {} objects, every {}th: {} bytes would be too many", equal + sized,
                                  objects, every, bytes)});
  }
  return checks;
}

}  // namespace kuramori::bucket
