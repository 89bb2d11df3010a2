// A captured tree seen otherwise: a folder of it as the whole, or as nobody's but ours.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "source/source.h"

namespace kuramori {

// What is below a folder of the tree, with that folder as the root. Borrows the tree.
class TreeBelow final : public CapturedTree {
 public:
  TreeBelow(const CapturedTree& tree, std::string folder) : tree_(tree), folder_(std::move(folder)) {}
  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override;
  Result<void> read(std::string_view path, ContentSink& sink) const override;
  const std::map<std::string, std::string>& facts() const override { return tree_.facts(); }

 private:
  const CapturedTree& tree_;
  const std::string folder_;
};

// The same entries, but files 0600 and folders 0700, ours, without attributes. Borrows the tree.
class PrivateTree final : public CapturedTree {
 public:
  explicit PrivateTree(const CapturedTree& tree) : tree_(tree) {}
  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override;
  Result<void> read(std::string_view path, ContentSink& sink) const override {
    return tree_.read(path, sink);
  }
  const std::map<std::string, std::string>& facts() const override { return tree_.facts(); }

 private:
  const CapturedTree& tree_;
};

// Whether `only` wants this path: it is empty, or has it, or a folder above it.
bool is_wanted(const std::vector<std::string>& only, std::string_view path);

}  // namespace kuramori
