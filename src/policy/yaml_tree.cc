#include "policy/yaml_tree.h"

#include <fmt/core.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <sstream>

namespace kuramori {
namespace {

// Thrown through the library's parser and caught below: it has no other way to be stopped.
struct Stop {
  int line;
  std::string why;
};

size_t count_nodes(const YamlNode& node) {
  size_t count = 1;
  for (const YamlNode& item : node.items) count += count_nodes(item);
  return count;
}

// Builds the tree from the parser's events.
class Builder final : public YAML::EventHandler {
 public:
  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(YamlNode::Kind::kNull, mark), anchor, mark);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_tag(mark, tag);
    YamlNode node = make(YamlNode::Kind::kText, mark);
    node.text = value;
    node.quoted = tag == "!";
    add(std::move(node), anchor, mark);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw Stop{mark.line + 1, "an alias to something that is not complete yet"};
    nodes_ += count_nodes(found->second);
    add(YamlNode(found->second), YAML::NullAnchor, mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    refuse_tag(mark, tag);
    open(make(YamlNode::Kind::kList, mark), anchor, mark);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    refuse_tag(mark, tag);
    open(make(YamlNode::Kind::kMap, mark), anchor, mark);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor;
    bool key_is_next = true;  // of a map
  };

  static YamlNode make(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    return node;
  }
  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!")
      throw Stop{mark.line + 1, "tags such as " + tag + " are not used here"};
  }

  void open(YamlNode node, YAML::anchor_t anchor, const YAML::Mark& mark) {
    if (open_.size() >= kYamlDepthMax)
      throw Stop{mark.line + 1, fmt::format("more than {} levels", kYamlDepthMax)};
    if (!open_.empty() && open_.back().node.kind == YamlNode::Kind::kMap && open_.back().key_is_next)
      throw Stop{mark.line + 1, "a key must be a word"};
    open_.push_back({std::move(node), anchor});
  }
  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    YAML::Mark mark;
    mark.line = done.node.line - 1;
    add(std::move(done.node), done.anchor, mark);
  }
  void add(YamlNode node, YAML::anchor_t anchor, const YAML::Mark& mark) {
    if (++nodes_ > kYamlNodesMax)
      throw Stop{mark.line + 1, fmt::format("more than {} values", kYamlNodesMax)};
    if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kMap && parent.key_is_next) {
      if (node.kind != YamlNode::Kind::kText) throw Stop{mark.line + 1, "a key must be a word"};
      auto first = std::ranges::find(parent.node.keys, node.text);
      if (first != parent.node.keys.end())
        throw Stop{mark.line + 1,
                   fmt::format("the key \"{}\" is there already, in line {}", node.text,
                               parent.node.key_lines[static_cast<size_t>(first - parent.node.keys.begin())])};
      parent.node.keys.push_back(node.text);
      parent.node.key_lines.push_back(mark.line + 1);
    } else {
      parent.node.items.push_back(std::move(node));
    }
    parent.key_is_next = !parent.key_is_next;
  }

  YamlNode root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  size_t nodes_ = 0;
};

Error bad_yaml(const std::string& name, int line, std::string why) {
  return fail(ErrorKind::kUsage, fmt::format("{}:{}: cannot be read as YAML", name, line), std::move(why),
              fmt::format("correct line {} of {}", line, name));
}

}  // namespace

Result<YamlNode> parse_yaml(std::string_view text, const std::string& name) {
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    Builder builder;
    if (!parser.HandleNextDocument(builder)) return YamlNode{};
    Builder second;
    if (parser.HandleNextDocument(second))
      return bad_yaml(name, 1, "there is more than one document (---) in the file");
    return builder.take();
  } catch (const Stop& stop) {
    return bad_yaml(name, stop.line, stop.why);
  } catch (const YAML::Exception& error) {
    return bad_yaml(name, std::max(error.mark.line, 0) + 1, error.msg);
  } catch (const std::exception& error) {
    return bad_yaml(name, 1, error.what());
  }
}

}  // namespace kuramori
