#include "source/git/lfs.h"

#include <fmt/core.h>

#include <charconv>

#include "crypto/digest.h"
#include "os/file.h"
#include "source/git/layout.h"

namespace kuramori::git {
namespace {

constexpr size_t kReadStepBytes = 256 << 10;
constexpr size_t kIdsAtOnce = 65536;  // of objects that git is asked about in one go

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

template <class Do>
void each_line(std::string_view text, Do&& act) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    act(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
}

// Gives whole lines of what comes in pieces.
template <class Do>
class Lines {
 public:
  explicit Lines(Do act) : act_(std::move(act)) {}
  Result<void> add(ByteView bytes) {
    held_ += as_text(bytes);
    size_t from = 0;
    for (size_t end; (end = held_.find('\n', from)) != std::string::npos; from = end + 1)
      act_(std::string_view(held_).substr(from, end - from));
    held_.erase(0, from);
    return {};
  }

 private:
  Do act_;
  std::string held_;
};

uint32_t load_be32(const uint8_t* from) {
  return uint32_t{from[0]} << 24 | uint32_t{from[1]} << 16 | uint32_t{from[2]} << 8 | from[3];
}

// What one pack holds, some at a time, by its index (gitformat-pack, version 2): a head of 8 bytes, 256
// counts of which the last is that of all, and their ids.
class PackIndex {
 public:
  static Result<PackIndex> open(const std::string& path, size_t oid_bytes) {
    PackIndex index;
    index.path_ = path;
    index.oid_bytes_ = oid_bytes;
    TRY_ASSIGN(index.fd_, open_file(path, O_RDONLY | O_NOFOLLOW));
    Bytes head(kHeadBytes);
    TRY(pread_full(index.fd_, 0, head, path));
    if (load_be32(head.data()) != 0xff744f63 || load_be32(head.data() + 4) != 2)
      return fail(ErrorKind::kFailed, fmt::format("\"{}\" is no index of version 2", path));
    index.count_ = load_be32(head.data() + kHeadBytes - 4);
    return index;
  }
  // The next ids, a line each; "" at the end.
  Result<std::string> next() {
    const size_t count = std::min(kIdsAtOnce, count_ - given_);
    Bytes raw(count * oid_bytes_);
    TRY(pread_full(fd_, kHeadBytes + given_ * oid_bytes_, raw, path_));
    given_ += count;
    std::string lines;
    for (size_t i = 0; i < count; ++i)
      lines += to_hex(ByteView(raw).subspan(i * oid_bytes_, oid_bytes_)) + "\n";
    return lines;
  }

 private:
  static constexpr size_t kHeadBytes = 8 + 256 * 4;
  Fd fd_;
  std::string path_;
  size_t oid_bytes_ = 0, count_ = 0, given_ = 0;
};

// Which of these are blobs as small as a pointer.
Result<std::string> small_blobs(const Git& git, const std::string& repository, std::string ids) {
  std::string blobs;
  Lines add_blob([&](std::string_view line) {
    const size_t kind = line.find(' ');
    const size_t size = line.rfind(' ');
    if (kind == std::string_view::npos || size <= kind) return;
    const auto bytes = number(line.substr(size + 1));
    const bool small = bytes && *bytes >= kPointerBytesMin && *bytes < kPointerBytesMax;
    if (small && line.substr(kind + 1, size - kind - 1) == "blob")
      blobs += fmt::format("{}\n", line.substr(0, kind));
  });
  TRY(git.checked({.arguments = {"cat-file", "--batch-check", "--buffer"},
                   .repository = repository,
                   .input = std::move(ids),
                   .on_output = [&](ByteView bytes) { return add_blob.add(bytes); }}));
  return blobs;
}

// The pointers among these blobs. `cat-file --batch` gives "oid blob size\n" content "\n" of each.
Result<void> add_pointers(const Git& git, const std::string& repository, std::string blobs,
                          std::map<std::string, uint64_t>& pointers) {
  std::string held;
  const auto take = [&](ByteView bytes) -> Result<void> {
    held += as_text(bytes);
    size_t at = 0;
    for (;;) {
      const size_t end = held.find('\n', at);
      if (end == std::string::npos) break;
      const std::string_view head = std::string_view(held).substr(at, end - at);
      const auto size = number(head.substr(head.rfind(' ') + 1));
      if (!size || *size >= kPointerBytesMax)
        return fail(ErrorKind::kFailed, "git cat-file said what is no small blob", std::string(head));
      if (end + 1 + *size + 1 > held.size()) break;
      if (const auto pointer = parse_pointer(std::string_view(held).substr(end + 1, *size)))
        pointers.emplace(pointer->oid, pointer->size);
      at = end + 1 + *size + 1;
    }
    held.erase(0, at);
    return {};
  };
  TRY(git.checked({.arguments = {"cat-file", "--batch", "--buffer"},
                   .repository = repository,
                   .input = std::move(blobs),
                   .on_output = take}));
  return {};
}

}  // namespace

std::optional<LfsPointer> parse_pointer(std::string_view blob) {
  if (blob.size() >= kPointerBytesMax || !blob.starts_with("version https://git-lfs.github.com/spec/v1\n"))
    return std::nullopt;
  LfsPointer pointer;
  bool has_size = false;
  each_line(blob, [&](std::string_view line) {
    constexpr std::string_view kOid = "oid sha256:", kSize = "size ";
    if (line.starts_with(kOid) && line.size() == kOid.size() + 64 && is_oid(line.substr(kOid.size())))
      pointer.oid = line.substr(kOid.size());
    if (line.starts_with(kSize)) {
      if (const auto size = number(line.substr(kSize.size()))) {
        pointer.size = *size;
        has_size = true;
      }
    }
  });
  if (pointer.oid.empty() || !has_size) return std::nullopt;
  return pointer;
}

std::optional<std::vector<std::pair<std::string, std::string>>> lfs_settings(const Remote& remote,
                                                                             const std::string& lfs_url) {
  std::string url = remote.url, server = lfs_url;
  switch (remote.way) {
    case Remote::Way::kFolder:
      url = "file://" + remote.path;
      if (server.empty()) server = url;
      break;
    case Remote::Way::kHttp:
      if (server.empty()) {
        server = url;
        while (server.ends_with('/')) server.pop_back();
        server += server.ends_with(".git") ? "/info/lfs" : ".git/info/lfs";
      }
      break;
    case Remote::Way::kSsh:
      if (server.empty()) server = url;
      break;
    case Remote::Way::kGit:
      if (server.empty()) return std::nullopt;
      break;
  }
  return std::vector<std::pair<std::string, std::string>>{
      {"remote.origin.url", url}, {"remote.origin.lfsurl", server},   {"lfs.url", server},
      {"lfs.pushurl", server},    {"lfs.locksverify", "false"},       {"lfs.fetchinclude", ""},
      {"lfs.fetchexclude", ""},   {"lfs.allowincompletepush", "true"}};
}

Result<bool> Lfs::scan(const Git& git, const std::string& repository, size_t oid_bytes) {
  const size_t before = pointers.size();
  std::set<std::string> there;
  TRY_ASSIGN(const auto entries, list_folder(join_path(repository, "objects/pack")));
  for (const FolderEntry& entry : entries) {
    if (entry.name.ends_with(".idx")) there.insert(entry.name.substr(0, entry.name.size() - 4));
  }
  for (const std::string& pack : there) {
    if (scanned.contains(pack)) continue;
    TRY_ASSIGN(PackIndex index,
               PackIndex::open(join_path(repository, fmt::format("objects/pack/{}.idx", pack)), oid_bytes));
    for (;;) {
      TRY_ASSIGN(std::string ids, index.next());
      if (ids.empty()) break;
      TRY_ASSIGN(std::string blobs, small_blobs(git, repository, std::move(ids)));
      if (!blobs.empty()) TRY(add_pointers(git, repository, std::move(blobs), pointers));
    }
  }
  scanned = std::move(there);
  return pointers.size() != before;
}

Result<std::vector<LfsPointer>> Lfs::missing(const std::string& repository) const {
  std::vector<LfsPointer> missing;
  for (const auto& [oid, size] : pointers) {
    if (size == 0) continue;  // of nothing there is nothing to keep
    const std::string path = join_path(repository, lfs_path(oid));
    TRY_ASSIGN(const auto status, status_if_there(path));
    if (status && status->size == size) continue;
    if (status) TRY(remove_file(path));
    missing.push_back({oid, size});
  }
  return missing;
}

std::string Lfs::text() const {
  std::string text;
  for (const std::string& pack : scanned) text += fmt::format("scanned {}\n", pack);
  for (const auto& [oid, size] : pointers) text += fmt::format("pointer {} {}\n", oid, size);
  return text;
}

Result<Lfs> Lfs::parse(std::string_view text) {
  Lfs lfs;
  bool good = true;
  each_line(text, [&](std::string_view line) {
    if (line.starts_with("scanned ")) {
      lfs.scanned.emplace(line.substr(8));
      return;
    }
    const auto size = line.size() > 73 ? number(line.substr(73)) : std::nullopt;
    good = good && line.starts_with("pointer ") && size && is_oid(line.substr(8, 64));
    if (good) lfs.pointers.emplace(line.substr(8, 64), *size);
  });
  if (!good) return fail(ErrorKind::kDamaged, "the list of LFS pointers is not what was written");
  return lfs;
}

Result<bool> is_lfs_object(const std::string& path, std::string_view oid, const std::stop_token& stop) {
  TRY_ASSIGN(const Fd fd, open_file(path, O_RDONLY | O_NOFOLLOW));
  Sha256 digest;
  Bytes buffer(kReadStepBytes);
  for (uint64_t at = 0;;) {
    if (stop.stop_requested()) return fail(ErrorKind::kInterrupted, "the check was stopped");
    TRY_ASSIGN(const size_t got, pread_some(fd, at, buffer, path));
    if (got == 0) break;
    digest.add(ByteView(buffer).first(got));
    at += got;
  }
  return digest.finish().hex() == oid;
}

}  // namespace kuramori::git
