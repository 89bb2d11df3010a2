#include "engine/restore_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <unordered_set>

#include "base/check.h"
#include "conc/task_group.h"
#include "crypto/aead.h"
#include "crypto/digest.h"
#include "os/file.h"

namespace kuramori {
namespace {

// Of opened frames, by all workers: one for each of a thousand snapshots that changed a page here and there.
constexpr size_t kHeldBytesMax = size_t{40} << 20;
constexpr uint32_t kSlicePages = 8192;         // 64 MiB of a page file: the unit of work and of the journal
constexpr size_t kPieceBytes = 1u << 20;       // written at once
constexpr size_t kDirectFromBytes = 1u << 20;  // smaller files are written through the page cache
constexpr std::string_view kJournalHead = "kuramori restore 1";
constexpr std::string_view kInPlace = " in-place";
constexpr size_t kJournalBytesMax = 256u << 20;

// Where it goes is asked of it each time: the paths of a million files would take as much as their tree.
struct Destination {
  const TreeNode* node;
};

// A stretch of one file: pages [first, first+pages) of a page file, or the whole of another.
struct Slice {
  const Destination* to;
  uint32_t first = 0, pages = 0;
  uint32_t number = 0;  // among all slices: names it in the journal and makes its checks' nonces unique
};

// Says which slices are on disk, each with a keyed check over its bytes. Lines are appended as slices are
// written; after a crash a line may be there whose bytes are not, so a line is only ever a hint where to
// look.
class Journal {
 public:
  static Result<Journal> begin(const std::string& path, const CommitRecord& commit, bool in_place,
                               Random& random) {
    Journal journal;
    journal.path_ = path;
    journal.key_ = Secret::random(32, random);
    std::string head = fmt::format("{} {} {}{}\n", kJournalHead, commit.snapshot.hex(),
                                   to_hex(journal.key_.view()), in_place ? kInPlace : "");
    TRY(write_file_durably(path, as_bytes(head)));
    TRY_ASSIGN(journal.fd_, open_file(path, O_WRONLY | O_APPEND));
    return journal;
  }

  // Whether an older state of a cluster lies below what was begun here: its longer files and those of its own
  // are not to be left, whatever the one who goes on asks for.
  static bool is_in_place(const std::string& path) {
    auto bytes = read_file(path, kJournalBytesMax);
    if (!bytes) return false;
    std::string_view text = as_text(*bytes);
    return text.starts_with(kJournalHead) && text.substr(0, text.find('\n')).ends_with(kInPlace);
  }

  static std::optional<std::string> snapshot_of(const std::string& path) {
    auto bytes = read_file(path, kJournalBytesMax);
    if (!bytes) return {};
    std::string_view text = as_text(*bytes);
    if (!text.starts_with(kJournalHead) || text.size() < kJournalHead.size() + 1) return {};
    text.remove_prefix(kJournalHead.size() + 1);
    return std::string(text.substr(0, text.find_first_of(" \n")));
  }

  // nullopt: none, or another snapshot's.
  static std::optional<Journal> resume(const std::string& path, const CommitRecord& commit) {
    auto bytes = read_file(path, kJournalBytesMax);
    if (!bytes) return {};
    std::string_view text = as_text(*bytes);
    std::string head = fmt::format("{} {} ", kJournalHead, commit.snapshot.hex());
    if (!text.starts_with(head)) return {};
    text.remove_prefix(head.size());
    auto key = from_hex(text.substr(0, 64));
    if (!key || key->size() != 32) return {};
    Journal journal;
    journal.path_ = path;
    journal.key_ = Secret::copy_of(*key);
    text.remove_prefix(std::min<size_t>(65, text.size()));
    while (!text.empty()) {
      size_t end = text.find('\n');
      if (end == std::string_view::npos) break;  // the last line was cut off by the crash
      std::string_view line = text.substr(0, end);
      text.remove_prefix(end + 1);
      size_t space = line.find(' ');
      if (space == std::string_view::npos) continue;
      journal.claims_[static_cast<uint32_t>(std::strtoul(std::string(line.substr(0, space)).c_str(), nullptr,
                                                         10))] = std::string(line.substr(space + 1));
    }
    auto fd = open_file(path, O_WRONLY | O_APPEND);
    if (!fd) return {};
    journal.fd_ = std::move(*fd);
    return journal;
  }

  std::optional<std::string> claim(uint32_t slice) const {
    auto it = claims_.find(slice);
    if (it == claims_.end()) return {};
    return it->second;
  }
  const Secret& key() const { return key_; }
  Result<void> done(uint32_t slice, const std::string& check) {
    std::lock_guard lock(*mutex_);
    std::string line = fmt::format("{} {}\n", slice, check);
    return write_full(fd_, as_bytes(line), path_);
  }

 private:
  std::string path_;
  Fd fd_;
  Secret key_;
  std::map<uint32_t, std::string> claims_;
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
};

// The check over one slice's bytes: GMAC of each piece (AES-256-GCM over no plain bytes: the fastest keyed
// check at hand), then SHA-256 of the tags.
class SliceCheck {
 public:
  SliceCheck(FrameCipher& cipher, uint32_t slice)
      : cipher_(cipher), next_(slice * (kSlicePages * kPageBytes / kPieceBytes + 1)) {}
  void add(ByteView piece) { cipher_.seal(next_++, piece, {}, tags_); }
  std::string finish() { return sha256(tags_).hex().substr(0, 32); }

 private:
  FrameCipher& cipher_;
  uint32_t next_;
  Bytes tags_;
};

class FileRestore {
 public:
  FileRestore(const SnapshotReader& snapshot, const FileRestoreOptions& options, Reporter& reporter,
              std::stop_token stop)
      : snapshot_(snapshot), options_(options), reporter_(reporter), stop_(std::move(stop)) {}

  Result<FileRestoreOutcome> run() {
    TRY(make_folders(options_.target, 0700));
    // The journal stands before anything else does: an interrupted restore is known for what it is.
    std::string journal_path = join_path(options_.target, kJournalName);
    if (Journal::is_in_place(journal_path)) options_.delta = true;
    auto resumed = options_.delta ? std::nullopt : Journal::resume(journal_path, snapshot_.commit());
    if (resumed) {
      journal_.emplace(std::move(*resumed));
    } else {
      TRY_ASSIGN(Journal fresh,
                 Journal::begin(journal_path, snapshot_.commit(), options_.delta, system_random()));
      journal_.emplace(std::move(fresh));
    }
    // The place of a delta must not be startable while it is neither the old state nor the new one.
    if (options_.delta) TRY(remove_last());
    if (options_.before_first) TRY(options_.before_first());
    TRY(plan());
    uint64_t total = 0;
    for (const Destination& to : destinations_) total += to.node->entry.size;
    reporter_.phase(resumed ? "checking what is there, and restoring the rest" : "restoring", total);
    std::atomic<size_t> next{0};
    TaskGroup group(stop_);
    for (unsigned worker = 0; worker < std::max(1u, options_.workers); ++worker) {
      group.start([this, &next](std::stop_token token) { return work(next, token); });
    }
    TRY(group.wait());
    if (options_.delta) TRY(remove_others());
    TRY(make_durable());
    if (options_.before_last) {
      TRY(options_.before_last());
    }
    // Only now may it be started: everything it refers to is on disk.
    SnapshotReader::Context context;
    for (const Destination& to : last_) TRY(write_last(to, context));
    TRY(remove_file(journal_path));
    outcome_.bytes_written = written_;
    outcome_.bytes_compared = compared_;
    outcome_.bytes_resumed = resumed_;
    outcome_.bytes_fetched = fetched_;
    return outcome_;
  }

 private:
  std::optional<std::string> path_of(const TreeEntry& entry) const {
    auto place = options_.place ? options_.place(entry) : std::optional<std::string>(entry.path);
    if (!place) return {};
    return place->starts_with('/') ? *place : join_path(options_.target, *place);
  }

  using Mark = std::array<uint8_t, 16>;  // of a path: two have the same only if SHA-256 is broken
  // Of what plan() gave a place.
  std::string path_of(const Destination& to) const { return *path_of(to.node->entry); }
  static Mark mark_of(const std::string& path) {
    const Digest digest = sha256(as_bytes(path));
    Mark mark;
    std::copy_n(digest.raw.begin(), mark.size(), mark.begin());
    return mark;
  }

  Result<void> remove_last() {
    for (const TreeNode& node : snapshot_.tree().nodes) {
      if (node.entry.type != EntryType::kFile || !options_.last || !options_.last(node.entry)) continue;
      auto path = path_of(node.entry);
      auto there = path ? status_if_there(folder_of(*path)) : Result<std::optional<FileStatus>>(std::nullopt);
      if (!there) return there.error();
      if (*there) TRY(remove_file(*path));
    }
    return {};
  }

  Result<void> plan() {
    for (const TreeNode& node : snapshot_.tree().nodes) {
      const TreeEntry& entry = node.entry;
      auto to_path = path_of(entry);
      if (!to_path) continue;
      std::string path = std::move(*to_path);
      if (options_.delta) known_.push_back(mark_of(path));
      switch (entry.type) {
        case EntryType::kDirectory:
          TRY(make_folders(path, entry.mode));
          folders_.push_back(path);
          break;
        case EntryType::kSymlink:
          if (::symlink(entry.link.c_str(), path.c_str()) != 0 && errno != EEXIST) {
            return system_error(fmt::format("the link {} cannot be made", path), errno);
          }
          break;
        case EntryType::kFile:
          ++outcome_.files;
          outcome_.bytes += entry.size;
          if (options_.last && options_.last(entry)) {
            last_.push_back({&node});
          } else {
            destinations_.push_back({&node});
          }
          break;
        default:
          return fail(ErrorKind::kDamaged,
                      fmt::format("the snapshot's tree holds {}, of which no cluster has any", entry.path));
      }
    }
    std::ranges::sort(known_);
    for (const Destination& to : destinations_) {
      if (to.node->entry.content != ContentKind::kPages) {
        slices_.push_back({.to = &to});
        continue;
      }
      uint32_t pages = static_cast<uint32_t>(to.node->entry.size / kPageBytes);
      uint32_t first = 0;
      do {
        uint32_t part = std::min(pages - first, kSlicePages);
        slices_.push_back({.to = &to, .first = first, .pages = part});
        first += part;
      } while (first < pages);
    }
    for (uint32_t i = 0; i < slices_.size(); ++i) slices_[i].number = i;
    return {};
  }

  Result<void> work(std::atomic<size_t>& next, std::stop_token token) {
    SnapshotReader::Context context(kHeldBytesMax / std::max(1u, options_.workers));
    FrameCipher cipher(journal_->key());
    AlignedBuffer piece(kPieceBytes), other(kPieceBytes);
    for (size_t i = next++; i < slices_.size(); i = next++) {
      if (token.stop_requested()) {
        return fail(ErrorKind::kInterrupted, "the restore was interrupted", "",
                    "run the same command again: it goes on where it stopped");
      }
      const Slice& slice = slices_[i];
      auto done = slice.to->node->entry.content == ContentKind::kPages
                      ? restore_pages(slice, context, cipher, piece, other)
                      : restore_bytes(slice, context, cipher, other);
      if (!done) return std::move(done.error()).within(slice.to->node->entry.path);
    }
    return {};
  }

  // Whether an earlier try already wrote these bytes: reads them back and compares the check.
  Result<bool> is_there(const Slice& slice, FrameCipher& cipher, AlignedBuffer& buffer, uint64_t offset,
                        uint64_t bytes) {
    auto claim = journal_->claim(slice.number);
    if (!claim) return false;
    const std::string path = path_of(*slice.to);
    auto fd = open_file(path, O_RDONLY | O_NOFOLLOW);
    if (!fd) return false;
    TRY_ASSIGN(FileStatus status, status_of(*fd, path));
    if (status.size < offset + bytes) return false;
    SliceCheck check(cipher, slice.number);
    for (uint64_t at = 0; at < bytes; at += kPieceBytes) {
      auto part = buffer.view().first(std::min<uint64_t>(kPieceBytes, bytes - at));
      TRY(pread_full(*fd, offset + at, part, path));
      check.add(part);
    }
    if (check.finish() != *claim) {
      reporter_.warning(fmt::format("{} is not what the interrupted restore wrote: it is restored again",
                                    slice.to->node->entry.path));
      return false;
    }
    resumed_ += bytes;
    reporter_.advance(bytes);
    return true;
  }

  Result<void> restore_pages(const Slice& slice, SnapshotReader::Context& context, FrameCipher& cipher,
                             AlignedBuffer& piece, AlignedBuffer& other) {
    const TreeEntry& entry = slice.to->node->entry;
    const std::string path = path_of(*slice.to);
    uint64_t offset = uint64_t{slice.first} * kPageBytes, bytes = uint64_t{slice.pages} * kPageBytes;
    TRY_ASSIGN(bool there, is_there(slice, cipher, piece, offset, bytes));
    if (there) return {};
    TRY_ASSIGN(const FilePages* pages, snapshot_.pages_of(entry.path));
    bool direct = entry.size >= kDirectFromBytes && !options_.delta;
    TRY_ASSIGN(Fd fd, open_for_write(path, direct));
    if (slice.first == 0 && !options_.delta) TRY(preallocate(fd, entry.size, path));
    SliceCheck check(cipher, slice.number);
    for (uint32_t page = slice.first; page < slice.first + slice.pages;) {
      uint32_t count = std::min<uint32_t>(kPieceBytes / kPageBytes, slice.first + slice.pages - page);
      auto part = piece.view().first(size_t{count} * kPageBytes);
      TRY(snapshot_.read_pages(*pages, page, part, context));
      fetched_ += part.size();
      if (options_.delta) {
        TRY(write_difference(fd, path, uint64_t{page} * kPageBytes, part, other));
      } else {
        TRY(pwrite_full(fd, uint64_t{page} * kPageBytes, part, path));
        written_ += part.size();
        check.add(part);
      }
      reporter_.advance(part.size());
      page += count;
    }
    if (slice.first + slice.pages == entry.size / kPageBytes && options_.delta &&
        ::ftruncate(fd.get(), static_cast<off_t>(entry.size)) != 0) {
      return system_error(fmt::format("{} cannot be cut to its size", path), errno);
    }
    if (::fchmod(fd.get(), entry.mode) != 0)
      return system_error(fmt::format("the mode of {} cannot be set", path), errno);
    TRY(fd.close());
    return options_.delta ? Result<void>{} : journal_->done(slice.number, check.finish());
  }

  // O_DIRECT where the filesystem has it (tmpfs has not).
  Result<Fd> open_for_write(const std::string& path, bool direct) {
    int flags = (options_.delta ? O_RDWR : O_WRONLY) | O_CREAT | O_NOFOLLOW;
    if (direct) {
      auto fd = open_file(path, flags | O_DIRECT, 0600);
      if (fd) return fd;
    }
    return open_file(path, flags, 0600);
  }

  // Pages that differ, and no others (D8). Compared by their bytes: time stamps and sizes prove nothing.
  Result<void> write_difference(const Fd& fd, const std::string& path, uint64_t offset, ByteView wanted,
                                AlignedBuffer& buffer) {
    TRY_ASSIGN(size_t have, pread_some(fd, offset, buffer.view().first(wanted.size()), path));
    compared_ += have;
    for (size_t at = 0; at < wanted.size(); at += kPageBytes) {
      size_t size = std::min<size_t>(kPageBytes, wanted.size() - at);
      if (at + size <= have && std::memcmp(buffer.data() + at, wanted.data() + at, size) == 0) continue;
      TRY(pwrite_full(fd, offset + at, wanted.subspan(at, size), path));
      written_ += size;
    }
    return {};
  }

  Result<Bytes> content_of(const TreeNode& node, SnapshotReader::Context& context) {
    Bytes content;
    content.reserve(node.entry.size);
    for (const Extent& extent : node.extents) TRY(snapshot_.read_extent(extent, context, content));
    fetched_ += content.size();
    return content;
  }

  Result<void> restore_bytes(const Slice& slice, SnapshotReader::Context& context, FrameCipher& cipher,
                             AlignedBuffer& buffer) {
    const TreeEntry& entry = slice.to->node->entry;
    const std::string path = path_of(*slice.to);
    TRY_ASSIGN(bool there, is_there(slice, cipher, buffer, 0, entry.size));
    if (there) return {};
    TRY_ASSIGN(Fd fd, open_for_write(path, false));
    SliceCheck check(cipher, slice.number);
    // Extent by extent: a large file is never held whole.
    uint64_t offset = 0;
    Bytes content;
    auto flush = [&]() -> Result<void> {
      for (size_t at = 0; at < content.size(); at += kPieceBytes) {
        ByteView part = ByteView(content).subspan(at, std::min(kPieceBytes, content.size() - at));
        if (options_.delta) {
          TRY(write_difference(fd, path, offset, part, buffer));
        } else {
          TRY(pwrite_full(fd, offset, part, path));
          written_ += part.size();
          check.add(part);
        }
        offset += part.size();
        reporter_.advance(part.size());
      }
      content.clear();
      return {};
    };
    for (const Extent& extent : slice.to->node->extents) {
      // Pieces of exactly kPieceBytes, so that the check made when resuming sees the same ones.
      if (content.size() + extent.bytes > kPieceBytes && content.size() == kPieceBytes) TRY(flush());
      TRY(snapshot_.read_extent(extent, context, content));
      fetched_ += extent.bytes;
      while (content.size() >= kPieceBytes) {
        Bytes rest(content.begin() + kPieceBytes, content.end());
        content.resize(kPieceBytes);
        TRY(flush());
        content = std::move(rest);
      }
    }
    TRY(flush());
    if (::ftruncate(fd.get(), static_cast<off_t>(entry.size)) != 0) {
      return system_error(fmt::format("{} cannot be cut to its size", path), errno);
    }
    if (::fchmod(fd.get(), entry.mode) != 0)
      return system_error(fmt::format("the mode of {} cannot be set", path), errno);
    TRY(fd.close());
    return options_.delta ? Result<void>{} : journal_->done(slice.number, check.finish());
  }

  Result<void> write_last(const Destination& to, SnapshotReader::Context& context) {
    TRY_ASSIGN(Bytes content, content_of(*to.node, context));
    TRY(write_file_durably(path_of(to), content, to.node->entry.mode));
    written_ += content.size();
    return {};
  }

  // What a delta target has and the snapshot does not. Links are left: they may lead to tablespaces of
  // others.
  Result<void> remove_others() {
    for (const std::string& folder : folders_) {
      TRY_ASSIGN(auto entries, list_folder(folder));
      for (const FolderEntry& entry : entries) {
        std::string path = join_path(folder, entry.name);
        if (std::ranges::binary_search(known_, mark_of(path)) || entry.name == kJournalName) continue;
        if (entry.type == FileType::kFile) {
          TRY(remove_file(path));
        } else if (entry.type == FileType::kFolder) {
          TRY(remove_tree(path));  // a dropped database, a replication slot
        } else {
          continue;
        }
        ++outcome_.removed;
      }
    }
    return {};
  }

  // One syncfs a filesystem: an fsync a file costs a disk flush each.
  Result<void> make_durable() {
    reporter_.phase("making it durable", 0);
    std::unordered_set<uint64_t> seen;
    folders_.push_back(options_.target);
    for (const std::string& folder : folders_) {
      TRY_ASSIGN(Fd fd, open_folder(folder));
      TRY_ASSIGN(FileStatus status, status_of(fd, folder));
      if (!seen.insert(status.device).second) continue;
      if (::syncfs(fd.get()) != 0)
        return system_error(fmt::format("{} cannot be made durable", folder), errno);
    }
    return {};
  }

  const SnapshotReader& snapshot_;
  FileRestoreOptions options_;
  Reporter& reporter_;
  std::stop_token stop_;
  std::optional<Journal> journal_;
  std::vector<std::string> folders_;
  std::vector<Mark> known_;  // of a delta: what the snapshot has, sorted
  std::vector<Destination> destinations_, last_;
  std::vector<Slice> slices_;
  FileRestoreOutcome outcome_;
  std::atomic<uint64_t> written_{0}, compared_{0}, resumed_{0}, fetched_{0};
};

}  // namespace

std::optional<std::string> interrupted_restore(const std::string& target) {
  return Journal::snapshot_of(join_path(target, kJournalName));
}

Result<double> sampled_speed(const SnapshotReader& snapshot, Clock& clock) {
  constexpr Duration kSampleTime = std::chrono::seconds(1);
  constexpr uint32_t kPiecePages = kPieceBytes / kPageBytes;
  SnapshotReader::Context context;
  Bytes piece;
  uint64_t bytes = 0;
  const Duration begun = clock.steady();
  // Whole pieces from the front of one file after the other: what a restore does.
  for (const TreeNode& node : snapshot.tree().nodes) {
    if (node.entry.type != EntryType::kFile || node.entry.content != ContentKind::kPages) continue;
    TRY_ASSIGN(const FilePages* pages, snapshot.pages_of(node.entry.path));
    for (uint32_t page = 0; page < pages->pages && clock.steady() - begun < kSampleTime;
         page += kPiecePages) {
      piece.resize(size_t{std::min(kPiecePages, pages->pages - page)} * kPageBytes);
      TRY(snapshot.read_pages(*pages, page, piece, context));
      bytes += piece.size();
    }
  }
  const double seconds = std::chrono::duration<double>(clock.steady() - begun).count();
  return bytes == 0 || seconds <= 0 ? 0.0 : static_cast<double>(bytes) / seconds;
}

Result<FileRestoreOutcome> restore_files(const SnapshotReader& snapshot, const FileRestoreOptions& options,
                                         Reporter& reporter, std::stop_token stop) {
  return FileRestore(snapshot, options, reporter, std::move(stop)).run();
}

}  // namespace kuramori
