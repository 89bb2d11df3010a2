#include "engine/diff_tree.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "base/time_text.h"
#include "conc/channel.h"
#include "engine/snapshot_tree.h"

namespace kuramori {
namespace {

constexpr size_t kNodesAhead = 256;

// The nodes of a snapshot's content one after the other, although its reader gives them to a function.
class NodeStream {
 public:
  explicit NodeStream(const SnapshotReader& snapshot)
      : ahead_(kNodesAhead), thread_([this, &snapshot] {
          auto visited = snapshot.visit([this](TreeNode&& node) -> Result<void> {
            auto path = content_path(node.entry.path);
            if (!path) return {};
            node.entry.path = std::move(*path);
            if (!ahead_.push(std::move(node))) return fail(ErrorKind::kInterrupted, "nobody listens");
            return {};
          });
          ended_ = std::move(visited);
          ahead_.close();
        }) {}
  ~NodeStream() { ahead_.cancel(); }

  // Nothing at the end.
  Result<std::optional<TreeNode>> next() {
    if (auto node = ahead_.pop()) return node;
    if (thread_.joinable()) thread_.join();
    if (!ended_) return ended_.error();
    return std::optional<TreeNode>();
  }

 private:
  Channel<TreeNode> ahead_;
  Result<void> ended_;
  std::jthread thread_;
};

std::string owner_of(const TreeEntry& entry) {
  const std::string user = entry.user.empty() ? std::to_string(entry.uid) : entry.user;
  return fmt::format("{}:{}", user, entry.group.empty() ? std::to_string(entry.gid) : entry.group);
}

bool same_content(const TreeNode& before, const TreeNode& after) {
  if (before.entry.size != after.entry.size) return false;
  if (before.digest && after.digest) return *before.digest == *after.digest;
  return before.extents == after.extents;
}

// Everything a restore would make another way. Times alone are no change anybody asked about.
EntryChange compare(const TreeNode& before, const TreeNode& after) {
  const TreeEntry &was = before.entry, &is = after.entry;
  EntryChange change{.path = is.path, .size_before = was.size, .size_after = is.size};
  if (was.type != is.type) {
    change.what.emplace_back("another type");
    change.content = true;
    return change;
  }
  if (is.type == EntryType::kFile && !same_content(before, after)) {
    change.content = true;
    change.what.emplace_back("content");
  }
  if (was.link != is.link) change.what.push_back(fmt::format("leads to {} → {}", was.link, is.link));
  if (was.mode != is.mode) change.what.push_back(fmt::format("mode {:o} → {:o}", was.mode, is.mode));
  if (was.uid != is.uid || was.gid != is.gid)
    change.what.push_back(fmt::format("owner {} → {}", owner_of(was), owner_of(is)));
  if (was.rdev != is.rdev) change.what.emplace_back("device");
  if (was.attributes != is.attributes) change.what.emplace_back("attributes");
  return change;
}

}  // namespace

Result<DiffCounts> diff_trees(const SnapshotReader& before, const SnapshotReader& after,
                              const std::function<Result<void>(const EntryChange&)>& visit) {
  NodeStream old_nodes(before), new_nodes(after);
  DiffCounts counts;
  TRY_ASSIGN(std::optional<TreeNode> was, old_nodes.next());
  TRY_ASSIGN(std::optional<TreeNode> is, new_nodes.next());
  while (was || is) {
    if (was && (!is || tree_order(was->entry.path, is->entry.path))) {
      ++counts.removed;
      TRY(visit({.how = PartChange::How::kRemoved,
                 .path = was->entry.path,
                 .what = {},
                 .size_before = was->entry.size}));
      TRY_ASSIGN(was, old_nodes.next());
      continue;
    }
    if (!was || tree_order(is->entry.path, was->entry.path)) {
      ++counts.added;
      TRY(visit({.how = PartChange::How::kAdded,
                 .path = is->entry.path,
                 .what = {},
                 .size_after = is->entry.size}));
      TRY_ASSIGN(is, new_nodes.next());
      continue;
    }
    const EntryChange change = compare(*was, *is);
    if (!change.what.empty()) {
      ++counts.changed;
      TRY(visit(change));
    }
    TRY_ASSIGN(was, old_nodes.next());
    TRY_ASSIGN(is, new_nodes.next());
  }
  return counts;
}

}  // namespace kuramori
