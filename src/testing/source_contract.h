// The contract suite of source/source.h: every kind that is kept as a tree passes it, every broken one must
// not.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "source/source.h"

namespace kuramori {

// A real resource of a kind, new for each use, and what only its kind knows of it.
class SourceFixture {
 public:
  virtual ~SourceFixture() = default;
  // The resource, always the same one.
  virtual Source& source() = 0;
  // A source whose resource is not there.
  virtual std::unique_ptr<Source> broken() = 0;

  // Changes every content of the resource, and what entries there are. Also called in the middle of a
  // capture, by the thread that takes its content.
  virtual void change() = 0;
  // Takes out of an entry what is of the capture and not of the resource (when it was taken), before two
  // captures of the same are compared.
  virtual void settle(TreeEntry&, std::string& /*content*/) {}
  // Whether the entry held just this at some time since the fixture was made.
  virtual bool was_ever(const TreeEntry& entry, std::string_view content) = 0;
  // Makes some of the resource unreadable for captured_by(), and tells which paths of the tree cannot be in a
  // snapshot now. None: a kind that is readable as a whole or not at all.
  virtual std::vector<std::string> make_unreadable() { return {}; }
  // Runs all that captures do: a fixture may take away what would let it read everything.
  virtual void captured_by(const std::function<void()>& work) { work(); }

  virtual std::string new_target() = 0;       // a path or URL to restore to
  virtual std::string occupied_target() = 0;  // one that must be refused
  // How a restored copy differs from the resource, in words; empty when it does not.
  virtual std::vector<std::string> differences(const std::string& target) = 0;
  // All that a restore to `target` must leave as it is, as one text.
  virtual std::string surroundings(const std::string& target) = 0;
  // A folder that a hostile tree may try to write into; it belongs to the surroundings. "": none.
  virtual std::string outside() { return ""; }
  virtual std::string sandbox() = 0;  // an empty folder for a drill

  // Names, paths, content of the resource: what its facts must not tell.
  virtual std::vector<std::string> secrets() = 0;
};

using SourceFixtureFactory = std::function<std::unique_ptr<SourceFixture>()>;

// A snapshot in memory.
class MemoryTree : public CapturedTree {
 public:
  struct Node {
    TreeEntry entry;
    std::string content;
    std::vector<std::pair<uint64_t, uint64_t>> holes;  // offset, bytes
  };
  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override;
  Result<void> read(std::string_view path, ContentSink& sink) const override;
  const std::map<std::string, std::string>& facts() const override { return told; }
  const Node* find(std::string_view path) const;

  std::vector<Node> nodes;
  std::map<std::string, std::string> told;
};

// Takes content into a node. `on_bytes` is called when some came.
class NodeSink : public ContentSink {
 public:
  explicit NodeSink(MemoryTree::Node& node, std::function<void()> on_bytes = {})
      : node_(node), on_bytes_(std::move(on_bytes)) {}
  Result<void> add(ByteView bytes) override;
  Result<void> add_hole(uint64_t bytes) override;
  Result<void> restart() override;

 private:
  MemoryTree::Node& node_;
  std::function<void()> on_bytes_;
};

// What the source does against the contract, in words; empty when it keeps it.
std::vector<std::string> check_source_contract(const SourceFixtureFactory& make_fixture);

}  // namespace kuramori
