#include "vault/chunk_run.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "crypto/aead.h"
#include "crypto/digest.h"
#include "vault/envelope.h"
#include "vault/names.h"
#include "vault/pack.h"
#include "vault/varint.h"

namespace kuramori {
namespace {

constexpr size_t kSealBytes = kXNonceBytes + kXTagBytes;
constexpr size_t kBlockSealedBytes = kChunkBlockPlainBytes + kSealBytes;
constexpr size_t kEntryBytesMax = ChunkId::kBytes + 5 + 3 + 4;  // pack, frame, offset as varints
constexpr size_t kTablePartBytes = size_t{1} << 20;             // plain; sealed one after the other
constexpr size_t kTailBytes = sizeof(uint64_t) + Digest::kBytes;
constexpr size_t kHeadBytesMax = 1024;
constexpr uint32_t kBlocksAtOnce = 256;  // read together where all are: 1 MiB
constexpr size_t kFenceBytes = sizeof(uint64_t);
constexpr size_t kFilterFrom = ChunkId::kBytes - 2 * kChunkFilterProbes;  // the id's last 14 bytes

// Blocks and parts of the table are numbered apart, and bound to the object they belong to.
Bytes binding(std::string_view context, const FamilyId& family, std::string_view name, uint64_t number) {
  Bytes ad = to_bytes(as_bytes(context));
  append(ad, family.view());
  append_le(ad, number);
  append(ad, as_bytes(name));
  return ad;
}
constexpr std::string_view kBlockContext = "kuramori chunk index 1";
constexpr std::string_view kTableContext = "kuramori chunk index table 1";

uint64_t fence_from(const ChunkId& id) {
  uint64_t fence = 0;
  for (size_t i = 0; i < kFenceBytes; ++i) fence = fence << 8 | id.raw[i];
  return fence;
}

// The id is an output of HMAC: its own bytes are as good as hashes of it. Those behind the fence are used,
// for within a block the first ones hardly differ.
template <class Visit>
void for_each_probe(const ChunkId& id, Visit&& visit) {
  for (size_t probe = 0; probe < kChunkFilterProbes; ++probe)
    visit(load_le<uint16_t>(id.raw.data() + kFilterFrom + 2 * probe) % (kChunkFilterBytes * 8));
}

void put_entry(Bytes& to, const ChunkEntry& entry) {
  append(to, entry.id.view());
  put_varint(to, entry.pack);
  put_varint(to, entry.frame);
  put_varint(to, entry.offset);
}

bool is_sane(const ChunkEntry& entry, size_t packs) {
  return entry.pack < packs && entry.frame < kPackFramesMax && entry.offset < kFramePlainBytesMax;
}

// The plain bytes of a block: count:2, the entries, zeros.
Result<std::vector<ChunkEntry>> parse_block(ByteView plain, size_t packs) {
  ByteReader reader(plain);
  TRY_ASSIGN(uint16_t count, reader.take_le<uint16_t>());
  std::vector<ChunkEntry> entries;
  entries.reserve(std::min<size_t>(count, plain.size() / ChunkId::kBytes));
  for (uint16_t i = 0; i < count; ++i) {
    ChunkEntry entry;
    TRY_ASSIGN(ByteView id, reader.take(ChunkId::kBytes));
    entry.id = *ChunkId::from_bytes(id);
    TRY_ASSIGN(entry.pack, take_varint_u32(reader));
    TRY_ASSIGN(entry.frame, take_varint_u32(reader));
    TRY_ASSIGN(entry.offset, take_varint_u32(reader));
    if (!is_sane(entry, packs)) return fail(ErrorKind::kDamaged, "an entry in it names an impossible place");
    if (!entries.empty() && !(entries.back().id < entry.id))
      return fail(ErrorKind::kDamaged, "its entries are not in order");
    entries.push_back(entry);
  }
  if (entries.empty()) return fail(ErrorKind::kDamaged, "a block in it is empty");
  TRY_ASSIGN(ByteView rest, reader.take(reader.left()));
  if (std::ranges::any_of(rest, [](uint8_t byte) { return byte != 0; }))
    return fail(ErrorKind::kDamaged, "a block in it has bytes too many");
  return entries;
}

// "packs/<xx>/<sid>-<n>" → <n>; nothing for other names and spellings.
std::optional<uint32_t> number_of(std::string_view pack, const SessionId& session) {
  uint64_t number = 0;
  const std::string_view digits = pack.substr(pack.rfind('-') + 1);
  if (digits.empty() || digits.size() > 10) return std::nullopt;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(c - '0');
  }
  if (number > UINT32_MAX || names::pack(session, static_cast<uint32_t>(number)) != pack) return std::nullopt;
  return static_cast<uint32_t>(number);
}

Error did_not_come_back(std::string_view name) {
  return fail(ErrorKind::kDamaged, fmt::format("{} did not come back when opened again", name),
              "a bit flipped in memory or the processor erred; nothing was committed",
              "run the backup again");
}

}  // namespace

// --- writing ---------------------------------------------------------------------------------------------

struct ChunkRunWriter::State {
  const KeyBundle& keys;
  Random& random;
  std::string name;
  Secret key;
  std::unique_ptr<ObjectWriter> object;
  Sha256 checked, whole;  // of all before the checksum, and with it
  uint64_t size = 0;

  std::vector<SessionId> sessions;
  std::unordered_map<SessionId, uint32_t> session_numbers;
  std::vector<std::pair<uint32_t, uint32_t>> packs;  // session and number
  std::unordered_map<std::string, uint32_t> pack_numbers;

  Bytes block;                      // the plain bytes being filled; the count comes last
  std::vector<ChunkEntry> pending;  // what they say
  std::optional<ChunkId> before;
  uint64_t entries = 0;
  Bytes fences_and_filters;  // as the table has them
  uint64_t blocks = 0;
  PipelineFaults* faults = nullptr;

  Result<void> put(ByteView bytes) {
    checked.add(bytes);
    whole.add(bytes);
    size += bytes.size();
    return object->append(bytes);
  }

  // Hashed first and opened again then: what is compared is what was hashed.
  Result<void> put_sealed(ByteView additional, ByteView plain) {
    Bytes sealed = xseal(key, additional, plain, random);
    if (faults != nullptr && faults->after_seal) faults->after_seal(sealed);
    TRY(put(sealed));
    auto opened = xopen(key, additional, sealed);
    if (!opened || !equal(*opened, plain)) return did_not_come_back(name);
    return {};
  }

  Result<void> end_block() {
    if (pending.empty()) return {};
    store_le(block.data(), static_cast<uint16_t>(pending.size()));
    block.resize(kChunkBlockPlainBytes);
    if (faults != nullptr && faults->after_filter) faults->after_filter(block);
    const auto back = parse_block(block, packs.size());
    if (!back || *back != pending) return did_not_come_back(name);
    TRY(put_sealed(binding(kBlockContext, keys.family, name, blocks), block));
    const size_t at = fences_and_filters.size();
    fences_and_filters.resize(at + kFenceBytes + kChunkFilterBytes);
    std::copy_n(pending.front().id.raw.begin(), kFenceBytes,
                fences_and_filters.begin() + static_cast<long>(at));
    uint8_t* filter = fences_and_filters.data() + at + kFenceBytes;
    for (const ChunkEntry& entry : pending) {
      for_each_probe(entry.id, [&](size_t bit) { filter[bit / 8] |= static_cast<uint8_t>(1u << bit % 8); });
    }
    ++blocks;
    entries += pending.size();
    pending.clear();
    block.assign(sizeof(uint16_t), 0);
    return {};
  }
};

ChunkRunWriter::ChunkRunWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
ChunkRunWriter::~ChunkRunWriter() = default;

Result<std::unique_ptr<ChunkRunWriter>> ChunkRunWriter::create(Store& store, const KeyBundle& keys,
                                                               Random& random, std::string name,
                                                               const ResourceId& scope) {
  std::unique_ptr<State> s(
      new State{.keys = keys, .random = random, .name = std::move(name), .key = structure_key(keys, scope)});
  TRY_ASSIGN(s->object, store.create(s->name));
  s->block.assign(sizeof(uint16_t), 0);
  TRY(s->put(envelope_head(RecordType::kChunkRun, kSealed, s->name, scope)));
  return std::unique_ptr<ChunkRunWriter>(new ChunkRunWriter(std::move(s)));
}

Result<uint32_t> ChunkRunWriter::pack(std::string_view name) {
  State& s = *state_;
  std::string key(name);
  if (const auto known = s.pack_numbers.find(key); known != s.pack_numbers.end()) return known->second;
  const auto session = names::owner_of(name);
  const auto number = session ? number_of(name, *session) : std::nullopt;
  if (!number) return fail(ErrorKind::kFailed, fmt::format("{} is not the name of a pack", name));
  const auto [at, fresh] = s.session_numbers.try_emplace(*session, static_cast<uint32_t>(s.sessions.size()));
  if (fresh) s.sessions.push_back(*session);
  const auto pack = static_cast<uint32_t>(s.packs.size());
  s.packs.emplace_back(at->second, *number);
  s.pack_numbers.emplace(std::move(key), pack);
  return pack;
}

Result<void> ChunkRunWriter::add(const ChunkEntry& entry) {
  State& s = *state_;
  CHECK(is_sane(entry, s.packs.size()));
  CHECK(!s.before || *s.before < entry.id);
  s.before = entry.id;
  if (s.block.size() + kEntryBytesMax > kChunkBlockPlainBytes) TRY(s.end_block());
  put_entry(s.block, entry);
  s.pending.push_back(entry);
  return {};
}

void ChunkRunWriter::provoke(PipelineFaults* faults) {
  state_->faults = faults;
}

uint64_t ChunkRunWriter::entries() const {
  return state_->entries + state_->pending.size();
}

Result<ObjectRef> ChunkRunWriter::finish() {
  State& s = *state_;
  TRY(s.end_block());
  CHECK(s.entries > 0);
  Bytes table;
  put_varint(table, s.sessions.size());
  for (const SessionId& session : s.sessions) append(table, session.view());
  put_varint(table, s.packs.size());
  for (const auto& [session, number] : s.packs) {
    put_varint(table, session);
    put_varint(table, number);
  }
  put_varint(table, s.entries);
  put_varint(table, s.blocks);
  const uint64_t table_at = s.size;
  uint64_t part = 0;
  const auto put_parts = [&](ByteView rest) -> Result<void> {
    for (; !rest.empty(); rest = rest.subspan(std::min(rest.size(), kTablePartBytes))) {
      const ByteView plain = rest.first(std::min(rest.size(), kTablePartBytes));
      Bytes length;
      append_le(length, static_cast<uint32_t>(plain.size() + kSealBytes));
      TRY(s.put(length));
      TRY(s.put_sealed(binding(kTableContext, s.keys.family, s.name, part++), plain));
    }
    return {};
  };
  TRY(put_parts(table));
  TRY(put_parts(s.fences_and_filters));
  Bytes tail;
  append_le(tail, table_at);
  TRY(s.put(tail));
  const Digest checksum = s.checked.finish();
  s.whole.add(checksum.view());
  s.size += Digest::kBytes;
  TRY(s.object->append(checksum.view()));
  TRY(s.object->commit());
  return ObjectRef{.name = s.name, .size = s.size, .digest = s.whole.finish()};
}

// --- reading ---------------------------------------------------------------------------------------------

Error ChunkRun::damaged(std::string_view why) const {
  return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: {}", name_, why));
}

Result<ChunkRun> ChunkRun::open(const ReadAt& read, uint64_t object_bytes, const KeyBundle& keys,
                                const std::string& name) {
  ChunkRun run;
  run.name_ = name;
  run.family_ = keys.family;
  TRY(run.read_head(read, object_bytes, keys));
  Bytes tail(sizeof(uint64_t));
  TRY(read(object_bytes - kTailBytes, tail));
  const uint64_t table_at = load_le<uint64_t>(tail.data());
  const uint64_t table_end = object_bytes - kTailBytes;
  if (table_at < run.blocks_at_ || table_at > table_end ||
      (table_at - run.blocks_at_) % kBlockSealedBytes != 0)
    return run.damaged("its blocks do not end where its table begins");
  run.fences_.resize((table_at - run.blocks_at_) / kBlockSealedBytes);
  if (run.fences_.empty()) return run.damaged("it has no entries");
  TRY(run.read_table(read, table_at, table_end));
  return run;
}

Result<void> ChunkRun::read_head(const ReadAt& read, uint64_t object_bytes, const KeyBundle& keys) {
  if (object_bytes < kTailBytes) return damaged("truncated");
  Bytes bytes(std::min<uint64_t>(object_bytes, kHeadBytesMax));
  TRY(read(0, bytes));
  ByteReader head(bytes);
  auto fixed = head.take(10);
  if (!fixed || !is_chunk_run(*fixed)) return damaged("it is not a run of the chunk index");
  if ((*fixed)[5] != kFormatVersion) {
    return fail(ErrorKind::kRefused, fmt::format("{} has format version {}", name_, (*fixed)[5]),
                fmt::format("this program knows version {}", kFormatVersion),
                "use a newer kuramori to read this vault");
  }
  if (load_le<uint16_t>(fixed->data() + 6) != kSealed) return damaged("its flags are not those of a run");
  auto stored_name = head.take(load_le<uint16_t>(fixed->data() + 8));
  if (!stored_name) return damaged("truncated in its head");
  if (as_text(*stored_name) != name_)
    return damaged(fmt::format("it is {}, put here under another name", as_text(*stored_name)));
  auto scope_size = head.take_le<uint8_t>();
  if (!scope_size || *scope_size != ResourceId::kBytes) return damaged("it belongs to no resource");
  auto scope = head.take(ResourceId::kBytes);
  if (!scope) return damaged("truncated in its head");
  blocks_at_ = bytes.size() - head.left();
  if (object_bytes - blocks_at_ < kTailBytes) return damaged("truncated");
  key_ = structure_key(keys, *ResourceId::from_bytes(*scope));
  return {};
}

Result<void> ChunkRun::read_table(const ReadAt& read, uint64_t from, uint64_t to) {
  Bytes table, sealed, plain;
  for (uint64_t part = 0; from < to; ++part) {
    Bytes length(sizeof(uint32_t));
    if (to - from < length.size()) return damaged("truncated in its table");
    TRY(read(from, length));
    from += length.size();
    const uint32_t bytes = load_le<uint32_t>(length.data());
    if (bytes > to - from || bytes > kTablePartBytes + kSealBytes) return damaged("truncated in its table");
    sealed.resize(bytes);
    TRY(read(from, sealed));
    from += bytes;
    if (!xopen_into(key_, binding(kTableContext, family_, name_, part), sealed, plain))
      return damaged("its table was not sealed with this vault's keys");
    append(table, plain);
  }
  const auto parsed = [&]() -> Result<void> {
    ByteReader fields(table);
    TRY_ASSIGN(uint64_t sessions, take_varint(fields));
    if (sessions > fields.left() / SessionId::kBytes)
      return fail(ErrorKind::kDamaged, "it names too many sessions");
    for (uint64_t i = 0; i < sessions; ++i) {
      TRY_ASSIGN(ByteView session, fields.take(SessionId::kBytes));
      sessions_.push_back(*SessionId::from_bytes(session));
    }
    TRY_ASSIGN(uint64_t packs, take_varint(fields));
    if (packs > fields.left() / 2) return fail(ErrorKind::kDamaged, "it names too many packs");
    packs_.reserve(packs);
    for (uint64_t i = 0; i < packs; ++i) {
      PackNumber pack;
      TRY_ASSIGN(pack.session, take_varint_u32(fields));
      TRY_ASSIGN(pack.number, take_varint_u32(fields));
      if (pack.session >= sessions_.size())
        return fail(ErrorKind::kDamaged, "a pack in it is of a session that is not listed");
      packs_.push_back(pack);
    }
    TRY_ASSIGN(entries_, take_varint(fields));
    TRY_ASSIGN(uint64_t blocks, take_varint(fields));
    if (blocks != fences_.size() || fields.left() != blocks * (kFenceBytes + kChunkFilterBytes))
      return fail(ErrorKind::kDamaged, "its table is not that of its blocks");
    filters_.reserve(blocks * kChunkFilterBytes);
    for (uint64_t& fence : fences_) {
      TRY_ASSIGN(ByteView bytes, fields.take(kFenceBytes));
      fence = 0;
      for (const uint8_t byte : bytes) fence = fence << 8 | byte;
      TRY_ASSIGN(ByteView filter, fields.take(kChunkFilterBytes));
      append(filters_, filter);
    }
    if (!std::ranges::is_sorted(fences_)) return fail(ErrorKind::kDamaged, "its fences are not in order");
    return {};
  }();
  if (!parsed) return damaged(parsed.error().what);
  return {};
}

std::string ChunkRun::pack_name(uint32_t pack) const {
  return names::pack(sessions_[packs_[pack].session], packs_[pack].number);
}

std::optional<uint32_t> ChunkRun::last_block_for(const ChunkId& id) const {
  const auto behind = std::ranges::upper_bound(fences_, fence_from(id));
  if (behind == fences_.begin()) return std::nullopt;
  return static_cast<uint32_t>(behind - fences_.begin() - 1);
}

bool ChunkRun::may_be_in(uint32_t block, const ChunkId& id) const {
  const uint8_t* filter = filters_.data() + size_t{block} * kChunkFilterBytes;
  bool all = true;
  for_each_probe(id, [&](size_t bit) { all = all && (filter[bit / 8] >> bit % 8 & 1) != 0; });
  return all;
}

bool ChunkRun::goes_on_before(uint32_t block, const ChunkId& id) const {
  return block > 0 && fences_[block] == fence_from(id);
}

uint64_t ChunkRun::offset_of(uint32_t block) const {
  return blocks_at_ + uint64_t{block} * kBlockSealedBytes;
}

Result<std::vector<ChunkEntry>> ChunkRun::read_block(const ReadAt& read, uint32_t block) const {
  CHECK(block < fences_.size());
  Bytes sealed(kBlockSealedBytes), plain;
  TRY(read(offset_of(block), sealed));
  if (!xopen_into(key_, binding(kBlockContext, family_, name_, block), sealed, plain))
    return damaged("a block was not sealed with this vault's keys");
  auto entries = parse_block(plain, packs_.size());
  if (!entries) return damaged(entries.error().what);
  if (fence_from(entries->front().id) != fences_[block])
    return damaged("a block does not begin as its table says");
  return entries;
}

size_t ChunkRun::memory_bytes() const {
  return sessions_.capacity() * sizeof(SessionId) + packs_.capacity() * sizeof(PackNumber) +
         fences_.capacity() * sizeof(uint64_t) + filters_.capacity();
}

bool is_chunk_run(ByteView object) {
  return object.size() > 4 && as_text(object.first(4)) == "KMRI" &&
         object[4] == static_cast<uint8_t>(RecordType::kChunkRun);
}

Result<Digest> check_chunk_run(const ChunkRun::ReadAt& read, uint64_t object_bytes, const KeyBundle& keys,
                               const std::string& name) {
  const auto damaged = [&](std::string_view why) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: {}", name, why));
  };
  TRY_ASSIGN(const ChunkRun run, ChunkRun::open(read, object_bytes, keys, name));
  Sha256 before_checksum, whole;
  const uint64_t checksum_at = object_bytes - Digest::kBytes;
  Bytes piece;
  const auto pass = [&](uint64_t from, uint64_t to) -> Result<void> {
    piece.resize(to - from);
    TRY(read(from, piece));
    whole.add(piece);
    before_checksum.add(ByteView(piece).first(std::min(to, checksum_at) - std::min(from, checksum_at)));
    return {};
  };

  TRY(pass(0, run.offset_of(0)));
  uint64_t entries = 0;
  std::optional<ChunkId> last;
  const auto check_block = [&](uint32_t block, uint64_t piece_at) -> Result<void> {
    const ChunkRun::ReadAt from_piece = [&](uint64_t offset, MutableByteView out) -> Result<void> {
      std::ranges::copy(ByteView(piece).subspan(offset - piece_at, out.size()), out.begin());
      return {};
    };
    TRY_ASSIGN(const auto found, run.read_block(from_piece, block));
    if (last && !(*last < found.front().id)) return damaged("its blocks are not in order");
    last = found.back().id;
    entries += found.size();
    if (!std::ranges::all_of(found, [&](const ChunkEntry& e) { return run.may_be_in(block, e.id); }))
      return damaged("a filter does not know what its block holds");
    return {};
  };
  for (uint32_t block = 0; block < run.blocks();) {
    const uint32_t end = std::min(run.blocks(), block + kBlocksAtOnce);
    const uint64_t piece_at = run.offset_of(block);
    TRY(pass(piece_at, run.offset_of(end)));
    for (; block < end; ++block) TRY(check_block(block, piece_at));
  }
  for (uint64_t at = run.offset_of(run.blocks()); at < object_bytes; at += piece.size())
    TRY(pass(at, std::min<uint64_t>(object_bytes, at + kTablePartBytes)));
  if (entries != run.entries()) return damaged("it does not have as many entries as it says");

  Bytes checksum(Digest::kBytes);
  TRY(read(checksum_at, checksum));
  if (!equal(before_checksum.finish().view(), checksum)) return damaged("its checksum does not fit");
  return whole.finish();
}

Result<void> check_chunk_run(ByteView object, const KeyBundle& keys, const std::string& name) {
  const ChunkRun::ReadAt read = [&](uint64_t offset, MutableByteView out) -> Result<void> {
    if (offset > object.size() || out.size() > object.size() - offset)
      return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: truncated", name));
    std::ranges::copy(object.subspan(offset, out.size()), out.begin());
    return {};
  };
  TRY(check_chunk_run(read, object.size(), keys, name));
  return {};
}

}  // namespace kuramori
