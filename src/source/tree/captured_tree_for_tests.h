// A captured tree in memory, as the engine gives one back.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "source/files/captured_for_tests.h"
#include "source/source.h"

namespace kuramori {

class TreeForTests final : public CapturedTree {
 public:
  std::vector<files::Kept> entries;
  std::map<std::string, std::string> told;

  TreeForTests() = default;
  explicit TreeForTests(files::Captured captured)
      : entries(std::move(captured.entries)), told(std::move(captured.facts)) {
    EXPECT_FALSE(captured.error) << captured.error->what << ": " << captured.error->why;
  }
  void add(TreeEntry entry, std::string bytes = {}) {
    entry.size = bytes.size();
    entries.push_back({.item = {.entry = std::move(entry)}, .bytes = std::move(bytes)});
  }

  Result<void> visit(const std::function<Result<void>(const TreeEntry&)>& visit) const override {
    for (const files::Kept& kept : entries) TRY(visit(kept.item.entry));
    return {};
  }
  Result<void> read(std::string_view path, ContentSink& sink) const override {
    const auto found =
        std::ranges::find_if(entries, [&](const files::Kept& kept) { return kept.item.entry.path == path; });
    if (found == entries.end()) return fail(ErrorKind::kNotFound, std::string(path) + " is not in the tree");
    // In pieces, as frames come.
    constexpr size_t kPiece = 100'000;
    for (size_t at = 0; at < found->bytes.size(); at += kPiece)
      TRY(sink.add(as_bytes(std::string_view(found->bytes).substr(at, kPiece))));
    return {};
  }
  const std::map<std::string, std::string>& facts() const override { return told; }
};

// What a source captures now.
inline files::Captured capture_of(Source& source, Reporter& reporter = silent_reporter(),
                                  std::stop_token stop = {}) {
  auto capture = source.capture(reporter, std::move(stop));
  if (!capture) return {.error = capture.error()};
  return files::run_capture(**capture);
}

inline std::string text_of(const std::string& path) {
  const auto bytes = read_file(path);
  EXPECT_TRUE(bytes) << path;
  return bytes ? std::string(as_text(*bytes)) : "";
}

}  // namespace kuramori
