#include "vault/opened_memory.h"

#include <fmt/core.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "crypto/aead.h"
#include "crypto/digest.h"
#include "os/file.h"

namespace kuramori {
namespace {

constexpr std::string_view kMagic = "KMROPEN1";
constexpr size_t kChunkBytes = size_t{256} << 10;     // of records, before it is sealed
constexpr size_t kChunkBytesMax = size_t{300} << 20;  // a record may be as large as an object
constexpr size_t kIndexBytesMax = size_t{256} << 20;
constexpr size_t kFooterBytes = 16;
constexpr size_t kChunksHeld = 4;  // opened at once: records are asked for nearly in the order they were kept

// FNV-1a. Two names with the same are told apart by the name beside the record.
uint64_t hash_of(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

struct Place {
  uint64_t hash;
  uint32_t chunk, at;
};
struct ChunkSpan {
  uint64_t offset;
  uint32_t bytes;
};

struct Found {
  std::string_view name;
  size_t bytes = 0;  // that it takes in its chunk
  uint64_t object_bytes = 0;
  OpenedRecord record;
};

void append_record(Bytes& out, std::string_view name, uint64_t object_bytes, const OpenedRecord& record) {
  append_le<uint16_t>(out, static_cast<uint16_t>(name.size()));
  append(out, as_bytes(name));
  append_le<uint64_t>(out, object_bytes);
  out.push_back(static_cast<uint8_t>(record.type));
  append(out, record.signer.view());
  append(out, record.digest.view());
  append_le<uint32_t>(out, static_cast<uint32_t>(record.body.size()));
  append(out, record.body);
}

std::optional<Found> read_record(ByteView bytes) {
  ByteReader reader(bytes);
  Found found;
  auto name_bytes = reader.take_le<uint16_t>();
  if (!name_bytes) return std::nullopt;
  auto name = reader.take(*name_bytes);
  auto object_bytes = reader.take_le<uint64_t>();
  auto type = reader.take_le<uint8_t>();
  auto signer = reader.take(SignerId::kBytes);
  auto digest = reader.take(Digest::kBytes);
  auto body_bytes = reader.take_le<uint32_t>();
  if (!name || !object_bytes || !type || !signer || !digest || !body_bytes) return std::nullopt;
  auto body = reader.take(*body_bytes);
  if (!body) return std::nullopt;
  found.name = as_text(*name);
  found.bytes = bytes.size() - reader.left();
  found.object_bytes = *object_bytes;
  found.record = {.type = static_cast<RecordType>(*type),
                  .signer = *SignerId::from_bytes(*signer),
                  .body = to_bytes(*body),
                  .digest = *Digest::from_bytes(*digest)};
  return found;
}

}  // namespace

struct OpenedMemory::Parts {
  std::string folder, path;
  Secret key;
  Bytes chunk_context, index_context;
  Random& random;

  // What was in the file.
  std::optional<Fd> file;
  std::vector<ChunkSpan> chunks;
  std::vector<Place> places;                         // by hash
  std::vector<std::pair<uint32_t, uint32_t>> asked;  // chunk and place in it, of what was recalled
  uint32_t next_chunk = 0, next_at = 0;              // behind what was recalled last
  struct Held {
    uint32_t chunk = UINT32_MAX;
    Bytes plain;
  };
  std::array<Held, kChunksHeld> held;
  size_t next_held = 0;
  Bytes room;  // that chunks are read into

  // What came since: sealed and written as it comes, so that it is not held.
  std::string new_path;
  std::optional<Fd> new_file;
  uint64_t new_end = 0;
  std::vector<ChunkSpan> new_chunks;
  std::vector<Place> new_places;
  Bytes open_chunk;
  size_t fresh = 0;
  bool failed = false;

  Parts(Secret sealed_under, Random& source) : key(std::move(sealed_under)), random(source) {}
  ~Parts() {
    if (new_file) ::unlink(new_path.c_str());
  }

  // Anything wrong with it: as if there were none.
  void load() {
    Result<Fd> opened = open_file(path, O_RDONLY | O_NOFOLLOW);
    if (!opened) return;
    Result<FileStatus> status = status_of(*opened, path);
    if (!status || status->size < kMagic.size() + kFooterBytes) return;
    std::array<uint8_t, kFooterBytes> footer{};
    if (!pread_full(*opened, status->size - kFooterBytes, footer, path)) return;
    const uint64_t at = load_le<uint64_t>(footer.data()), bytes = load_le<uint64_t>(footer.data() + 8);
    if (bytes > kIndexBytesMax || at > status->size || at + bytes + kFooterBytes != status->size) return;
    Bytes sealed(bytes);
    if (!pread_full(*opened, at, sealed, path)) return;
    Result<Bytes> plain = xopen(key, index_context, sealed);
    if (!plain) return;
    ByteReader reader(*plain);
    auto chunk_count = reader.take_le<uint32_t>();
    for (uint32_t i = 0; chunk_count && i < *chunk_count; ++i) {
      auto offset = reader.take_le<uint64_t>();
      auto length = reader.take_le<uint32_t>();
      if (!offset || !length) return chunks.clear();
      chunks.push_back({*offset, *length});
    }
    while (auto hash = reader.take_le<uint64_t>()) {
      auto chunk = reader.take_le<uint32_t>(), in_chunk = reader.take_le<uint32_t>();
      if (!chunk || !in_chunk || *chunk >= chunks.size()) return places.clear();
      places.push_back({*hash, *chunk, *in_chunk});
    }
    file = std::move(*opened);
  }

  // Null: it does not open.
  const Bytes* chunk(uint32_t number) {
    for (const Held& one : held) {
      if (one.chunk == number) return &one.plain;
    }
    const ChunkSpan& span = chunks[number];
    if (span.bytes > kChunkBytesMax) return nullptr;
    room.resize(span.bytes);
    if (!pread_full(*file, span.offset, room, path)) return nullptr;
    Held& into = held[next_held++ % kChunksHeld];
    into.chunk = UINT32_MAX;
    if (!xopen_into(key, chunk_context, room, into.plain)) return nullptr;
    into.chunk = number;
    return &into.plain;
  }

  std::optional<Found> at(uint32_t number, uint32_t place) {
    const Bytes* plain = chunk(number);
    if (plain == nullptr || place >= plain->size()) return std::nullopt;
    return read_record(ByteView(*plain).subspan(place));
  }

  // Mostly records are asked for in the order in which they were kept, so the next is looked at first.
  std::optional<Found> find_next(std::string_view name, uint64_t object_bytes) {
    if (next_chunk >= chunks.size()) return std::nullopt;
    const Bytes* plain = chunk(next_chunk);
    if (plain != nullptr && next_at == plain->size()) {
      next_at = 0;
      plain = ++next_chunk < chunks.size() ? chunk(next_chunk) : nullptr;
    }
    constexpr size_t kNameAt = sizeof(uint16_t);  // as append_record() writes it
    if (plain == nullptr || plain->size() - next_at < kNameAt + name.size()) return std::nullopt;
    if (as_text(ByteView(*plain).subspan(next_at + kNameAt, name.size())) != name) return std::nullopt;
    auto found = at(next_chunk, next_at);
    if (!found || found->name != name || found->object_bytes != object_bytes) return std::nullopt;
    was_asked(next_chunk, next_at, *found);
    return found;
  }
  void was_asked(uint32_t number, uint32_t place, const Found& found) {
    asked.emplace_back(number, place);
    next_chunk = number;
    next_at = place + static_cast<uint32_t>(found.bytes);
  }

  Result<void> append_new(ByteView bytes) {
    if (!new_file) {
      TRY(make_folders(folder, 0700));
      std::array<uint8_t, 8> raw;
      random.fill(raw);
      new_path = fmt::format("{}.new-{}", path, to_hex(raw));
      TRY_ASSIGN(new_file, open_file(new_path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
      TRY(pwrite_full(*new_file, 0, as_bytes(kMagic), new_path));
      new_end = kMagic.size();
    }
    TRY(pwrite_full(*new_file, new_end, bytes, new_path));
    new_end += bytes.size();
    return {};
  }

  Result<void> close_chunk() {
    if (open_chunk.empty()) return {};
    const Bytes sealed = xseal(key, chunk_context, open_chunk, random);
    TRY(append_new(sealed));
    new_chunks.push_back({new_end - sealed.size(), static_cast<uint32_t>(sealed.size())});
    open_chunk.clear();
    return {};
  }

  Result<void> add(std::string_view name, uint64_t object_bytes, const OpenedRecord& record) {
    new_places.push_back(
        {hash_of(name), static_cast<uint32_t>(new_chunks.size()), static_cast<uint32_t>(open_chunk.size())});
    append_record(open_chunk, name, object_bytes, record);
    return open_chunk.size() < kChunkBytes ? Result<void>() : close_chunk();
  }

  // What is still asked for goes on as it is, or — where most is not — record by record.
  Result<void> take_over_old() {
    std::ranges::sort(asked);  // as they lie in the file, so that each chunk is opened once
    const auto twice = std::ranges::unique(asked);
    asked.erase(twice.begin(), twice.end());
    if (asked.size() * 2 < places.size()) {
      for (const auto& [number, place] : asked)
        if (auto found = at(number, place)) TRY(add(found->name, found->object_bytes, found->record));
      return close_chunk();
    }
    const auto first = static_cast<uint32_t>(new_chunks.size());
    for (const ChunkSpan& span : chunks) {
      room.resize(span.bytes);
      TRY(pread_full(*file, span.offset, room, path));
      TRY(append_new(room));
      new_chunks.push_back({new_end - span.bytes, span.bytes});
    }
    for (const Place& place : places) new_places.push_back({place.hash, place.chunk + first, place.at});
    return {};
  }

  Result<void> write() {
    TRY(close_chunk());
    TRY(take_over_old());
    std::ranges::sort(new_places, {}, &Place::hash);
    Bytes index;
    append_le<uint32_t>(index, static_cast<uint32_t>(new_chunks.size()));
    for (const ChunkSpan& span : new_chunks) {
      append_le<uint64_t>(index, span.offset);
      append_le<uint32_t>(index, span.bytes);
    }
    for (const Place& place : new_places) {
      append_le<uint64_t>(index, place.hash);
      append_le<uint32_t>(index, place.chunk);
      append_le<uint32_t>(index, place.at);
    }
    const Bytes sealed = xseal(key, index_context, index, random);
    const uint64_t at = new_end;
    TRY(append_new(sealed));
    Bytes footer;
    append_le<uint64_t>(footer, at);
    append_le<uint64_t>(footer, sealed.size());
    TRY(append_new(footer));
    if (::rename(new_path.c_str(), path.c_str()) != 0)
      return system_error(fmt::format("put \"{}\" in place", path), errno);
    new_file.reset();
    return {};
  }
};

OpenedMemory::OpenedMemory(const std::string& folder, const KeyBundle& keys, const VaultId& vault,
                           Random& random) {
  Bytes purpose = to_bytes(as_bytes("kuramori opened records 1"));
  append(purpose, vault.view());
  parts_ =
      std::make_unique<Parts>(hkdf_sha256(keys.signing->seed().view(), keys.family.view(), purpose), random);
  parts_->chunk_context = purpose;
  parts_->chunk_context.push_back('c');
  parts_->index_context = purpose;
  parts_->index_context.push_back('i');
  parts_->folder = join_path(folder, "opened");
  parts_->path = fmt::format("{}/{}.{}", parts_->folder, vault.hex(),
                             signer_id(keys.signing->verify_key()).hex().substr(0, 16));
  parts_->load();
}
OpenedMemory::~OpenedMemory() = default;

bool OpenedMemory::empty() const {
  return parts_->places.empty();
}

bool OpenedMemory::may_know(std::string_view full_name) const {
  return std::ranges::binary_search(parts_->places, hash_of(full_name), {}, &Place::hash);
}

std::optional<OpenedRecord> OpenedMemory::recall(std::string_view full_name, uint64_t object_bytes) {
  Parts& p = *parts_;
  if (!p.file) return std::nullopt;
  if (auto found = p.find_next(full_name, object_bytes)) return std::move(found->record);
  const uint64_t hash = hash_of(full_name);
  auto place = std::ranges::lower_bound(p.places, hash, {}, &Place::hash);
  for (; place != p.places.end() && place->hash == hash; ++place) {
    auto found = p.at(place->chunk, place->at);
    if (!found || found->name != full_name || found->object_bytes != object_bytes) continue;
    p.was_asked(place->chunk, place->at, *found);
    return std::move(found->record);
  }
  return std::nullopt;
}

void OpenedMemory::remember(std::string_view full_name, uint64_t object_bytes, const OpenedRecord& record) {
  Parts& p = *parts_;
  ++p.fresh;
  // Where nothing can be written, nothing is tried twice.
  if (!p.failed) p.failed = !p.add(full_name, object_bytes, record);
}

Result<void> OpenedMemory::keep() {
  Parts& p = *parts_;
  if (p.failed || p.fresh < kOpenedWorthRecords) return {};
  p.failed = true;  // once
  return p.write();
}

}  // namespace kuramori
