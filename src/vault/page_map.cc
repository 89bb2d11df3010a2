#include "vault/page_map.h"

#include <fmt/core.h>

#include "base/check.h"
#include "codec/zstd.h"
#include "crypto/aead.h"
#include "crypto/digest.h"
#include "vault/pack.h"
#include "vault/varint.h"

namespace kuramori {
namespace {

// Entries of about this size are sealed together, so that one file can be looked up without opening the whole
// map.
constexpr size_t kBlockPlainBytes = 256 << 10;
constexpr size_t kBlockPlainBytesMax = 64u << 20;
constexpr size_t kMapPacksMax = 16u << 20;
constexpr int kMapLevel = 3;

// key:16 state:u8 pages inode birth runs { gap count pack+1 [frame slot] }: all but key and state are
// varints; gap counts from the end of the run before; pack+1 = 0 means zero pages.
void put_file(Bytes& to, const FilePages& file) {
  append(to, file.key.view());
  to.push_back(static_cast<uint8_t>(file.state));
  put_varint(to, file.pages);
  put_varint(to, file.inode);
  put_varint(to, static_cast<uint64_t>(file.birth_ns));
  put_varint(to, file.runs.size());
  uint32_t at = 0;
  for (const PageRun& run : file.runs) {
    put_varint(to, run.page - at);
    put_varint(to, run.count);
    put_varint(to, run.pack == kZeroPack ? 0 : uint64_t{run.pack} + 1);
    if (run.pack != kZeroPack) {
      put_varint(to, run.frame);
      put_varint(to, run.slot);
    }
    at = run.page + run.count;
  }
}

Result<FilePages> take_file(ByteReader& from, size_t packs) {
  FilePages file;
  TRY_ASSIGN(ByteView key, from.take(FileKey::kBytes));
  file.key = *FileKey::from_bytes(key);
  TRY_ASSIGN(uint8_t state, from.take_le<uint8_t>());
  if (state < 1 || state > 3) return fail(ErrorKind::kDamaged, "a file in a page map has an unknown state");
  file.state = static_cast<FileState>(state);
  TRY_ASSIGN(file.pages, take_varint_u32(from));
  TRY_ASSIGN(file.inode, take_varint(from));
  TRY_ASSIGN(uint64_t birth, take_varint(from));
  file.birth_ns = static_cast<int64_t>(birth);
  TRY_ASSIGN(uint64_t runs, take_varint(from));
  uint64_t at = 0;
  for (uint64_t i = 0; i < runs; ++i) {
    PageRun run;
    TRY_ASSIGN(uint32_t gap, take_varint_u32(from));
    TRY_ASSIGN(run.count, take_varint_u32(from));
    TRY_ASSIGN(uint64_t pack, take_varint(from));
    if (pack > packs) return fail(ErrorKind::kDamaged, "a run in a page map names a pack that is not listed");
    if (pack != 0) {
      run.pack = static_cast<uint32_t>(pack - 1);
      TRY_ASSIGN(run.frame, take_varint_u32(from));
      TRY_ASSIGN(run.slot, take_varint_u32(from));
      if (run.slot >= kPagesPerFrame)
        return fail(ErrorKind::kDamaged, "a run in a page map has an impossible slot");
      if (run.frame >= kPackFramesMax || run.count > uint64_t{kPackFramesMax} * kPagesPerFrame)
        return fail(ErrorKind::kDamaged, "a run in a page map leaves its pack");
    }
    at += gap;
    run.page = static_cast<uint32_t>(at);
    at += run.count;
    if (run.count == 0 || at > file.pages)
      return fail(ErrorKind::kDamaged, "a run in a page map leaves its file");
    file.runs.push_back(run);
  }
  return file;
}

Bytes block_binding(const FamilyId& family, std::string_view name, uint32_t block) {
  Bytes ad = to_bytes(as_bytes("kuramori page map 1"));
  append(ad, family.view());
  append_le(ad, block);
  append(ad, as_bytes(name));
  return ad;
}

}  // namespace

// head; blocks { len:u32 sealed }, the first with the pack names, the others with files; then the index,
// sealed like a block: { offset first_key:16 }…; then index_offset:u64; then SHA-256 of all before.
Bytes encode_map(const PageMap& map, const KeyBundle& keys, Random& random, const std::string& name,
                 const ResourceId& scope) {
  Secret key = structure_key(keys, scope);
  Bytes object = envelope_head(RecordType::kPageMap, kSealed | kCompressed, name, scope);
  uint32_t block = 0;
  auto put_block = [&](const Bytes& plain) {
    Bytes sealed =
        xseal(key, block_binding(keys.family, name, block++), zstd_compress(plain, kMapLevel), random);
    append_le<uint32_t>(object, static_cast<uint32_t>(sealed.size()));
    append(object, sealed);
  };
  Bytes plain;
  put_varint(plain, map.packs.size());
  for (const std::string& pack : map.packs) {
    put_varint(plain, pack.size());
    append(plain, as_bytes(pack));
  }
  put_block(plain);
  Bytes index;
  plain.clear();
  auto flush = [&] {
    if (plain.empty()) return;
    put_block(plain);
    plain.clear();
  };
  const FilePages* before = nullptr;
  for (const FilePages& file : map.files) {
    CHECK(before == nullptr || before->key < file.key);
    before = &file;
    if (plain.empty()) {
      put_varint(index, object.size());
      append(index, file.key.view());
    }
    put_file(plain, file);
    if (plain.size() >= kBlockPlainBytes) flush();
  }
  flush();
  uint64_t index_offset = object.size();
  put_block(index);
  append_le<uint64_t>(object, index_offset);
  append(object, sha256(object).view());
  return object;
}

Result<void> visit_map(ByteView object, const KeyBundle& keys, const std::string& name,
                       const MapVisitor& visitor) {
  auto damaged = [&](std::string_view why) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: {}", name, why));
  };
  constexpr size_t kTailBytes = sizeof(uint64_t) + Digest::kBytes;
  if (object.size() < kTailBytes) return damaged("truncated");
  ByteView checked = object.first(object.size() - Digest::kBytes);
  if (!equal(sha256(checked).view(), object.last(Digest::kBytes)))
    return damaged("its checksum does not fit");
  ByteReader head(object);
  auto fixed = head.take(10);
  if (!fixed || as_text(fixed->first(4)) != "KMRI" ||
      (*fixed)[4] != static_cast<uint8_t>(RecordType::kPageMap)) {
    return damaged("it is not a page map");
  }
  if ((*fixed)[5] != kFormatVersion) {
    return fail(ErrorKind::kRefused, fmt::format("{} has format version {}", name, (*fixed)[5]),
                fmt::format("this program knows version {}", kFormatVersion),
                "use a newer kuramori to read this vault");
  }
  auto stored_name = head.take(load_le<uint16_t>(fixed->data() + 8));
  if (!stored_name) return damaged("truncated in its head");
  if (as_text(*stored_name) != name)
    return damaged(fmt::format("it is {}, put here under another name", as_text(*stored_name)));
  auto scope_size = head.take_le<uint8_t>();
  if (!scope_size || *scope_size != ResourceId::kBytes) return damaged("it belongs to no resource");
  auto scope = head.take(ResourceId::kBytes);
  if (!scope) return damaged("truncated in its head");
  Secret key = structure_key(keys, *ResourceId::from_bytes(*scope));

  uint64_t index_offset = load_le<uint64_t>(checked.last(sizeof(uint64_t)).data());
  size_t at = object.size() - head.left();
  if (head.left() < kTailBytes) return damaged("truncated");
  size_t pack_count = 0;
  std::optional<FileKey> before;
  uint32_t block = 0;
  while (at < index_offset) {
    ByteReader reader(checked.first(checked.size() - sizeof(uint64_t)).subspan(at));
    auto size = reader.take_le<uint32_t>();
    if (!size) return damaged("truncated in a block");
    auto sealed = reader.take(*size);
    if (!sealed) return damaged("truncated in a block");
    auto compressed = xopen(key, block_binding(keys.family, name, block), *sealed);
    if (!compressed) return damaged("a block was not sealed with this vault's keys");
    TRY_ASSIGN(Bytes plain, zstd_decompress(*compressed, kBlockPlainBytesMax));
    ByteReader fields(plain);
    if (block == 0) {
      TRY_ASSIGN(uint64_t packs, take_varint(fields));
      if (packs > kMapPacksMax) return damaged("it names too many packs");
      std::vector<std::string> names;
      for (uint64_t i = 0; i < packs; ++i) {
        TRY_ASSIGN(uint64_t length, take_varint(fields));
        TRY_ASSIGN(ByteView pack, fields.take(length));
        names.emplace_back(as_text(pack));
      }
      if (fields.left() != 0) return damaged("its list of packs has bytes too many");
      pack_count = names.size();
      TRY(visitor.packs(std::move(names)));
    } else {
      while (fields.left() != 0) {
        auto file = take_file(fields, pack_count);
        if (!file) return damaged(file.error().what);
        if (before && !(*before < file->key)) return damaged("its files are not in order");
        before = file->key;
        TRY(visitor.file(std::move(*file)));
      }
    }
    at += sizeof(uint32_t) + *size;
    ++block;
  }
  if (block == 0 || at != index_offset) return damaged("its blocks do not end where its index begins");
  return {};
}

Result<PageMap> decode_map(ByteView object, const KeyBundle& keys, const std::string& name) {
  PageMap map;
  MapVisitor keep;
  keep.packs = [&](std::vector<std::string> packs) -> Result<void> {
    map.packs = std::move(packs);
    return {};
  };
  keep.file = [&](FilePages file) -> Result<void> {
    file.runs.shrink_to_fit();  // most files are one run
    map.files.push_back(std::move(file));
    return {};
  };
  TRY(visit_map(object, keys, name, keep));
  return map;
}

Result<std::vector<PageRun>> overlay(const std::vector<PageRun>& base, const std::vector<PageRun>& delta,
                                     uint32_t pages) {
  std::vector<PageRun> out;
  // The part of `run` from page `from` on, `count` pages long.
  auto part = [](const PageRun& run, uint32_t from, uint32_t count) {
    PageRun cut = run;
    uint32_t skip = from - run.page;
    cut.page = from;
    cut.count = count;
    if (run.pack != kZeroPack) {
      uint64_t slot = uint64_t{run.frame} * kPagesPerFrame + run.slot + skip;
      cut.frame = static_cast<uint32_t>(slot / kPagesPerFrame);
      cut.slot = static_cast<uint32_t>(slot % kPagesPerFrame);
    }
    return cut;
  };
  auto older = base.begin();
  // Fills [from, to) from the base.
  auto fill = [&](uint32_t from, uint32_t to) -> Result<void> {
    while (from < to) {
      while (older != base.end() && older->page + older->count <= from) ++older;
      if (older == base.end() || older->page > from) {
        return fail(ErrorKind::kDamaged, fmt::format("no map says where page {} is", from));
      }
      uint32_t count = std::min(to, older->page + older->count) - from;
      out.push_back(part(*older, from, count));
      from += count;
    }
    return {};
  };
  uint32_t at = 0;
  for (const PageRun& run : delta) {
    if (run.page >= pages) break;
    TRY(fill(at, run.page));
    out.push_back(part(run, run.page, std::min(run.count, pages - run.page)));
    at = out.back().page + out.back().count;
  }
  TRY(fill(at, pages));
  return out;
}

Result<void> lay_over(ResolvedPages& resolved, PageMap map) {
  // Names are looked up where they stand, so they must stay there.
  resolved.packs.reserve(resolved.packs.size() + map.packs.size());
  std::unordered_map<std::string_view, uint32_t> pack_index;
  pack_index.reserve(resolved.packs.capacity());
  const auto add_name = [&](uint32_t index) { pack_index.emplace(resolved.packs[index], index); };
  for (uint32_t index = 0; index < resolved.packs.size(); ++index) add_name(index);
  std::vector<uint32_t> renumber;
  renumber.reserve(map.packs.size());
  for (std::string& pack : map.packs) {
    const auto known = pack_index.find(pack);
    renumber.push_back(known != pack_index.end() ? known->second
                                                 : static_cast<uint32_t>(resolved.packs.size()));
    if (known != pack_index.end()) continue;
    resolved.packs.push_back(std::move(pack));
    add_name(renumber.back());
  }
  map.packs = {};
  resolved.files.reserve(std::max(resolved.files.size(), map.files.size()));
  for (FilePages& file : map.files) {
    if (file.state == FileState::kRemoved) {
      resolved.files.erase(file.key);
      continue;
    }
    FilePages entry = std::move(file);
    for (PageRun& run : entry.runs) {
      if (run.pack != kZeroPack) run.pack = renumber[run.pack];
    }
    std::vector<PageRun> base;
    if (entry.state == FileState::kDelta) {
      auto older = resolved.files.find(entry.key);
      if (older == resolved.files.end()) {
        return fail(ErrorKind::kDamaged,
                    fmt::format("a page map changes file {} that no older one has", entry.key.hex()));
      }
      base = std::move(older->second.runs);
    }
    TRY_ASSIGN(entry.runs, overlay(base, entry.runs, entry.pages));
    entry.runs.shrink_to_fit();
    entry.state = FileState::kFull;
    resolved.files[entry.key] = std::move(entry);
  }
  return {};
}

Result<ResolvedPages> resolve(std::vector<PageMap> maps) {
  if (maps.size() > kMapsMax) {
    return fail(ErrorKind::kDamaged,
                fmt::format("a snapshot names {} page maps, {} are allowed", maps.size(), kMapsMax));
  }
  ResolvedPages resolved;
  // Oldest first: each newer map replaces, overlays or removes.
  for (; !maps.empty(); maps.pop_back()) TRY(lay_over(resolved, std::move(maps.back())));
  return resolved;
}

void add_live(LiveFrames& live, const PageRun& run) {
  if (run.pack == kZeroPack || run.count == 0) return;
  uint32_t last = static_cast<uint32_t>(run.frame + (uint64_t{run.slot} + run.count - 1) / kPagesPerFrame);
  auto& ranges = live[run.pack];
  // Runs arrive mostly in order: extend instead of collecting one range a page.
  if (!ranges.empty() && run.frame >= ranges.back().first &&
      run.frame <= ranges.back().first + ranges.back().count) {
    ranges.back().count = std::max(ranges.back().count, last + 1 - ranges.back().first);
    return;
  }
  ranges.push_back({run.frame, last + 1 - run.frame});
}

void normalise(std::vector<FrameRange>& ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const FrameRange& a, const FrameRange& b) { return a.first < b.first; });
  std::vector<FrameRange> joined;
  for (const FrameRange& range : ranges) {
    if (!joined.empty() && range.first <= joined.back().first + joined.back().count) {
      joined.back().count = std::max(joined.back().count, range.first + range.count - joined.back().first);
    } else {
      joined.push_back(range);
    }
  }
  ranges = std::move(joined);
}

}  // namespace kuramori
