// The mirror as a tree.
//
// What has its content's digest in its name (packs, LFS objects) is told by it, wherever the mirror was made:
// a mirror that is lost and made again is not read again. What is written here (refs, HEAD, facts) is told by
// its own digest.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "crypto/digest.h"
#include "os/file.h"
#include "source/git/layout.h"
#include "source/git/mirror.h"
#include "source/git/pack_sum.h"

namespace kuramori::git {
namespace {

constexpr size_t kReadStepBytes = 256 << 10;

// Stands for the content: the same number, the same bytes.
void stamp(CaptureItem& item, ByteView what) {
  const Digest digest = sha256(what);
  item.inode = load_le<uint64_t>(digest.raw.data());
  // Of a time long ago, so that nothing is thought too young to be believed.
  item.ctime_ns =
      static_cast<int64_t>(load_le<uint64_t>(digest.raw.data() + 8) % 1'000'000'000'000'000ULL) + 1;
}

class GitCapture final : public TreeCapture {
 public:
  GitCapture(std::unique_ptr<Mirror> mirror, Reporter& reporter, std::stop_token stop)
      : mirror_(std::move(mirror)), reporter_(reporter), stop_(std::move(stop)) {}

  Result<void> list() {
    add_folder("");
    add_text("HEAD", mirror_->head() + "\n");
    add_text("config", config_text(mirror_->format()));
    add_text("packed-refs", packed_refs(mirror_->refs(), mirror_->kept()));
    add_folder("kuramori");
    add_text(std::string(kAboutPath), mirror_->about());
    add_folder("refs");
    TRY(add_files("objects"));
    TRY(add_files(std::string(kLfsObjects)));
    std::sort(items_.begin(), items_.end(), [](const CaptureItem& a, const CaptureItem& b) {
      return tree_order(a.entry.path, b.entry.path);
    });
    uint64_t bytes = 0;
    for (const CaptureItem& item : items_) bytes += item.entry.size;
    reporter_.phase("reading", bytes);
    return {};
  }

  Result<std::optional<CaptureItem>> next() override {
    TRY(go_on());
    if (given_ == items_.size()) return std::optional<CaptureItem>();
    return std::optional(items_[given_++]);
  }

  Result<void> read(CaptureItem& item, ContentSink& sink) override {
    TRY(go_on());
    const std::string& path = item.entry.path;
    if (const auto text = texts_.find(path); text != texts_.end()) return sink.add(as_bytes(text->second));
    const bool is_lfs = path.starts_with(kLfsObjects);
    TRY_ASSIGN(const Fd fd, open_file(join_path(mirror_->repository(), path), O_RDONLY | O_NOFOLLOW));
    Sha256 digest;
    std::optional<PackSum> sum;
    if (path.ends_with(".pack")) sum.emplace(path);
    Bytes buffer(kReadStepBytes);
    uint64_t at = 0;
    for (;;) {
      TRY(go_on());
      TRY_ASSIGN(const size_t got, pread_some(fd, at, buffer, path));
      if (got == 0) break;
      const ByteView piece = ByteView(buffer).first(got);
      if (is_lfs) digest.add(piece);
      if (sum) sum->add(piece);
      TRY(sink.add(piece));
      at += got;
    }
    if (at != item.entry.size || (sum && !sum->is_whole())) {
      TRY(mirror_->distrust());
      return fail(
          ErrorKind::kDamaged, fmt::format("\"{}\" of the mirror is damaged", path),
          "its content is not what its name says: a disk that forgets, or something else writes there",
          "run the backup again: the mirror is made anew from the snapshot before");
    }
    if (is_lfs && digest.finish().hex() != path.substr(path.rfind('/') + 1)) {
      TRY(remove_file(join_path(mirror_->repository(), path)));
      return fail(ErrorKind::kPartial, "an LFS object is not what its name says",
                  "its SHA-256 is another: it is fetched again by the next backup");
    }
    return {};
  }

  Result<void> finish() override { return go_on(); }
  std::vector<Defect> defects() const override { return mirror_->defects(); }
  std::map<std::string, std::string> facts() const override {
    std::map<std::string, std::string> facts = mirror_->facts();
    facts["lfs_objects"] = std::to_string(lfs_objects_);
    facts["packs"] = std::to_string(packs_);
    return facts;
  }

 private:
  Result<void> go_on() const {
    if (stop_.stop_requested()) return fail(ErrorKind::kInterrupted, "the snapshot was asked to stop");
    return {};
  }

  CaptureItem& add(std::string path, EntryType type, uint64_t size) {
    CaptureItem item;
    item.entry.path = std::move(path);
    item.entry.type = type;
    item.entry.content = type == EntryType::kFile ? ContentKind::kBytes : ContentKind::kNone;
    item.entry.mode = type == EntryType::kFile ? 0600 : 0700;
    item.entry.uid = ::geteuid();
    item.entry.gid = ::getegid();
    item.entry.size = size;
    stamp(item, as_bytes(item.entry.path));
    items_.push_back(std::move(item));
    return items_.back();
  }
  void add_folder(std::string path) {
    // No time: a folder of the mirror moves when nothing of the repository did.
    add(std::move(path), EntryType::kDirectory, 0);
  }
  void add_text(const std::string& path, std::string text) {
    CaptureItem& item = add(path, EntryType::kFile, text.size());
    item.entry.mtime_ns = mirror_->changed_ns();
    stamp(item, as_bytes(path + "\n" + text));
    texts_[path] = std::move(text);
  }

  // All of the folder that is a part of a repository; what git works with beside that is left out.
  Result<void> add_files(const std::string& folder) {
    const std::string path = join_path(mirror_->repository(), folder);
    TRY_ASSIGN(const auto status, status_if_there(path));
    if (!status) return {};
    if (folder == kLfsObjects) add_folder("lfs");
    return walk(folder);
  }
  Result<void> walk(const std::string& folder) {
    TRY(go_on());
    add_folder(folder);
    TRY_ASSIGN(const auto entries, list_folder(join_path(mirror_->repository(), folder)));
    for (const FolderEntry& entry : entries) {
      const std::string path = join_path(folder, entry.name);
      if (entry.type == FileType::kFolder) {
        if (is_folder_of_repository(path)) TRY(walk(path));
        continue;
      }
      if (entry.type != FileType::kFile || !is_file_of_repository(path)) continue;
      TRY_ASSIGN(const FileStatus status, status_of(join_path(mirror_->repository(), path)));
      CaptureItem& item = add(path, EntryType::kFile, status.size);
      item.entry.mtime_ns = to_unix_ns(status.modified);
      lfs_objects_ += path.starts_with(kLfsObjects) ? 1 : 0;
      packs_ += path.ends_with(".pack") ? 1 : 0;
    }
    return {};
  }

  const std::unique_ptr<Mirror> mirror_;  // and its lock
  Reporter& reporter_;
  std::stop_token stop_;
  std::vector<CaptureItem> items_;
  std::map<std::string, std::string> texts_;
  size_t given_ = 0;
  uint64_t lfs_objects_ = 0, packs_ = 0;
};

}  // namespace

Result<std::unique_ptr<TreeCapture>> capture_git(const GitSettings& settings, const OpenEarlierTree& earlier,
                                                 Reporter& reporter, std::stop_token stop) {
  TRY_ASSIGN(auto mirror, Mirror::update(settings, earlier, reporter, stop));
  auto capture = std::make_unique<GitCapture>(std::move(mirror), reporter, std::move(stop));
  TRY(capture->list());
  return capture;
}

}  // namespace kuramori::git
