#include "vault/tree_cache.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <unordered_map>

#include "codec/zstd.h"
#include "crypto/aead.h"
#include "crypto/digest.h"
#include "os/file.h"
#include "vault/wire.h"

namespace kuramori {
namespace {

// A file is a head (magic and a salt, from which its key comes: no two files share one), then blocks: their
// length, their plain length, and zstd of records, sealed under their number. The last one says that it is.
constexpr std::string_view kMagic = "kuramori tree cache 1\n";
constexpr size_t kSaltBytes = 32;
constexpr size_t kBlockPlainBytes = size_t{256} << 10;
constexpr size_t kBlockBytesMax = size_t{64} << 20;  // one node may be large: an attribute, a million extents
constexpr int kCacheZstdLevel = 1;
constexpr std::string_view kMore = "more", kLast = "last";
constexpr size_t kMarkBytes = 8;  // of a name that is not final yet
// What is still written then was written by a run that was killed. A longer one forgets, and reads again.
constexpr Duration kUnfinishedMax = std::chrono::hours(24 * 7);

FrameCipher cipher_of(const KeyBundle& keys, ByteView salt) {
  return FrameCipher(hkdf_sha256(keys.chunk.view(), salt, as_bytes("kuramori tree cache 1")));
}

void remove_unfinished(const std::string& path) {
  const auto entries = list_folder(folder_of(path));
  if (!entries) return;
  const std::string begin = path.substr(path.rfind('/') + 1) + ".";
  for (const FolderEntry& entry : *entries) {
    if (!entry.name.starts_with(begin) || entry.name.size() != begin.size() + 2 * kMarkBytes) continue;
    const std::string at = join_path(folder_of(path), entry.name);
    const auto status = status_if_there(at);
    if (status && *status && (*status)->modified + kUnfinishedMax < system_clock().now())
      (void)::unlink(at.c_str());
  }
}

// Records: message { pack 1 (a new number) | node 2 (as in a tree) | stamp 3 (packed: device, inode, ctime)
// }, a stamp before its node.
constexpr uint32_t kStampField = 3;

}  // namespace

struct TreeCacheWriter::State {
  std::string path, temporary;
  Fd fd;
  FrameCipher cipher;
  Compressor compressor{kCacheZstdLevel};
  uint32_t blocks = 0;
  std::string records;
  std::unordered_map<std::string, uint32_t> packs;
  bool kept = false;

  Result<void> write_block(std::string_view which) {
    Bytes packed, sealed;
    compressor.compress(as_bytes(records), packed);
    append_le(sealed, static_cast<uint32_t>(packed.size() + kGcmTagBytes));
    append_le(sealed, static_cast<uint32_t>(records.size()));
    cipher.seal(blocks++, as_bytes(which), packed, sealed);
    records.clear();
    return write_full(fd, sealed, temporary);
  }
};

TreeCacheWriter::TreeCacheWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
TreeCacheWriter::~TreeCacheWriter() {
  if (!state_->kept) (void)::unlink(state_->temporary.c_str());
}

Result<std::unique_ptr<TreeCacheWriter>> TreeCacheWriter::create(const std::string& path,
                                                                 const KeyBundle& keys, Random& random) {
  TRY(make_folders(folder_of(path)));
  Bytes salt(kSaltBytes);
  random.fill(salt);
  remove_unfinished(path);
  std::string temporary = fmt::format("{}.{}", path, to_hex(ByteView(salt).first(kMarkBytes)));
  TRY_ASSIGN(Fd fd, open_file(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  Bytes head = to_bytes(as_bytes(kMagic));
  append(head, salt);
  std::unique_ptr<State> state(new State{
      .path = path, .temporary = std::move(temporary), .fd = std::move(fd), .cipher = cipher_of(keys, salt)});
  std::unique_ptr<TreeCacheWriter> writer(
      new TreeCacheWriter(std::move(state)));  // from here on it removes it
  TRY(write_full(writer->state_->fd, head, writer->state_->temporary));
  return writer;
}

uint32_t TreeCacheWriter::pack(const std::string& name) {
  State& s = *state_;
  const auto [at, is_new] = s.packs.emplace(name, static_cast<uint32_t>(s.packs.size()));
  if (is_new) put_tree_packs(s.records, {name});
  return at->second;
}

Result<void> TreeCacheWriter::add(const TreeNode& node, const EntryStamp& stamp) {
  State& s = *state_;
  const uint64_t numbers[] = {stamp.device, stamp.inode, static_cast<uint64_t>(stamp.ctime_ns)};
  protozero::pbf_writer(s.records).add_packed_uint64(kStampField, std::begin(numbers), std::end(numbers));
  put_tree_node(s.records, node);
  return s.records.size() < kBlockPlainBytes ? Result<void>{} : s.write_block(kMore);
}

Result<void> TreeCacheWriter::keep() {
  State& s = *state_;
  TRY(s.write_block(kLast));
  TRY(s.fd.close());
  if (::rename(s.temporary.c_str(), s.path.c_str()) != 0)
    return system_error(fmt::format("rename \"{}\"", s.temporary), errno);
  s.kept = true;
  return {};
}

struct TreeCacheReader::State {
  std::string path;
  Fd fd;
  FrameCipher cipher;
  Decompressor decompressor;
  uint64_t at = 0;
  uint32_t blocks = 0;
  bool was_last = false;
  std::vector<std::string> packs;
  std::vector<CachedNode> nodes;  // of the block that is being given out
  size_t next = 0;

  Error useless(std::string_view why) const {
    return fail(ErrorKind::kDamaged, fmt::format("{} is of no use: {}", path, why));
  }

  Result<void> read_block() {
    uint8_t head[8];
    TRY(pread_full(fd, at, head, path));
    const uint32_t sealed_bytes = load_le<uint32_t>(head), plain_bytes = load_le<uint32_t>(head + 4);
    if (sealed_bytes < kGcmTagBytes || sealed_bytes > kBlockBytesMax || plain_bytes > kBlockBytesMax)
      return useless("a block is too large");
    Bytes sealed(sealed_bytes), packed(sealed_bytes - kGcmTagBytes), plain(plain_bytes);
    TRY(pread_full(fd, at + sizeof head, sealed, path));
    at += sizeof head + sealed_bytes;
    const uint32_t number = blocks++;
    if (!cipher.open(number, as_bytes(kMore), sealed, packed)) {
      if (!cipher.open(number, as_bytes(kLast), sealed, packed)) return useless("a block is damaged");
      was_last = true;
    }
    TRY(decompressor.decompress(packed, plain));
    return take(plain);
  }

  Result<void> take(ByteView records) {
    nodes.clear();
    next = 0;
    try {
      protozero::pbf_reader r(reinterpret_cast<const char*>(records.data()), records.size());
      std::optional<EntryStamp> stamp;
      while (r.next()) {
        if (r.tag() == 1) {
          packs.push_back(r.get_string());
        } else if (r.tag() == kStampField) {
          const auto numbers = r.get_packed_uint64();
          uint64_t three[3] = {};
          size_t count = 0;
          for (auto it = numbers.begin(); it != numbers.end() && count < 3; ++it) three[count++] = *it;
          stamp = {.device = three[0], .inode = three[1], .ctime_ns = static_cast<int64_t>(three[2])};
        } else if (r.tag() == 2 && stamp) {
          const protozero::data_view message = r.get_view();
          TRY_ASSIGN(TreeNode node, decode_tree_node(as_bytes({message.data(), message.size()})));
          nodes.push_back({.node = std::move(node), .stamp = *stamp});
          stamp.reset();
        } else {
          return useless("it holds what it cannot");
        }
      }
    } catch (const std::exception& error) {
      return useless(error.what());
    }
    for (const CachedNode& cached : nodes) {
      for (const Extent& extent : cached.node.extents) {
        if (extent.pack != kHolePack && extent.pack >= packs.size()) return useless("a pack is missing");
      }
    }
    return {};
  }
};

TreeCacheReader::TreeCacheReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
TreeCacheReader::~TreeCacheReader() = default;
const std::vector<std::string>& TreeCacheReader::packs() const {
  return state_->packs;
}

Result<std::unique_ptr<TreeCacheReader>> TreeCacheReader::open(const std::string& path,
                                                               const KeyBundle& keys) {
  TRY_ASSIGN(Fd fd, open_file(path, O_RDONLY | O_NOFOLLOW));
  Bytes head(kMagic.size() + kSaltBytes);
  TRY(pread_full(fd, 0, head, path));
  if (as_text(head).substr(0, kMagic.size()) != kMagic)
    return fail(ErrorKind::kDamaged, fmt::format("{} is no memory of a tree", path));
  std::unique_ptr<State> state(new State{.path = path,
                                         .fd = std::move(fd),
                                         .cipher = cipher_of(keys, ByteView(head).subspan(kMagic.size())),
                                         .at = head.size()});
  return std::unique_ptr<TreeCacheReader>(new TreeCacheReader(std::move(state)));
}

Result<std::optional<CachedNode>> TreeCacheReader::next() {
  State& s = *state_;
  while (s.next == s.nodes.size()) {
    if (s.was_last) return std::nullopt;
    TRY(s.read_block());
  }
  return std::move(s.nodes[s.next++]);
}

}  // namespace kuramori
