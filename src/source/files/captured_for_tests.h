// A tree that is captured into memory, and a folder to capture from.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "os/file.h"
#include "source/files/capture.h"
#include "source/source.h"

namespace kuramori::files {

struct MemorySink : ContentSink {
  Result<void> add(ByteView more) override {
    bytes += as_text(more);
    if (on_add) on_add();
    return {};
  }
  Result<void> add_hole(uint64_t count) override {
    bytes.append(count, '\0');
    holes += count;
    return {};
  }
  Result<void> restart() override {
    bytes.clear();
    holes = 0;
    ++restarts;
    return {};
  }
  std::string bytes;
  uint64_t holes = 0;
  int restarts = 0;
  std::function<void()> on_add;
};

struct Kept {
  CaptureItem item;
  std::string bytes;
  uint64_t holes = 0;
};

// What the engine would keep.
struct Captured {
  std::vector<Kept> entries;
  std::vector<Defect> defects;
  std::map<std::string, std::string> facts;
  std::optional<Error> error;

  std::vector<std::string> paths() const {
    std::vector<std::string> all;
    for (const Kept& kept : entries) all.push_back(kept.item.entry.path);
    return all;
  }
  const Kept* find(std::string_view path) const {
    for (const Kept& kept : entries)
      if (kept.item.entry.path == path) return &kept;
    return nullptr;
  }
  const TreeEntry& entry(std::string_view path) const {
    static const TreeEntry kNone;
    const Kept* kept = find(path);
    EXPECT_NE(kept, nullptr) << path;
    return kept == nullptr ? kNone : kept->item.entry;
  }
  std::string defect_of(std::string_view path) const {
    for (const Defect& defect : defects)
      if (defect.path == path) return defect.why;
    return "";
  }
};

// `on_add` is called at each piece of content.
inline Captured run_capture(TreeCapture& capture, const std::function<void()>& on_add = {}) {
  Captured all;
  for (;;) {
    Result<std::optional<CaptureItem>> item = capture.next();
    if (!item) {
      all.error = item.error();
      return all;
    }
    if (!*item) break;
    Kept kept{.item = **item};
    Result<void> done = capture.complete(kept.item);
    MemorySink sink;
    sink.on_add = on_add;
    if (done && kept.item.entry.content == ContentKind::kBytes) done = capture.read(kept.item, sink);
    if (!done && done.error().kind == ErrorKind::kNotFound) continue;
    if (!done && done.error().kind == ErrorKind::kPartial) {
      all.defects.push_back({kept.item.entry.path, done.error().why});
      continue;
    }
    if (!done) {
      all.error = done.error();
      return all;
    }
    kept.bytes = std::move(sink.bytes);
    kept.holes = sink.holes;
    all.entries.push_back(std::move(kept));
  }
  Result<void> finished = capture.finish();
  if (!finished) all.error = finished.error();
  for (Defect& defect : capture.defects()) all.defects.push_back(std::move(defect));
  all.facts = capture.facts();
  return all;
}

inline Captured capture(const FilesSettings& settings, const MountFiles& mounts = {}) {
  Result<std::unique_ptr<TreeCapture>> begun = begin_capture(settings, mounts, silent_reporter(), {});
  if (!begun) return {.error = begun.error()};
  return run_capture(**begun);
}

// A folder with things in it.
class Ground {
 public:
  // `parent`: where; by default where temporary files go.
  explicit Ground(std::string parent = {}) : folder_(*TemporaryFolder::make("files", std::move(parent))) {}
  const std::string& path() const { return folder_.path(); }
  std::string operator/(std::string_view name) const { return folder_ / name; }
  // Makes the folders above it, too. Nothing here is synced: a suite makes hundreds of trees.
  void file(const std::string& name, std::string_view content = "x") const {
    folder(folder_of(name));
    (void)::unlink((*this / name).c_str());
    Result<Fd> fd = open_file(*this / name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    ASSERT_TRUE(fd) << name;
    ASSERT_TRUE(write_full(*fd, as_bytes(content), name));
  }
  void folder(const std::string& name) const {
    for (size_t slash = 0; slash != std::string::npos;) {
      slash = name.find('/', slash + 1);
      ASSERT_TRUE(::mkdir((*this / name.substr(0, slash)).c_str(), 0755) == 0 || errno == EEXIST) << name;
    }
  }
  void link(const std::string& to, const std::string& name) const {
    ASSERT_EQ(::symlink(to.c_str(), (*this / name).c_str()), 0) << name;
  }
  FilesSettings settings() const { return {.paths = {path()}}; }

 private:
  TemporaryFolder folder_;
};

}  // namespace kuramori::files
