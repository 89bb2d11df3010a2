#include "vault/pack.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "conc/guarded.h"
#include "crypto/digest.h"
#include "os/file.h"
#include "vault/checked_reader.h"
#include "vault/names.h"
#include "vault/older_versions.h"
#include "vault/thin_pack.h"
#include "vault/wire.h"

namespace kuramori {
namespace {

constexpr std::string_view kTrailerMagic = "KMPT";
constexpr std::string_view kFooterMagic = "KMPE";
constexpr size_t kFooterBytes = 24;  // trailer_bytes:u32 frames_end:u64 check:8 "KMPE"
constexpr uint32_t kTrailerBytesMax = 64u << 20;
constexpr size_t kReadAheadBytes = 4u << 20;  // of consecutive frames fetched with one read
constexpr size_t kHeadBytesMax = 4096;

std::array<uint8_t, 16> origin_of(std::string_view name) {
  Digest digest = sha256(as_bytes(name));
  std::array<uint8_t, 16> origin;
  std::copy_n(digest.raw.begin(), origin.size(), origin.begin());
  return origin;
}

// What a frame is bound to: it cannot be moved within a pack, swapped with another pack's or another
// family's, or taken for another type; but it can be carried to another vault verbatim.
std::array<uint8_t, 42> frame_binding(const FamilyId& family, const std::array<uint8_t, 16>& origin,
                                      uint32_t ordinal, FrameType type, FrameCodec codec,
                                      uint32_t plain_bytes) {
  std::array<uint8_t, 42> ad;
  std::copy(family.raw.begin(), family.raw.end(), ad.begin());
  std::copy(origin.begin(), origin.end(), ad.begin() + 16);
  store_le(ad.data() + 32, ordinal);
  ad[36] = static_cast<uint8_t>(type);
  ad[37] = static_cast<uint8_t>(codec);
  store_le(ad.data() + 38, plain_bytes);
  return ad;
}

PageFilter filter_of(FrameCodec codec) {
  return static_cast<PageFilter>(static_cast<uint8_t>(codec) >> 4);
}

bool is_known(FrameCodec codec) {
  return codec == FrameCodec::kStored || codec == FrameCodec::kZstd || codec == FrameCodec::kTuplesZstd ||
         codec == FrameCodec::kColumnsZstd;
}

Digest commitment_of(const Secret& key) {
  return hmac_sha256(key.view(), as_bytes("kuramori pack key commitment 1"));
}

// A key that is fresh even where the machine was cloned or its random source rolled back (V19): kernel
// randomness, mixed with who and when we are.
Secret fresh_pack_key(const KeyBundle& keys, Random& random, Clock& clock, std::string_view name) {
  Secret seed = Secret::random(32, random);
  Bytes info = to_bytes(as_bytes("kuramori pack key 1"));
  append(info, as_bytes(name));
  if (auto boot = read_file("/proc/sys/kernel/random/boot_id", 64)) append(info, *boot);
  append_le<int64_t>(info, to_unix_ns(clock.now()));
  append_le<int64_t>(info, clock.steady().count());
  return hkdf_sha256(seed.view(), keys.family.view(), info);
}

Bytes directory_binding(const FamilyId& family, std::string_view name) {
  Bytes ad = to_bytes(as_bytes("kuramori pack directory 1"));
  append(ad, family.view());
  append(ad, as_bytes(name));
  return ad;
}

Bytes signature_binding(const FamilyId& family, std::string_view name, ByteView part) {
  Bytes bytes = to_bytes(as_bytes("kuramori pack signature 1"));
  append(bytes, family.view());
  append(bytes, as_bytes(name));
  append(bytes, part);
  return bytes;
}

Bytes encode_directory(const std::vector<FrameEntry>& frames, const WalHeader* wal, const Digest& head) {
  std::vector<uint32_t> stored, plain, kinds;
  for (const FrameEntry& frame : frames) {
    stored.push_back(frame.stored_bytes);
    plain.push_back(frame.plain_bytes);
    kinds.push_back(static_cast<uint32_t>(frame.type) << 8 | static_cast<uint32_t>(frame.codec));
  }
  std::string text;
  protozero::pbf_writer w(text);
  w.add_packed_uint32(1, stored.begin(), stored.end());
  w.add_packed_uint32(2, plain.begin(), plain.end());
  w.add_packed_uint32(3, kinds.begin(), kinds.end());
  if (wal != nullptr) {
    protozero::pbf_writer h(w, 4);
    h.add_fixed64(1, wal->system_id);
    h.add_uint64(2, wal->timeline);
    h.add_uint64(3, wal->from);
    h.add_uint64(4, wal->to);
    h.add_uint64(5, wal->segment_bytes);
    h.add_bytes(6, wal->file.data(), wal->file.size());
    h.add_uint64(7, wal->plain_bytes);
    h.add_bytes(8, as_text(wal->digest.view()).data(), Digest::kBytes);
    h.add_sint64(9, wal->stored_ns);
  }
  w.add_bytes(5, as_text(head.view()).data(), Digest::kBytes);
  if (wal != nullptr && wal->changes) w.add_bytes(6, as_text(*wal->changes).data(), wal->changes->size());
  return to_bytes(as_bytes(text));
}

struct Directory {
  std::vector<FrameEntry> frames;
  std::optional<WalHeader> wal;
  // Of the head, and so of the pack's key: without it, whoever can write to the store could put a head and
  // frames of his own — sealed to the same reader, as anybody can — under a trailer that a commit binds.
  Digest head;
};

Result<Directory> decode_directory(ByteView body, uint64_t frames_begin, uint64_t frames_end) {
  Directory directory;
  std::optional<Bytes> changes;
  std::vector<uint32_t> stored, plain, kinds;
  try {
    protozero::pbf_reader r(reinterpret_cast<const char*>(body.data()), body.size());
    auto numbers = [&](std::vector<uint32_t>& into) {
      auto range = r.get_packed_uint32();
      into.assign(range.begin(), range.end());
    };
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          numbers(stored);
          break;
        case 2:
          numbers(plain);
          break;
        case 3:
          numbers(kinds);
          break;
        case 4: {
          WalHeader& wal = directory.wal.emplace();
          protozero::pbf_reader h = r.get_message();
          while (h.next()) {
            switch (h.tag()) {
              case 1:
                wal.system_id = h.get_fixed64();
                break;
              case 2:
                wal.timeline = static_cast<uint32_t>(h.get_uint64());
                break;
              case 3:
                wal.from = h.get_uint64();
                break;
              case 4:
                wal.to = h.get_uint64();
                break;
              case 5:
                wal.segment_bytes = static_cast<uint32_t>(h.get_uint64());
                break;
              case 6:
                wal.file = h.get_string();
                break;
              case 7:
                wal.plain_bytes = h.get_uint64();
                break;
              case 8: {
                auto view = h.get_view();
                if (view.size() != Digest::kBytes) throw protozero::invalid_length_exception();
                std::memcpy(wal.digest.raw.data(), view.data(), view.size());
                break;
              }
              case 9:
                wal.stored_ns = h.get_sint64();
                break;
              default:
                h.skip();
            }
          }
          break;
        }
        case 5: {
          auto view = r.get_view();
          if (view.size() != Digest::kBytes) throw protozero::invalid_length_exception();
          std::memcpy(directory.head.raw.data(), view.data(), view.size());
          break;
        }
        case 6: {
          auto view = r.get_view();
          if (view.size() <= kWalChangesBytesMax)
            changes = to_bytes(as_bytes(std::string_view(view.data(), view.size())));
          break;
        }
        default:
          r.skip();
      }
    }
  } catch (const std::exception& error) {
    return fail(ErrorKind::kDamaged, fmt::format("its directory cannot be read: {}", error.what()));
  }
  if (directory.wal) directory.wal->changes = std::move(changes);
  if (stored.size() != plain.size() || stored.size() != kinds.size() || stored.size() > kPackFramesMax) {
    return fail(ErrorKind::kDamaged, "its directory contradicts itself");
  }
  uint64_t offset = frames_begin;
  for (size_t i = 0; i < stored.size(); ++i) {
    if (stored[i] < kGcmTagBytes || plain[i] > kFramePlainBytesMax || stored[i] > frames_end - offset) {
      return fail(ErrorKind::kDamaged, fmt::format("its directory has an impossible frame {}", i));
    }
    const auto codec = static_cast<FrameCodec>(kinds[i] & 0xff);
    if (is_known(codec) && filter_of(codec) != PageFilter::kNone && plain[i] % kFilteredPageBytes != 0) {
      return fail(ErrorKind::kDamaged, fmt::format("its directory has a page frame {} of no whole pages", i));
    }
    directory.frames.push_back({offset, stored[i], plain[i], static_cast<FrameType>(kinds[i] >> 8), codec});
    offset += stored[i];
  }
  if (offset != frames_end) return fail(ErrorKind::kDamaged, "its directory does not cover its frames");
  return directory;
}

// "KMPT" version:u8 flags:u8 0:u16 frames_end:u64 dir_len:u32 directory stripe_bytes:u32 stripes:u32 sha256[]
// [signer:16 signature:64] sha256:32
struct Trailer {
  uint64_t frames_end = 0;
  ByteView directory;
  std::vector<Digest> stripes;
  bool is_signed = false;
  SignerId signer;
  Signature signature;
  ByteView signed_part;
};

Result<Trailer> parse_trailer(ByteView bytes) {
  auto damaged = [](std::string_view why) {
    return fail(ErrorKind::kDamaged, std::string("its trailer ") + std::string(why));
  };
  if (bytes.size() < Digest::kBytes ||
      !equal(sha256(bytes.first(bytes.size() - Digest::kBytes)).view(), bytes.last(Digest::kBytes))) {
    return damaged("does not fit its checksum");
  }
  ByteReader r(bytes.first(bytes.size() - Digest::kBytes));
  TRY_ASSIGN(ByteView magic, r.take(4));
  if (as_text(magic) != kTrailerMagic) return damaged("is not one");
  TRY_ASSIGN(uint8_t version, r.take_le<uint8_t>());
  if (version != kFormatVersion) {
    return fail(ErrorKind::kRefused, fmt::format("its trailer has format version {}", version),
                fmt::format("this program knows version {}", kFormatVersion),
                "use a newer kuramori to read this vault");
  }
  Trailer t;
  TRY_ASSIGN(uint8_t flags, r.take_le<uint8_t>());
  TRY(r.take(2));
  TRY_ASSIGN(t.frames_end, r.take_le<uint64_t>());
  TRY_ASSIGN(uint32_t directory_bytes, r.take_le<uint32_t>());
  TRY_ASSIGN(t.directory, r.take(directory_bytes));
  TRY_ASSIGN(uint32_t stripe_bytes, r.take_le<uint32_t>());
  TRY_ASSIGN(uint32_t stripes, r.take_le<uint32_t>());
  if (stripe_bytes != kStripeBytes || stripes != (t.frames_end + kStripeBytes - 1) / kStripeBytes) {
    return damaged("has stripes that do not cover the pack");
  }
  for (uint32_t i = 0; i < stripes; ++i) {
    TRY_ASSIGN(ByteView raw, r.take(Digest::kBytes));
    t.stripes.push_back(*Digest::from_bytes(raw));
  }
  t.signed_part = bytes.first(bytes.size() - Digest::kBytes - r.left());
  t.is_signed = flags & 1;
  if (t.is_signed) {
    TRY_ASSIGN(ByteView signer, r.take(SignerId::kBytes));
    TRY_ASSIGN(ByteView signature, r.take(Signature::kBytes));
    t.signer = *SignerId::from_bytes(signer);
    t.signature = *Signature::from_bytes(signature);
  }
  if (r.left() != 0) return damaged("has bytes too many");
  return t;
}

// The trailer's bytes (the first copy that is whole) and its place.
struct FoundTrailer {
  Bytes bytes;
  Trailer parsed;
  uint64_t object_bytes = 0;
};

Result<Bytes> read_at(ObjectReader& object, uint64_t offset, uint64_t size) {
  Bytes bytes(size);
  TRY(object.read(offset, bytes));
  return bytes;
}

Bytes make_footer(uint32_t trailer_bytes, uint64_t frames_end) {
  Bytes footer;
  append_le(footer, trailer_bytes);
  append_le(footer, frames_end);
  Digest check = sha256(footer);
  append(footer, check.view().first(8));
  append(footer, as_bytes(kFooterMagic));
  return footer;
}

// What stands under a pack's name, as the whole pack: of another size than its snapshot says it may be a thin
// one, which must hold every frame that is expected.
Result<std::unique_ptr<ObjectReader>> see_whole(std::unique_ptr<ObjectReader> object, std::string_view name,
                                                const LivePack* expected, ThinPack** thin = nullptr) {
  if (expected == nullptr || object->size() == expected->size) return object;
  auto sized = fmt::format("it has {} bytes, its snapshot says {}", object->size(), expected->size);
  auto opened = ThinPack::open(std::move(object), name);
  if (!opened && opened.error().kind != ErrorKind::kDamaged) return std::move(opened).error();
  if (!opened) return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: {}", name, sized));
  if (!covers((*opened)->table().frames, normal_ranges(expected->frames)))
    return fail(ErrorKind::kDamaged,
                fmt::format("{} is a thin pack without all frames that are needed", name));
  if (thin != nullptr) *thin = opened->get();
  return std::unique_ptr<ObjectReader>(std::move(*opened));
}

// The same where no snapshot says how large it is: a thin pack stands until a collection finds that nothing
// needs it any more. Its end tells.
Result<std::unique_ptr<ObjectReader>> see_unneeded(std::unique_ptr<ObjectReader> object,
                                                   std::string_view name, ThinPack** thin) {
  TRY_ASSIGN(const bool is_thin, ThinPack::ends_as_one(*object));
  if (!is_thin) return object;
  TRY_ASSIGN(auto opened, ThinPack::open(std::move(object), name));
  *thin = opened.get();
  return std::unique_ptr<ObjectReader>(std::move(opened));
}

Result<FoundTrailer> find_trailer(ObjectReader& object, std::string_view name, const LivePack* expected) {
  auto damaged = [&](std::string_view why) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: {}", name, why));
  };
  FoundTrailer found;
  found.object_bytes = object.size();
  uint32_t size = 0;
  if (expected != nullptr) {
    if (expected->size != object.size()) {
      return damaged(fmt::format("it has {} bytes, its snapshot says {}", object.size(), expected->size));
    }
    size = expected->trailer_bytes;
  } else {
    if (object.size() < kFooterBytes) return damaged("truncated");
    TRY_ASSIGN(Bytes footer, read_at(object, object.size() - kFooterBytes, kFooterBytes));
    size = load_le<uint32_t>(footer.data());
    if (!equal(footer, make_footer(size, load_le<uint64_t>(footer.data() + 4))))
      return damaged("its footer is not whole");
  }
  if (size > kTrailerBytesMax || 2ull * size + kFooterBytes > object.size())
    return damaged("its trailer has an impossible size");
  Error first_error;
  for (int copy = 1; copy <= 2; ++copy) {
    auto bytes = read_at(object, object.size() - kFooterBytes - static_cast<uint64_t>(copy) * size, size);
    if (!bytes) return std::move(bytes.error()).within(name);
    auto parsed = parse_trailer(*bytes);
    // One of a later format has the digest that its snapshot binds: what claims to be one and has not is no
    // pack.
    const bool may_be_bound = parsed || parsed.error().kind == ErrorKind::kRefused;
    if (may_be_bound && expected != nullptr && sha256(*bytes) != expected->trailer_digest) {
      parsed = fail(ErrorKind::kDamaged, "it is whole, but not the pack that the snapshot was made of");
    }
    if (parsed && parsed->frames_end != object.size() - kFooterBytes - 2ull * size) {
      parsed = fail(ErrorKind::kDamaged, "its trailer belongs to a pack of another size");
    }
    if (parsed) {
      found.bytes = std::move(*bytes);
      found.parsed = *parse_trailer(found.bytes);  // its views point into the kept bytes
      return found;
    }
    if (copy == 1) first_error = parsed.error();
  }
  return std::move(first_error).within(fmt::format("{} is damaged", name));
}

}  // namespace

struct PackWriter::State {
  const KeyBundle& keys;
  Random& random;
  std::string name;
  ResourceId scope;
  std::array<uint8_t, 16> origin;
  std::unique_ptr<ObjectWriter> object;
  Digest head;
  std::optional<FrameCipher> cipher;
  std::vector<FrameEntry> frames;
  uint64_t offset = 0;
  Sha256 stripe;
  uint32_t in_stripe = 0;
  std::vector<Digest> stripes;
  bool dead = false;

  Result<void> append_checked(ByteView bytes) {
    TRY(object->append(bytes));
    offset += bytes.size();
    while (!bytes.empty()) {
      size_t part = std::min<size_t>(bytes.size(), kStripeBytes - in_stripe);
      stripe.add(bytes.first(part));
      in_stripe += part;
      bytes = bytes.subspan(part);
      if (in_stripe == kStripeBytes) close_stripe();
    }
    return {};
  }
  void close_stripe() {
    if (in_stripe == 0) return;
    stripes.push_back(stripe.finish());
    in_stripe = 0;
  }
};

PackWriter::PackWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
PackWriter::~PackWriter() = default;
uint64_t PackWriter::bytes() const {
  return state_->offset;
}
uint32_t PackWriter::frames() const {
  return static_cast<uint32_t>(state_->frames.size());
}

Result<std::unique_ptr<PackWriter>> PackWriter::create(Store& store, const KeyBundle& keys, Random& random,
                                                       Clock& clock, const std::string& name,
                                                       const ResourceId& scope) {
  TRY_ASSIGN(auto object, store.create(name));
  auto state = std::make_unique<State>(State{.keys = keys,
                                             .random = random,
                                             .name = name,
                                             .scope = scope,
                                             .origin = origin_of(name),
                                             .object = std::move(object)});
  Secret key = fresh_pack_key(keys, random, clock, name);
  // The sealed box holds the key and what it is for: a box moved to another pack or family does not open it.
  Secret boxed(key.size() + FamilyId::kBytes + state->origin.size());
  std::memcpy(boxed.fill().data(), key.view().data(), key.size());
  std::memcpy(boxed.fill().data() + key.size(), keys.family.raw.data(), FamilyId::kBytes);
  std::memcpy(boxed.fill().data() + key.size() + FamilyId::kBytes, state->origin.data(),
              state->origin.size());
  Bytes body = to_bytes(commitment_of(key).view());
  append(body, seal_to(keys.reader_public, boxed.view()));
  Bytes head = envelope_head(RecordType::kPack, 0, name, scope);
  append_le<uint32_t>(head, static_cast<uint32_t>(body.size()));
  append(head, body);
  append(head, sha256(head).view());
  state->head = sha256(head);
  state->cipher.emplace(key);
  TRY(state->append_checked(head));
  return std::unique_ptr<PackWriter>(new PackWriter(std::move(state)));
}

namespace {

Error did_not_come_back(std::string_view step) {
  return fail(ErrorKind::kDamaged, fmt::format("a frame did not come back when it was {}", step),
              "a bit flipped in memory or the processor erred; the pack is abandoned, nothing was committed",
              "run it again; if this repeats, test the machine's memory");
}

// By a skippable frame, which any zstd passes over (RFC 8878, 3.1.2).
void fill_up(Bytes& compressed) {
  constexpr size_t kSkippableHead = 2 * sizeof(uint32_t);
  constexpr uint32_t kSkippableMagic = 0x184D2A50;
  size_t size = rounded_up(compressed.size());
  if (size == compressed.size()) return;
  while (size - compressed.size() < kSkippableHead) size = rounded_up(size + 1);
  const size_t zeros = size - compressed.size() - kSkippableHead;
  append_le(compressed, kSkippableMagic);
  append_le(compressed, static_cast<uint32_t>(zeros));
  compressed.resize(size);
}

struct Compressed {
  FrameCodec codec;
  ByteView stored;  // the workshop's, or the plain bytes themselves
};

// Opened again and compared before anything refers to it: a flipped bit in memory or a broken codec shows
// here and not at the restore (V9, V10). The other half, that what was sealed opens to the same bytes, is
// PackWriter::seal's.
Result<Compressed> compress_frame(FrameType type, ByteView plain, FrameWorkshop& w,
                                  FrameSize size = FrameSize::kExact) {
  FrameCodec codec = FrameCodec::kZstd;
  ByteView to_compress = plain;
  if (type == FrameType::kPages) {
    codec = FrameCodec::kColumnsZstd;
    w.filtered.assign(plain.begin(), plain.end());
    filter_pages(w.filtered, filter_of(codec));
    if (w.faults && w.faults->after_filter) w.faults->after_filter(w.filtered);
    to_compress = w.filtered;
  }
  w.compressed.clear();
  w.compressor.compress(to_compress, w.compressed);
  if (size == FrameSize::kRounded && !(w.faults && w.faults->rounds_plain_alone)) fill_up(w.compressed);
  if (w.faults && w.faults->after_compress) w.faults->after_compress(w.compressed);
  if (w.compressed.size() >= plain.size()) return Compressed{FrameCodec::kStored, plain};
  w.opened.resize(plain.size());
  if (!w.decompressor.decompress(w.compressed, w.opened)) return did_not_come_back("decompressed again");
  unfilter_pages(w.opened, filter_of(codec));
  if (!equal(w.opened, plain)) return did_not_come_back("compared");
  return Compressed{codec, w.compressed};
}

}  // namespace

size_t rounded_up(size_t bytes) {
  if (bytes < 2) return bytes;
  const int exponent = std::bit_width(bytes) - 1;
  const int digits = std::bit_width(static_cast<unsigned>(exponent));
  const size_t step = size_t{1} << std::max(0, exponent - digits);
  return std::min<size_t>((bytes + step - 1) / step * step, std::max<size_t>(bytes, kFramePlainBytesMax));
}

Result<PreparedFrame> prepare_frame(FrameType type, ByteView plain, FrameWorkshop& w) {
  TRY_ASSIGN(Compressed compressed, compress_frame(type, plain, w));
  return PreparedFrame{.type = type,
                       .codec = compressed.codec,
                       .plain_bytes = static_cast<uint32_t>(plain.size()),
                       .stored = to_bytes(compressed.stored)};
}

Result<uint32_t> PackWriter::add(FrameType type, ByteView plain, FrameWorkshop& w, FrameSize size) {
  CHECK(!state_->dead && plain.size() <= kFramePlainBytesMax);
  auto compressed = compress_frame(type, plain, w, size);
  if (!compressed) {
    state_->dead = true;
    return std::move(compressed.error()).within(state_->name);
  }
  return seal(type, compressed->codec, static_cast<uint32_t>(plain.size()), compressed->stored, w);
}

Result<uint32_t> PackWriter::add_prepared(const PreparedFrame& frame, FrameWorkshop& w) {
  CHECK(!state_->dead && frame.plain_bytes <= kFramePlainBytesMax);
  return seal(frame.type, frame.codec, frame.plain_bytes, frame.stored, w);
}

Result<uint32_t> PackWriter::seal(FrameType type, FrameCodec codec, uint32_t plain_bytes, ByteView stored,
                                  FrameWorkshop& w) {
  State& s = *state_;
  CHECK(s.frames.size() < kPackFramesMax);
  uint32_t ordinal = static_cast<uint32_t>(s.frames.size());
  // Until this frame is known to be whole, the pack is dead: its ordinal is never used a second time (V19).
  s.dead = true;
  auto ad = frame_binding(s.keys.family, s.origin, ordinal, type, codec, plain_bytes);
  const auto meddle = [&](MutableByteView sealed) {
    if (w.faults && w.faults->after_seal) w.faults->after_seal(sealed);
  };
  const auto damaged = [&] {
    return did_not_come_back("opened again").within(fmt::format("frame {} of {}", ordinal, s.name));
  };
  FrameEntry entry{s.offset, static_cast<uint32_t>(stored.size() + kGcmTagBytes), plain_bytes, type, codec};
  // What is appended of a frame that turns out not to be whole goes with the pack.
  s.cipher->begin(ordinal, ad);
  while (!stored.empty()) {
    const ByteView plain = stored.first(std::min(stored.size(), FrameCipher::kPieceBytes));
    stored = stored.subspan(plain.size());
    const MutableByteView sealed = s.cipher->seal_piece(plain);
    meddle(sealed);
    if (!s.cipher->opens_piece(sealed, plain)) return damaged();
    TRY(s.append_checked(sealed));
  }
  const MutableByteView tag = s.cipher->seal_end();
  meddle(tag);
  if (!s.cipher->opens_end(tag)) return damaged();
  TRY(s.append_checked(tag));
  s.frames.push_back(entry);
  s.dead = false;
  return ordinal;
}

Result<LivePack> PackWriter::finish(const WalHeader* wal) {
  State& s = *state_;
  CHECK(!s.dead);
  s.dead = true;
  s.close_stripe();
  Bytes directory = zstd_compress(encode_directory(s.frames, wal, s.head), 3);
  Bytes sealed =
      xseal(structure_key(s.keys, s.scope), directory_binding(s.keys.family, s.name), directory, s.random);
  Bytes trailer = to_bytes(as_bytes(kTrailerMagic));
  trailer.push_back(kFormatVersion);
  trailer.push_back(wal != nullptr ? 1 : 0);
  append_le<uint16_t>(trailer, 0);
  append_le<uint64_t>(trailer, s.offset);
  append_le<uint32_t>(trailer, static_cast<uint32_t>(sealed.size()));
  append(trailer, sealed);
  append_le<uint32_t>(trailer, kStripeBytes);
  append_le<uint32_t>(trailer, static_cast<uint32_t>(s.stripes.size()));
  for (const Digest& digest : s.stripes) append(trailer, digest.view());
  if (wal != nullptr) {
    Signature signature = s.keys.signing->sign(signature_binding(s.keys.family, s.name, trailer));
    append(trailer, signer_id(s.keys.signing->verify_key()).view());
    append(trailer, signature.view());
  }
  append(trailer, sha256(trailer).view());
  uint32_t trailer_bytes = static_cast<uint32_t>(trailer.size());
  TRY(s.object->append(trailer));
  TRY(s.object->append(trailer));
  TRY(s.object->append(make_footer(trailer_bytes, s.offset)));
  TRY(s.object->commit());
  return LivePack{.name = s.name,
                  .size = s.offset + 2ull * trailer_bytes + kFooterBytes,
                  .trailer_bytes = trailer_bytes,
                  .trailer_digest = sha256(trailer),
                  .frames = {{0, static_cast<uint32_t>(s.frames.size())}}};
}

struct PackReader::State {
  Store* store = nullptr;
  std::string name;
  FamilyId family;
  std::array<uint8_t, 16> origin;
  Secret key;
  Directory directory;
  std::optional<LivePack> expected;

  std::shared_ptr<ObjectReader> object() {
    return object_.with([](auto& object) { return object; });
  }
  void set(std::unique_ptr<ObjectReader> object) { *object_.lock() = std::move(object); }
  // A cipher belongs to one thread at a time; keying one costs more than opening a small frame with it.
  FrameCipher take_cipher() {
    {
      auto idle = idle_.lock();
      if (!idle->empty()) {
        FrameCipher cipher = std::move(idle->back());
        idle->pop_back();
        return cipher;
      }
    }
    return FrameCipher(key);
  }
  void give_back(FrameCipher cipher) { idle_.lock()->push_back(std::move(cipher)); }
  // A collection may give a pack up, for a thin one that holds all that is needed, while it is being read:
  // what was opened is gone then, and what is asked for stands in an incarnation.
  Result<void> read(uint64_t offset, MutableByteView out) {
    const std::shared_ptr<ObjectReader> opened = object();
    Result<void> done = opened->read(offset, out);
    if (done || done.error().kind != ErrorKind::kNotFound || !expected) return done;
    auto other = find_again(opened);
    if (!other) return done;
    return (*other)->read(offset, out);
  }

 private:
  Result<std::shared_ptr<ObjectReader>> find_again(const std::shared_ptr<ObjectReader>& gone);
  Guarded<std::shared_ptr<ObjectReader>> object_;
  Guarded<std::vector<FrameCipher>> idle_;  // as many as threads ever read at once
};

Result<std::shared_ptr<ObjectReader>> PackReader::State::find_again(
    const std::shared_ptr<ObjectReader>& gone) {
  auto locked = object_.lock();
  if (*locked != gone) return *locked;  // another thread found it
  using Found = std::shared_ptr<ObjectReader>;
  auto fitting = [&](std::unique_ptr<ObjectReader> object) -> Result<Found> {
    TRY_ASSIGN(auto whole, see_whole(std::move(object), name, &*expected));
    TRY(find_trailer(*whole, name, &*expected));
    return Found(std::move(whole));
  };
  TRY_ASSIGN(*locked, first_sound<Found>(
                          *store, name,
                          [&]() -> Result<Found> {
                            TRY_ASSIGN(auto object, store->open(name));
                            return fitting(std::move(object));
                          },
                          [&](Versions& versions, const ObjectVersion& version) -> Result<Found> {
                            TRY_ASSIGN(auto object, versions.open_version(name, version.id));
                            return fitting(std::move(object));
                          }));
  return *locked;
}

namespace {

Result<Envelope> read_head(ObjectReader& object, std::string_view name, uint64_t frames_end, Bytes& keep) {
  TRY_ASSIGN(keep, read_at(object, 0, std::min<uint64_t>(kHeadBytesMax, frames_end)));
  TRY_ASSIGN(Envelope head, parse_envelope(name, keep, false));
  if (head.type != RecordType::kPack || !head.scope || head.body.size() < Digest::kBytes) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is not a pack", name));
  }
  return head;
}

Result<Directory> open_directory(const KeyBundle& keys, const std::string& name, const Envelope& head,
                                 ByteView head_bytes, const FoundTrailer& found, const Signers* signers) {
  const Trailer& trailer = found.parsed;
  auto plain =
      xopen(structure_key(keys, head.scope), directory_binding(keys.family, name), trailer.directory);
  if (!plain) {
    return fail(
        ErrorKind::kDamaged,
        fmt::format("{} is not authentic: its directory was not sealed with this vault's keys", name));
  }
  TRY_ASSIGN(Bytes body, zstd_decompress(*plain, kTrailerBytesMax));
  auto directory = decode_directory(body, head.size, trailer.frames_end);
  if (!directory) return std::move(directory.error()).within(fmt::format("{} is damaged", name));
  if (directory->head != sha256(head_bytes.first(head.size))) {
    return fail(ErrorKind::kDamaged,
                fmt::format("{} is not authentic: its head is not the one its directory binds", name));
  }
  if (directory->wal) {
    auto refused = [&](std::string_view why) {
      return fail(ErrorKind::kDamaged, fmt::format("{} is not authentic: {}", name, why));
    };
    if (!trailer.is_signed) return refused("it is not signed");
    const Signers owner_alone(keys);
    auto signer = (signers ? *signers : owner_alone)
                      .verified(trailer.signer, signature_binding(keys.family, name, trailer.signed_part),
                                trailer.signature);
    if (!signer) {
      if (signer.error().kind != ErrorKind::kDamaged) return std::move(signer.error()).within(name);
      return refused(signer.error().what);
    }
    if (!may_archive((*signer)->role))
      return refused(fmt::format("its signer {} is a {}, who may not archive WAL", trailer.signer.hex(),
                                 name_of((*signer)->role)));
    if (!(*signer)->counts_wal(name))
      return refused(
          fmt::format("its signer {} was revoked, and it did not stand then", trailer.signer.hex()));
  }
  return directory;
}

}  // namespace

PackReader::PackReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
PackReader::~PackReader() = default;
const std::vector<FrameEntry>& PackReader::frames() const {
  return state_->directory.frames;
}
const std::optional<WalHeader>& PackReader::wal() const {
  return state_->directory.wal;
}

Result<std::shared_ptr<PackReader>> PackReader::open(Store& store, const KeyBundle& keys,
                                                     const std::string& name, const LivePack* expected,
                                                     const Signers* signers) {
  if (!keys.reader) {
    return fail(ErrorKind::kRefused, fmt::format("{} cannot be read", name),
                fmt::format("a {} key cannot open content", name_of(keys.role)),
                "use the owner's or a reader's key");
  }
  using Opened = std::shared_ptr<PackReader>;
  return first_sound<Opened>(
      store, name,
      [&]() -> Result<Opened> {
        TRY_ASSIGN(auto object, store.open(name));
        return open_object(store, std::move(object), keys, name, expected, signers);
      },
      [&](Versions& versions, const ObjectVersion& version) -> Result<Opened> {
        TRY_ASSIGN(auto object, versions.open_version(name, version.id));
        return open_object(store, std::move(object), keys, name, expected, signers);
      });
}

Result<std::shared_ptr<PackReader>> PackReader::open_object(Store& store,
                                                            std::unique_ptr<ObjectReader> object,
                                                            const KeyBundle& keys, const std::string& name,
                                                            const LivePack* expected,
                                                            const Signers* signers) {
  auto state = std::make_unique<State>();
  state->store = &store;
  state->name = name;
  state->family = keys.family;
  state->origin = origin_of(name);
  if (expected != nullptr) state->expected = *expected;
  TRY_ASSIGN(auto whole, see_whole(std::move(object), name, expected));
  TRY_ASSIGN(FoundTrailer found, find_trailer(*whole, name, expected));
  Bytes head_bytes;
  TRY_ASSIGN(Envelope head, read_head(*whole, name, found.parsed.frames_end, head_bytes));
  TRY_ASSIGN(state->directory, open_directory(keys, name, head, head_bytes, found, signers));
  state->set(std::move(whole));
  if (expected == nullptr && !state->directory.wal) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is bound by no snapshot and signed by nobody", name));
  }
  auto boxed = open_sealed(*keys.reader, head.body.subspan(Digest::kBytes));
  if (!boxed) return std::move(boxed.error()).within(name);
  bool fits = boxed->size() == 64 && equal(boxed->view().subspan(32, 16), keys.family.view()) &&
              equal(boxed->view().subspan(48, 16), state->origin);
  if (!fits)
    return fail(ErrorKind::kDamaged,
                fmt::format("{} is not authentic: its key belongs to another pack", name));
  state->key = Secret::copy_of(boxed->view().first(32));
  if (!equal(commitment_of(state->key).view(), head.body.first(Digest::kBytes))) {
    return fail(ErrorKind::kDamaged,
                fmt::format("{} is not authentic: its key is not the one it commits to", name));
  }
  return std::shared_ptr<PackReader>(new PackReader(std::move(state)));
}

PageFilter PackReader::filter_of(uint32_t frame) const {
  const auto& frames = state_->directory.frames;
  return frame < frames.size() ? kuramori::filter_of(frames[frame].codec) : PageFilter::kNone;
}

void PackReader::expect_stream(uint32_t first, uint64_t bytes) {
  const auto& frames = state_->directory.frames;
  if (first < frames.size()) state_->object()->expect_stream(frames[first].offset, bytes);
}

Result<void> PackReader::read(uint32_t first, uint32_t count, FrameWorkshop& w, Bytes& out, Pages pages) {
  State& s = *state_;
  const auto& frames = s.directory.frames;
  if (first > frames.size() || count > frames.size() - first) {
    return fail(ErrorKind::kDamaged, fmt::format("{} has {} frames, frame {} was asked for", s.name,
                                                 frames.size(), first + count - 1));
  }
  FrameCipher cipher = s.take_cipher();
  // A buffer that is used again is as long already: filling it with zeros first costs as much as its AES.
  size_t out_end = pages == Pages::kFiltered ? 0 : out.size();
  uint32_t ordinal = first;
  while (ordinal < first + count) {
    // Fetch a stretch of consecutive frames at once.
    uint32_t end = ordinal;
    uint64_t bytes = 0;
    while (end < first + count && (end == ordinal || bytes + frames[end].stored_bytes <= kReadAheadBytes)) {
      bytes += frames[end++].stored_bytes;
    }
    if (w.sealed.capacity() < bytes) w.sealed = Bytes();  // or both would be there while it grows
    w.sealed.resize(bytes);
    if (auto done = s.read(frames[ordinal].offset, w.sealed); !done) {
      return std::move(done.error()).within(s.name);
    }
    size_t at = 0;
    for (; ordinal < end; ++ordinal) {
      const FrameEntry& frame = frames[ordinal];
      ByteView sealed = ByteView(w.sealed).subspan(at, frame.stored_bytes);
      at += frame.stored_bytes;
      auto damaged = [&](std::string_view why) {
        return fail(ErrorKind::kDamaged, fmt::format("frame {} of {} {}", ordinal, s.name, why));
      };
      auto ad = frame_binding(s.family, s.origin, ordinal, frame.type, frame.codec, frame.plain_bytes);
      if (out.size() < out_end + frame.plain_bytes) out.resize(out_end + frame.plain_bytes);
      MutableByteView target = MutableByteView(out).subspan(out_end, frame.plain_bytes);
      out_end += frame.plain_bytes;
      if (frame.codec == FrameCodec::kStored) {
        if (!cipher.open(ordinal, ad, sealed, target) && !open_older(cipher, ordinal, ad, target))
          return damaged("is not authentic");
        continue;
      }
      if (!is_known(frame.codec)) {
        return fail(ErrorKind::kRefused,
                    fmt::format("frame {} of {} has the unknown codec {}", ordinal, s.name,
                                static_cast<int>(frame.codec)),
                    "", "use a newer kuramori");
      }
      w.opened.resize(frame.stored_bytes - kGcmTagBytes);
      if (!cipher.open(ordinal, ad, sealed, w.opened) && !open_older(cipher, ordinal, ad, w.opened))
        return damaged("is not authentic");
      if (auto done = w.decompressor.decompress(w.opened, target); !done) return damaged(done.error().what);
      if (pages == Pages::kPlain) unfilter_pages(target, kuramori::filter_of(frame.codec));
    }
  }
  out.resize(out_end);
  s.give_back(std::move(cipher));
  return {};
}

// Somebody put a pack over this one that differs in its frames alone: the frame stands in an older version.
bool PackReader::open_older(FrameCipher& cipher, uint32_t ordinal, ByteView additional,
                            MutableByteView out) const {
  const State& s = *state_;
  Versions* versions = s.store->versions();
  if (versions == nullptr) return false;
  auto all = versions->versions(s.name);
  if (!all) return false;
  const FrameEntry& frame = s.directory.frames[ordinal];
  const uint64_t size = state_->object()->size();
  Bytes sealed(frame.stored_bytes);
  for (const ObjectVersion& version : *all) {
    if (version.delete_marker || (!s.expected && version.size != size)) continue;
    auto object = versions->open_version(s.name, version.id);
    // A thin one that stands beside it may have the frame.
    if (object && s.expected) object = see_whole(std::move(*object), s.name, &*s.expected);
    if (object && (*object)->read(frame.offset, sealed) && cipher.open(ordinal, additional, sealed, out))
      return true;
  }
  return false;
}

Result<void> verify_pack_bytes(Store& store, const std::string& name, const LivePack* expected) {
  TRY_ASSIGN(auto stored, store.open(name));
  ThinPack* thin = nullptr;
  const bool is_unneeded = expected == nullptr && name.starts_with(names::kPacks);  // WAL is never thin
  TRY_ASSIGN(auto object, is_unneeded ? see_unneeded(std::move(stored), name, &thin)
                                      : see_whole(std::move(stored), name, expected, &thin));
  TRY_ASSIGN(FoundTrailer found, find_trailer(*object, name, expected));
  auto damaged = [&](std::string why) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: {}", name, why));
  };
  uint64_t frames_end = found.parsed.frames_end;
  if (thin != nullptr) TRY(thin->verify());
  Bytes stripe;
  for (size_t i = 0; thin == nullptr && i < found.parsed.stripes.size(); ++i) {
    uint64_t offset = i * uint64_t{kStripeBytes};
    stripe.resize(std::min<uint64_t>(kStripeBytes, frames_end - offset));
    if (auto done = object->read(offset, stripe); !done) return std::move(done.error()).within(name);
    if (sha256(stripe) != found.parsed.stripes[i]) {
      return damaged(fmt::format("bytes {} to {} are not what was written", offset, offset + stripe.size()));
    }
  }
  // The other copy of the trailer and the footer: damage there loses nothing yet, but is damage.
  TRY_ASSIGN(Bytes tail, read_at(*object, frames_end, object->size() - frames_end));
  size_t size = found.bytes.size();
  Bytes wanted = found.bytes;
  append(wanted, found.bytes);
  append(wanted, make_footer(static_cast<uint32_t>(size), frames_end));
  if (!equal(tail, wanted)) return damaged("one copy of its trailer, or its footer, is not what was written");
  Bytes head_bytes;
  TRY(read_head(*object, name, frames_end, head_bytes));
  return {};
}

Result<PackShape> read_pack_shape(Store& store, const KeyBundle& keys, const std::string& object,
                                  const LivePack& pack) {
  TRY_ASSIGN(auto stored, store.open(object));
  PackShape shape{.object_bytes = stored->size()};
  ThinPack* thin = nullptr;
  TRY_ASSIGN(shape.bytes, see_whole(std::move(stored), pack.name, &pack, &thin));
  TRY_ASSIGN(FoundTrailer found, find_trailer(*shape.bytes, pack.name, &pack));
  Bytes head_bytes;
  TRY_ASSIGN(Envelope head, read_head(*shape.bytes, pack.name, found.parsed.frames_end, head_bytes));
  TRY_ASSIGN(Directory directory, open_directory(keys, pack.name, head, head_bytes, found, nullptr));
  shape.frames = std::move(directory.frames);
  shape.frames_end = found.parsed.frames_end;
  shape.scope = *head.scope;
  if (thin != nullptr) {
    thin->check_reads();
  } else {
    shape.bytes = std::make_unique<CheckedReader>(std::move(shape.bytes), shape.frames_end,
                                                  std::move(found.parsed.stripes), object);
  }
  return shape;
}

Result<WalHeader> read_wal_header(Store& store, const KeyBundle& keys, const std::string& name,
                                  const Signers* signers) {
  auto read = [&](std::unique_ptr<ObjectReader> object) -> Result<WalHeader> {
    TRY_ASSIGN(FoundTrailer found, find_trailer(*object, name, nullptr));
    Bytes head_bytes;
    TRY_ASSIGN(Envelope head, read_head(*object, name, found.parsed.frames_end, head_bytes));
    TRY_ASSIGN(Directory directory, open_directory(keys, name, head, head_bytes, found, signers));
    if (!directory.wal) return fail(ErrorKind::kDamaged, fmt::format("{} is not WAL", name));
    return *directory.wal;
  };
  return first_sound<WalHeader>(
      store, name,
      [&]() -> Result<WalHeader> {
        TRY_ASSIGN(auto object, store.open(name));
        return read(std::move(object));
      },
      [&](Versions& versions, const ObjectVersion& version) -> Result<WalHeader> {
        TRY_ASSIGN(auto object, versions.open_version(name, version.id));
        return read(std::move(object));
      });
}

Result<std::optional<Bytes>> read_wal_changes(Store& store, const KeyBundle& keys, const std::string& name,
                                              const Signers* signers) {
  TRY_ASSIGN(WalHeader header, read_wal_header(store, keys, name, signers));
  return std::move(header.changes);
}

}  // namespace kuramori
