// The order: folders, and in them files as they come, in parallel; other names of files, when the first ones
// stand; what folders are (their times move with everything made in them), from the deepest up; durable; then
// the mark beside the target goes, which said that the restore is not whole.
#include "engine/restore_tree.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_set>

#include "conc/channel.h"
#include "conc/task_group.h"
#include "crypto/digest.h"
#include "engine/open_vault.h"
#include "engine/reading.h"
#include "engine/snapshot_tree.h"
#include "engine/thaw.h"
#include "net/url.h"
#include "os/direct_write.h"
#include "os/file.h"
#include "os/filesystem.h"
#include "source/files/apply.h"
#include "vault/session.h"
#include "vault/snapshot_reader.h"

namespace kuramori {
namespace {

constexpr size_t kBatchEntries = 64;
constexpr uint64_t kBatchBytes = 4 << 20;
constexpr size_t kHeldBytesMax = size_t{8} << 20;  // of opened frames, for all workers
constexpr size_t kCompareBytes = 4096;             // what differs is written in such pieces
// Larger files are written past the page cache. What is smaller the kernel may lay side by side.
constexpr uint64_t kDirectFromBytes = uint64_t{8} << 20;
// Smaller ones are made anew beside and take the old one's place; larger ones are changed where they are.
constexpr uint64_t kChangedInPlaceFrom = 1 << 20;
constexpr std::string_view kMarkSuffix = ".kuramori-restore";
constexpr std::string_view kTemporaryName = ".kuramori-restore.";

// Folder and name of a path beneath the target: "" is the target itself.
std::pair<std::string, std::string> split(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// Folders of the target, open: neighbours lie in the same one.
class OpenFolder {
 public:
  explicit OpenFolder(const Fd& target) : target_(target) {}
  Result<const Fd*> at(const std::string& path) {
    if (!fd_.valid() || path != path_) {
      TRY_ASSIGN(fd_, open_beneath(target_, path, O_RDONLY | O_DIRECTORY));
      path_ = path;
    }
    return &fd_;
  }

 private:
  const Fd& target_;
  std::string path_;
  Fd fd_;
};

class TreeRestore {
 public:
  TreeRestore(const SnapshotReader& snapshot, const TreeRestoreRequest& request, bool compares, Fd target,
              Reporter& reporter, TreeRestoreOutcome& outcome)
      : snapshot_(snapshot),
        request_(request),
        compares_(compares),
        target_(std::move(target)),
        reporter_(reporter),
        outcome_(outcome) {}

  Result<void> run(std::stop_token stop) {
    reporter_.phase(compares_ ? "comparing and restoring" : "restoring", snapshot_.commit().size_bytes);
    TaskGroup group(stop);
    for (unsigned worker = 0; worker < std::max(1u, request_.workers); ++worker) {
      group.start([this](std::stop_token token) {
        auto done = work(token);
        if (!done) batches_.cancel();
        return done;
      });
    }
    auto made = compares_ ? find_first_names() : Result<void>{};
    if (made) made = make_all(group.token());
    if (!made) {
      group.request_stop();
      batches_.cancel();
      auto why = group.wait();
      if (!why && why.error().kind != ErrorKind::kInterrupted) return why;
      return made;
    }
    batches_.close();
    TRY(group.wait());
    if (!request_.only.empty() && matched_.size() < request_.only.size()) return unknown_path();
    if (has_links_) TRY(link_all());
    TRY(complete_folders());
    TRY(make_durable());
    outcome_.bytes_written = written_;
    outcome_.bytes_compared = compared_;
    outcome_.bytes_fetched = fetched_;
    for (std::string& note : applied_.notes()) outcome_.notes.push_back(std::move(note));
    return {};
  }

 private:
  static Error interrupted() {
    return fail(ErrorKind::kInterrupted, "the restore was interrupted", "",
                "run the same command again: it goes on where it stopped");
  }

  Error unknown_path() const {
    for (const std::string& path : request_.only) {
      if (!matched_.contains(path)) {
        return fail(ErrorKind::kUsage, fmt::format("the snapshot has no \"{}\"", path),
                    "paths are as they stand below what was captured, or whole where several paths were",
                    "leave --only out to restore everything");
      }
    }
    return fail(ErrorKind::kUsage, "the snapshot has no such path");
  }

  // Whether an entry is to be restored: all, or what --only names and lies below it; and folders above.
  enum class Wanted { kNo, kAbove, kYes };
  Wanted wanted(const std::string& path) {
    if (request_.only.empty()) return Wanted::kYes;
    Wanted is = Wanted::kNo;
    for (const std::string& only : request_.only) {
      const bool below = path.size() > only.size() && path.starts_with(only) && path[only.size()] == '/';
      if (path == only || below) {
        matched_.insert(only);
        return Wanted::kYes;
      }
      if (path.empty() || (only.size() > path.size() && only.starts_with(path) && only[path.size()] == '/'))
        is = Wanted::kAbove;
    }
    return is;
  }

  // Visits what is to be restored, paths as they will be.
  Result<void> visit(const std::function<Result<void>(TreeNode&&)>& visit) {
    return snapshot_.visit([&](TreeNode&& node) -> Result<void> {
      auto path = content_path(node.entry.path);
      if (!path) return {};
      const Wanted is = wanted(*path);
      if (is == Wanted::kNo || (is == Wanted::kAbove && node.entry.type != EntryType::kDirectory)) return {};
      node.entry.path = std::move(*path);
      if (node.entry.type == EntryType::kHardLink) {
        auto first = content_path(node.entry.link);
        if (!first) return fail(ErrorKind::kDamaged, "a name of what is not in the tree");
        if (wanted(*first) == Wanted::kYes) {
          node.entry.link = std::move(*first);
          return visit(std::move(node));
        }
        // Its first name is not wanted: it is the file then.
        TRY_ASSIGN(std::optional<TreeNode> file, snapshot_.find(node.entry.link));
        if (!file) return fail(ErrorKind::kDamaged, "a name of what is not in the tree");
        file->entry.path = std::move(node.entry.path);
        return visit(std::move(*file));
      }
      return visit(std::move(node));
    });
  }

  Result<void> find_first_names() {
    return visit([&](TreeNode&& node) -> Result<void> {
      if (node.entry.type == EntryType::kHardLink) first_names_.insert(std::move(node.entry.link));
      return {};
    });
  }

  Result<void> make_all(const std::stop_token& stop) {
    TRY(visit([&](TreeNode&& node) -> Result<void> {
      if (stop.stop_requested()) return interrupted();
      ++outcome_.entries;
      if (compares_) TRY(remember_name(node.entry));
      switch (node.entry.type) {
        case EntryType::kDirectory:
          return node.entry.path.empty() ? Result<void>{} : make_folder(node.entry.path);
        case EntryType::kHardLink:
          has_links_ = true;
          return {};
        case EntryType::kFile:
          ++outcome_.files;
          outcome_.bytes += node.entry.size;
          batch_bytes_ += node.entry.size;
          batch_.push_back(std::move(node));
          if (batch_.size() < kBatchEntries && batch_bytes_ < kBatchBytes) return {};
          return send_batch();
        default:
          return make_special(node.entry);
      }
    }));
    while (!names_.empty()) TRY(remove_others());
    return send_batch();
  }

  Result<void> send_batch() {
    batch_bytes_ = 0;
    if (!batch_.empty() && !batches_.push(std::exchange(batch_, {}))) return interrupted();
    return {};
  }

  // What is there under a name that is to be something else makes room, in place only.
  Result<void> make_room(const std::string& path, bool for_folder) {
    if (!compares_) return {};
    const auto [above, name] = split(path);
    TRY_ASSIGN(const Fd* folder, folders_.at(above));
    auto there = status_at(*folder, name);
    if (!there) return there.error().kind == ErrorKind::kNotFound ? Result<void>{} : there.error();
    if (for_folder && there->type == FileType::kFolder) return {};
    if (!for_folder && there->type != FileType::kFolder) return {};
    return remove_tree_at(*folder, name);
  }

  Result<void> make_folder(const std::string& path) {
    TRY(make_room(path, true));
    const auto [above, name] = split(path);
    TRY_ASSIGN(const Fd* folder, folders_.at(above));
    if (::mkdirat(folder->get(), name.c_str(), 0700) == 0) return {};
    const int code = errno;
    if (code == EEXIST && compares_) {
      TRY_ASSIGN(const FileStatus status, status_at(*folder, name));
      if (status.type == FileType::kFolder) return {};
    }
    return system_error(fmt::format("make the folder {}", path), code);
  }

  Result<void> make_special(const TreeEntry& entry) {
    TRY(make_room(entry.path, false));
    const auto [above, name] = split(entry.path);
    TRY_ASSIGN(const Fd* folder, folders_.at(above));
    if (compares_) (void)::unlinkat(folder->get(), name.c_str(), 0);
    TRY_ASSIGN(const bool made, applied_.make_special(*folder, name, entry));
    if (!made) return {};  // said among the notes
    return applied_.apply(*folder, name, entry);
  }

  Result<void> work(const std::stop_token& stop) {
    SnapshotReader::Context context(kHeldBytesMax / std::max(1u, request_.workers));
    OpenFolder folders(target_);
    while (std::optional<std::vector<TreeNode>> batch = batches_.pop()) {
      for (const TreeNode& node : *batch) {
        if (stop.stop_requested()) return interrupted();
        auto done = restore_file(node, context, folders);
        if (!done) return std::move(done.error()).within(node.entry.path);
      }
    }
    return stop.stop_requested() ? Result<void>(interrupted()) : Result<void>{};
  }

  Result<void> restore_file(const TreeNode& node, SnapshotReader::Context& context, OpenFolder& folders) {
    const auto [above, name] = split(node.entry.path);
    TRY_ASSIGN(const Fd* folder, folders.at(above));
    if (compares_) {
      TRY_ASSIGN(const Compared is, compare(*folder, name, node));
      if (is == Compared::kSame) {
        reporter_.advance(node.entry.size);
        return applied_.apply(*folder, name, node.entry);
      }
      if (is == Compared::kFolder) TRY(remove_tree_at(*folder, name));
      if (is == Compared::kDiffers) {
        // One that may not be written by whoever owns it is replaced instead.
        auto fd = open_beneath(*folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
        if (fd) {
          // Whoever owns the folder may have put something else there since.
          TRY_ASSIGN(const FileStatus opened, status_of(*fd, node.entry.path));
          if (opened.type == FileType::kFile && opened.links == 1) {
            TRY(write_content(*fd, node, context, true));
            return applied_.apply(*fd, node.entry);
          }
        }
      }
    }
    // In place, a new file takes the place of the old one whole or not at all.
    const std::string as = compares_ ? fmt::format("{}{}", temporary_, next_temporary_++) : name;
    auto fd = open_beneath(*folder, as, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (!fd && compares_ && fd.error().kind == ErrorKind::kExists) {
      if (::unlinkat(folder->get(), as.c_str(), 0) != 0) return fd.error();
      fd = open_beneath(*folder, as, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    }
    if (!fd) return fd.error();
    TRY(write_content(*fd, node, context, false));
    TRY(applied_.apply(*fd, node.entry));
    TRY(fd->close());
    if (as != name && ::renameat(folder->get(), as.c_str(), folder->get(), name.c_str()) != 0)
      return system_error(fmt::format("put {} in its place", node.entry.path), errno);
    return {};
  }

  enum class Compared { kSame, kDiffers, kReplace, kFolder };
  // By its bytes: time stamps and sizes prove nothing.
  Result<Compared> compare(const Fd& folder, const std::string& name, const TreeNode& node) {
    auto there = status_at(folder, name);
    if (!there) {
      if (there.error().kind == ErrorKind::kNotFound) return Compared::kReplace;
      return std::move(there).error();
    }
    if (there->type == FileType::kFolder) return Compared::kFolder;
    if (there->type != FileType::kFile) return Compared::kReplace;
    // Another name of it may lie anywhere: what is written would show there too.
    const Compared differs =
        there->links == 1 && there->size >= kChangedInPlaceFrom ? Compared::kDiffers : Compared::kReplace;
    // Two names of one file that the snapshot has as two files come apart.
    const bool may_be_shared = there->links == 1 || first_names_.contains(node.entry.path);
    if (there->size != node.entry.size || !may_be_shared || !node.digest) return differs;
    const auto opened = open_beneath(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!opened) return Compared::kReplace;
    const Fd& fd = *opened;
    ContentDigest digest;
    Bytes bytes;
    uint64_t at = 0;
    for (const Extent& extent : node.extents) {
      if (extent.pack == kHolePack) {
        TRY_ASSIGN(const bool zeros, is_zero(fd, at, extent.bytes));
        if (!zeros) return differs;
        digest.add_hole(extent.bytes);
      } else {
        bytes.resize(extent.bytes);
        TRY_ASSIGN(const size_t got, pread_some(fd, at, bytes, name));
        compared_ += got;
        if (got != extent.bytes) return differs;
        digest.add(extent.bytes, sha256(bytes));
      }
      at += extent.bytes;
    }
    return digest.finish() == *node.digest ? Compared::kSame : differs;
  }

  Result<bool> is_zero(const Fd& fd, uint64_t from, uint64_t bytes) {
    const off_t data = ::lseek(fd.get(), static_cast<off_t>(from), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return true;  // a hole up to the end
    if (data >= 0 && static_cast<uint64_t>(data) >= from + bytes) return true;
    Bytes piece(64 << 10);
    for (uint64_t at = 0; at < bytes; at += piece.size()) {
      const auto part = MutableByteView(piece).first(std::min<uint64_t>(piece.size(), bytes - at));
      TRY_ASSIGN(const size_t got, pread_some(fd, from + at, part, "a hole"));
      compared_ += got;
      if (got != part.size() || std::ranges::any_of(part, [](uint8_t byte) { return byte != 0; }))
        return false;
    }
    return true;
  }

  // `differing`: what is there already is read, and only what differs is written.
  Result<void> write_content(const Fd& fd, const TreeNode& node, SnapshotReader::Context& context,
                             bool differing) {
    const std::string& path = node.entry.path;
    if (!differing && writes_direct_ && node.entry.size >= kDirectFromBytes)
      return write_past_cache(fd, node, context);
    uint64_t at = 0;
    Bytes bytes, there;
    for (const Extent& extent : node.extents) {
      if (extent.pack == kHolePack) {
        if (differing) TRY(punch_hole(fd, path, at, extent.bytes));
        at += extent.bytes;
        continue;
      }
      bytes.clear();
      TRY(snapshot_.read_extent(extent, context, bytes));
      fetched_ += bytes.size();
      if (differing) {
        there.resize(bytes.size());
        TRY_ASSIGN(const size_t got, pread_some(fd, at, there, path));
        compared_ += got;
        there.resize(got);
        TRY(write_difference(fd, path, at, bytes, there));
      } else {
        TRY(pwrite_full(fd, at, bytes, path));
        written_ += bytes.size();
      }
      at += bytes.size();
      reporter_.advance(bytes.size());
    }
    const bool ends_in_hole = !node.extents.empty() && node.extents.back().pack == kHolePack;
    if ((differing || ends_in_hole) && ::ftruncate(fd.get(), static_cast<off_t>(at)) != 0)
      return system_error(fmt::format("cut {} to its size", path), errno);
    return {};
  }

  class PastCache final : public ContentSink {
   public:
    PastCache(TreeRestore& restore, DirectWriter& file) : restore_(restore), file_(file) {}
    Result<void> add(ByteView bytes) override {
      TRY(file_.append(bytes));
      restore_.fetched_ += bytes.size();
      restore_.written_ += bytes.size();
      restore_.reporter_.advance(bytes.size());
      return {};
    }
    Result<void> add_hole(uint64_t bytes) override { return file_.leave_out(bytes); }
    Result<void> restart() override {
      return fail(ErrorKind::kFailed, "what is written cannot be taken back");
    }

   private:
    TreeRestore& restore_;
    DirectWriter& file_;
  };

  Result<void> write_past_cache(const Fd& fd, const TreeNode& node, SnapshotReader::Context& context) {
    thread_local AlignedBuffer buffer(DirectWriter::kBufferBytes);
    DirectWriter file(fd, node.entry.path, buffer, DirectWriter::Room::kAsNeeded);
    PastCache sink(*this, file);
    TRY(read_content(snapshot_, node, context, sink));
    return file.finish();
  }

  Result<void> write_difference(const Fd& fd, const std::string& path, uint64_t at, ByteView wanted,
                                ByteView there) {
    for (size_t from = 0; from < wanted.size(); from += kCompareBytes) {
      const ByteView part = wanted.subspan(from, std::min(kCompareBytes, wanted.size() - from));
      if (from + part.size() <= there.size() && equal(there.subspan(from, part.size()), part)) continue;
      TRY(pwrite_full(fd, at + from, part, path));
      written_ += part.size();
    }
    return {};
  }

  Result<void> punch_hole(const Fd& fd, const std::string& path, uint64_t at, uint64_t bytes) {
    constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (::fallocate(fd.get(), kMode, static_cast<off_t>(at), static_cast<off_t>(bytes)) == 0) return {};
    if (errno != EOPNOTSUPP) return system_error(fmt::format("make a hole in {}", path), errno);
    const Bytes zeros(64 << 10);
    for (uint64_t done = 0; done < bytes; done += zeros.size()) {
      const ByteView part = ByteView(zeros).first(std::min<uint64_t>(zeros.size(), bytes - done));
      TRY(pwrite_full(fd, at + done, part, path));
      written_ += part.size();
    }
    return {};
  }

  // What lies below a folder of the target may be another filesystem: one that is restored in place.
  Result<void> note_filesystem(const Fd& above, const std::string& name) {
    TRY_ASSIGN(const FileStatus status, status_at(above, name));
    if (filesystems_.contains(status.device)) return {};
    TRY_ASSIGN(Fd fd, open_beneath(above, name, O_RDONLY | O_DIRECTORY));
    filesystems_.emplace(status.device, std::move(fd));
    return {};
  }

  // One syncfs a filesystem: an fsync a file costs a disk flush each. It tells, too, what could not be
  // written back.
  Result<void> make_durable() {
    TRY_ASSIGN(const FileStatus status, status_of(target_, "the target"));
    filesystems_.erase(status.device);
    if (::syncfs(target_.get()) != 0) return system_error("make the restored files durable", errno);
    for (const auto& [device, folder] : filesystems_)
      if (::syncfs(folder.get()) != 0) return system_error("make the restored files durable", errno);
    return {};
  }

  Result<void> link_all() {
    return visit([&](TreeNode&& node) -> Result<void> {
      if (node.entry.type != EntryType::kHardLink) return {};
      TRY(make_room(node.entry.path, false));
      const auto [above, name] = split(node.entry.path);
      TRY_ASSIGN(const Fd* folder, folders_.at(above));
      if (compares_) (void)::unlinkat(folder->get(), name.c_str(), 0);
      return applied_.make_hard_link(target_, node.entry, *folder, name);
    });
  }

  // From the deepest up: one that nobody may enter is closed when all below it is done.
  Result<void> complete_folders() {
    std::vector<TreeEntry> open;
    const auto end_last = [&]() -> Result<void> {
      const TreeEntry entry = std::move(open.back());
      open.pop_back();
      if (entry.path.empty()) return applied_.apply(target_, entry);
      const auto [above, name] = split(entry.path);
      TRY_ASSIGN(const Fd folder, open_beneath(target_, above, O_RDONLY | O_DIRECTORY));
      if (compares_) TRY(note_filesystem(folder, name));
      return applied_.apply(folder, name, entry);
    };
    TRY(visit([&](TreeNode&& node) -> Result<void> {
      if (node.entry.type != EntryType::kDirectory) return {};
      const std::string& path = node.entry.path;
      while (!open.empty()) {
        const std::string& above = open.back().path;
        if (above.empty() || (path.starts_with(above) && path[above.size()] == '/')) break;
        TRY(end_last());
      }
      open.push_back(std::move(node.entry));
      return {};
    }));
    while (!open.empty()) TRY(end_last());
    return {};
  }

  // --- where something is there: what does not belong there goes
  // ------------------------------------------------
  struct Names {
    std::string path;
    std::set<std::string> names;
  };

  Result<void> remember_name(const TreeEntry& entry) {
    while (!names_.empty()) {
      const std::string& above = names_.back().path;
      if (above.empty() || (entry.path.starts_with(above) && entry.path[above.size()] == '/')) break;
      TRY(remove_others());
    }
    if (!names_.empty()) names_.back().names.insert(split(entry.path).second);
    if (entry.type == EntryType::kDirectory) names_.push_back({.path = entry.path, .names = {}});
    return {};
  }

  Result<void> remove_others() {
    const Names kept = std::move(names_.back());
    names_.pop_back();
    TRY_ASSIGN(const Fd folder,
               open_beneath(target_, kept.path.empty() ? "." : kept.path, O_RDONLY | O_DIRECTORY));
    TRY_ASSIGN(const std::vector<FolderEntry> there, list_folder(folder, kept.path));
    for (const FolderEntry& entry : there) {
      if (kept.names.contains(entry.name) || entry.name.starts_with(temporary_)) continue;
      // What a killed restore was making goes in any case.
      const bool is_left = entry.name.starts_with(kTemporaryName);
      if (!is_left && (!request_.delta || !request_.only.empty())) continue;
      TRY(remove_tree_at(folder, entry.name));
      if (!is_left) ++outcome_.removed;
    }
    return {};
  }

  const SnapshotReader& snapshot_;
  const TreeRestoreRequest& request_;
  const bool compares_;
  // What this run is making in folders that others may have left something in.
  const std::string temporary_ =
      fmt::format("{}{}-{}.", kTemporaryName, ::getpid(), to_unix_ns(system_clock().now()));
  Fd target_;
  const bool writes_direct_ = takes_direct_writes_alike(target_.get());
  Reporter& reporter_;
  TreeRestoreOutcome& outcome_;
  files::Applier applied_;
  OpenFolder folders_{target_};
  std::vector<Names> names_;
  std::set<std::string> matched_;
  std::map<uint64_t, Fd> filesystems_;  // by device: a folder on each, where the target may have several
  std::unordered_set<std::string> first_names_;  // of files that have several, where there is to compare with
  std::vector<TreeNode> batch_;
  uint64_t batch_bytes_ = 0;
  bool has_links_ = false;
  Channel<std::vector<TreeNode>> batches_{16};
  std::atomic<uint64_t> written_{0}, compared_{0}, fetched_{0}, next_temporary_{0};
};

Error not_empty(const std::string& target) {
  return fail(ErrorKind::kRefused, fmt::format("{} is there and not empty", target),
              "a restore goes into something new unless it is told otherwise",
              "name another --to, or add --delta (change only what differs) or --overwrite (move it aside)");
}

}  // namespace

Result<void> write_tree(const SnapshotReader& snapshot, const TreeRestoreRequest& request, Reporter& reporter,
                        std::stop_token stop, TreeRestoreOutcome& outcome) {
  const std::string mark = request.to + std::string(kMarkSuffix);
  const std::string this_one = snapshot.commit().snapshot.hex() + "\n";
  // What an interrupted restore left is known for what it is.
  bool goes_on = false;
  if (auto marked = read_file(mark, 4096)) {
    goes_on = as_text(*marked) == this_one;
    if (!goes_on && !request.delta && !request.overwrite) {
      return fail(ErrorKind::kRefused,
                  fmt::format("the restore of another snapshot into {} was interrupted", request.to), "",
                  "finish that one, or add --delta to make this one of it");
    }
  }
  TRY_ASSIGN(const std::optional<FileStatus> there, status_if_there(request.to));
  if (there && there->type != FileType::kFolder)
    return fail(ErrorKind::kRefused, fmt::format("{} is no folder", request.to), "", "name another --to");
  bool is_empty = true;
  if (there) {
    TRY_ASSIGN(const auto entries, list_folder(request.to));
    is_empty = entries.empty();
  }
  if (!is_empty && !goes_on && (request.overwrite || request.delta) && request.may_replace)
    TRY(request.may_replace(outcome.base));
  if (!is_empty && !goes_on && request.overwrite) {
    outcome.moved_aside = fmt::format("{}.old-{}", request.to, to_unix_ns(system_clock().now()) / 1000000000);
    if (::rename(request.to.c_str(), outcome.moved_aside.c_str()) != 0)
      return system_error(fmt::format("move {} aside", request.to), errno);
    is_empty = true;
  } else if (!is_empty && !goes_on && !request.delta) {
    return not_empty(request.to);
  }
  TRY(make_folders(request.to, 0700));
  TRY(write_file_durably(mark, as_bytes(this_one)));
  TRY_ASSIGN(Fd target, open_folder(request.to));
  outcome.target = request.to;
  TRY(TreeRestore(snapshot, request, !is_empty, std::move(target), reporter, outcome).run(std::move(stop)));
  return remove_file(mark);
}

Result<TreeRestoreOutcome> restore_tree(Vault& vault, Source& source, const TreeRestoreRequest& request,
                                        Reporter& reporter, std::stop_token stop) {
  const Duration began = vault.clock().steady();
  TreeRestoreOutcome outcome{.target = masked_url(request.to)};
  TRY_ASSIGN(const ResourceSnapshots list, list_snapshots_of(vault, request.resource));
  if (list.snapshots.empty()) {
    return fail(ErrorKind::kRefused, fmt::format("{} has no snapshot to restore from", request.resource), "",
                fmt::format("kuramori backup {}", request.resource));
  }
  TRY_ASSIGN(const Snapshot* wanted,
             find_snapshot(list.snapshots, request.snapshot.empty() ? "latest" : request.snapshot));
  outcome.base = *wanted;
  TRY(must_be_readable(vault, outcome.base, stop));
  const Protocol protocol = protocol_of(vault);
  if (request.estimate) {
    TRY_ASSIGN(const FetchCost cost, cost_of_fetching(vault, outcome.base));
    outcome.estimated_bytes = cost.bytes;
    outcome.estimated_requests = cost.requests;
    return outcome;
  }
  // Keep the snapshot from being collected while it is read.
  TRY_ASSIGN(RenewedReading reading, read_for_long(protocol, outcome.base, reporter));
  if (!reading.is_protected())
    reporter.note("this key may not announce a reader: the snapshot is not kept from being collected");
  auto restore = [&]() -> Result<void> {
    TRY_ASSIGN(const auto snapshot, SnapshotReader::open(vault.store(), vault.keys(), vault.codec(),
                                                         outcome.base.commit_name, outcome.base.commit));
    if (request.only.empty()) snapshot->expect_everything();
    if (source.is_files()) return write_tree(*snapshot, request, reporter, stop, outcome);
    // Whether anything stands there its source finds out on the way.
    if ((request.overwrite || request.delta) && request.may_replace) TRY(request.may_replace(outcome.base));
    TRY_ASSIGN(SourceRestoreOutcome restored,
               source.restore(SnapshotTree(*snapshot), request, reporter, stop));
    outcome.target = std::move(restored.target);
    outcome.moved_aside = std::move(restored.moved_aside);
    outcome.entries = restored.entries;
    outcome.bytes = outcome.bytes_written = outcome.bytes_fetched = restored.bytes;
    outcome.notes = std::move(restored.notes);
    return {};
  };
  Result<void> restored = restore();
  if (auto ended = reading.end(); !ended)
    reporter.note(
        fmt::format("the reader's session stays until a collection ends it: {}", ended.error().what));
  if (!restored) return explain_read(protocol, {outcome.base.commit_name}, std::move(restored).error());
  for (const std::string& defect : outcome.base.commit.defects)
    outcome.notes.push_back(fmt::format("the snapshot is partial: {}", defect));
  outcome.seconds = std::chrono::duration<double>(vault.clock().steady() - began).count();
  return outcome;
}

}  // namespace kuramori
