// A capture taken into memory, and handed back as a snapshot's tree.
#pragma once
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "source/redis/redis_source.h"

namespace kuramori::redis {

class MemorySink : public ContentSink {
 public:
  Result<void> add(ByteView piece) override {
    append(bytes, piece);
    return {};
  }
  Result<void> add_hole(uint64_t count) override {
    bytes.resize(bytes.size() + count);
    return {};
  }
  Result<void> restart() override {
    bytes.clear();
    return {};
  }
  Bytes bytes;
};

class MemoryTree : public CapturedTree {
 public:
  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override {
    for (const auto& [entry, bytes] : entries) TRY(visit(entry));
    return {};
  }
  Result<void> read(std::string_view path, ContentSink& sink) const override {
    constexpr size_t kStep = 100000;
    for (const auto& [entry, bytes] : entries) {
      if (entry.path != path) continue;
      for (size_t at = 0; at < bytes.size(); at += kStep)
        TRY(sink.add(ByteView(bytes).subspan(at, std::min(kStep, bytes.size() - at))));
      return {};
    }
    return fail(ErrorKind::kNotFound, "no such entry");
  }
  const std::map<std::string, std::string>& facts() const override { return its_facts; }

  Bytes& content(std::string_view path) {
    for (auto& [entry, bytes] : entries) {
      if (entry.path == path) return bytes;
    }
    throw std::runtime_error("no such entry");
  }
  uint64_t number(const std::string& fact) const {
    auto at = its_facts.find(fact);
    return at == its_facts.end() ? 0 : std::stoull(at->second);
  }

  std::vector<std::pair<TreeEntry, Bytes>> entries;
  std::map<std::string, std::string> its_facts;
};

inline Result<MemoryTree> captured(Source& source, Reporter& reporter = silent_reporter()) {
  MemoryTree tree;
  TRY_ASSIGN(const std::unique_ptr<TreeCapture> capture, source.capture(reporter, {}));
  std::string before;
  for (;;) {
    TRY_ASSIGN(std::optional<CaptureItem> item, capture->next());
    if (!item) break;
    EXPECT_TRUE(tree.entries.empty() || tree_order(before, item->entry.path)) << before << item->entry.path;
    before = item->entry.path;
    MemorySink sink;
    if (item->entry.content == ContentKind::kBytes) {
      TRY(capture->read(*item, sink));
      EXPECT_EQ(item->entry.size, sink.bytes.size());
    }
    tree.entries.emplace_back(item->entry, std::move(sink.bytes));
  }
  TRY(capture->finish());
  EXPECT_TRUE(capture->defects().empty());
  tree.its_facts = capture->facts();
  return tree;
}

// Remembers what was said.
class NotingReporter : public Reporter {
 public:
  void phase(std::string_view, uint64_t) override {}
  void advance(uint64_t) override {}
  void note(std::string_view text) override { said += std::string(text) + "\n"; }
  void warning(std::string_view text) override { said += std::string(text) + "\n"; }
  std::string said;
};

}  // namespace kuramori::redis
