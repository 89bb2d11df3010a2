#include "vault/thin_pack.h"

#include <fmt/core.h>

#include "crypto/digest.h"
#include "vault/checked_reader.h"

namespace kuramori {
namespace {

// what is held ‖ table ‖ table ‖ footer: table_bytes:u32 kept_bytes:u64 check:8 "KMPF"
constexpr std::string_view kTableMagic = "KMPC";
constexpr std::string_view kFooterMagic = "KMPF";
constexpr uint8_t kVersion = 1;
constexpr size_t kFooterBytes = 24;
constexpr uint32_t kTableBytesMax = 64u << 20;
constexpr uint64_t kStripe = CheckedReader::kStripeBytes;
constexpr uint64_t kPackBytesMax = 1ull << 48;  // so that sums of sizes cannot wrap

Bytes make_footer(uint32_t table_bytes, uint64_t kept_bytes) {
  Bytes footer;
  append_le(footer, table_bytes);
  append_le(footer, kept_bytes);
  const Digest check = sha256(footer);
  append(footer, check.view().first(8));
  append(footer, as_bytes(kFooterMagic));
  return footer;
}

Result<Bytes> read_at(ObjectReader& object, uint64_t offset, uint64_t size) {
  Bytes bytes(size);
  TRY(object.read(offset, bytes));
  return bytes;
}

}  // namespace

uint64_t ThinTable::kept_bytes() const {
  uint64_t bytes = 0;
  for (const Extent& extent : extents) bytes += extent.bytes;
  return bytes;
}

// "KMPC" version:u8 0:3 whole:u64 ranges:u32 {first:u32 count:u32} extents:u32 {offset:u64 bytes:u64}
// stripes:u32 sha256[] signer:16 signature:64 sha256:32
Result<ThinTable> parse_thin_table(ByteView bytes) {
  auto damaged = [](std::string_view why) {
    return fail(ErrorKind::kDamaged, fmt::format("its table {}", why));
  };
  if (bytes.size() < Digest::kBytes ||
      !equal(sha256(bytes.first(bytes.size() - Digest::kBytes)).view(), bytes.last(Digest::kBytes)))
    return damaged("does not fit its checksum");
  ByteReader r(bytes.first(bytes.size() - Digest::kBytes));
  TRY_ASSIGN(ByteView magic, r.take(4));
  if (as_text(magic) != kTableMagic) return damaged("is not one");
  TRY_ASSIGN(uint8_t version, r.take_le<uint8_t>());
  if (version != kVersion) {
    return fail(ErrorKind::kRefused, fmt::format("its table has format version {}", version),
                fmt::format("this program knows version {}", kVersion),
                "use a newer kuramori to read this vault");
  }
  TRY(r.take(3));
  ThinTable table;
  TRY_ASSIGN(table.whole_bytes, r.take_le<uint64_t>());
  if (table.whole_bytes > kPackBytesMax) return damaged("tells of an impossible size");
  TRY_ASSIGN(uint32_t ranges, r.take_le<uint32_t>());
  uint64_t end = 0;
  for (uint32_t i = 0; i < ranges; ++i) {
    FrameRange range;
    TRY_ASSIGN(range.first, r.take_le<uint32_t>());
    TRY_ASSIGN(range.count, r.take_le<uint32_t>());
    if (range.count == 0 || (i != 0 && range.first <= end) ||
        range.first + uint64_t{range.count} > UINT32_MAX)
      return damaged("has frames out of order");
    end = range.first + uint64_t{range.count};
    table.frames.push_back(range);
  }
  TRY_ASSIGN(uint32_t extents, r.take_le<uint32_t>());
  end = 0;
  for (uint32_t i = 0; i < extents; ++i) {
    ThinTable::Extent extent;
    TRY_ASSIGN(extent.offset, r.take_le<uint64_t>());
    TRY_ASSIGN(extent.bytes, r.take_le<uint64_t>());
    const bool fits = extent.offset <= table.whole_bytes && extent.bytes <= table.whole_bytes - extent.offset;
    if (extent.bytes == 0 || !fits || (i != 0 && extent.offset <= end))
      return damaged("has stretches out of order");
    end = extent.offset + extent.bytes;
    table.extents.push_back(extent);
  }
  TRY_ASSIGN(uint32_t stripes, r.take_le<uint32_t>());
  if (stripes != (table.kept_bytes() + kStripe - 1) / kStripe)
    return damaged("has stripes that do not cover what is held");
  for (uint32_t i = 0; i < stripes; ++i) {
    TRY_ASSIGN(ByteView raw, r.take(Digest::kBytes));
    table.stripes.push_back(*Digest::from_bytes(raw));
  }
  table.signed_part = to_bytes(bytes.first(bytes.size() - Digest::kBytes - r.left()));
  TRY_ASSIGN(ByteView signer, r.take(SignerId::kBytes));
  TRY_ASSIGN(ByteView signature, r.take(Signature::kBytes));
  table.signer = *SignerId::from_bytes(signer);
  table.signature = *Signature::from_bytes(signature);
  if (r.left() != 0) return damaged("has bytes too many");
  return table;
}

Result<bool> ThinPack::ends_as_one(ObjectReader& object) {
  if (object.size() < kFooterBytes) return false;
  TRY_ASSIGN(const Bytes end, read_at(object, object.size() - kFooterMagic.size(), kFooterMagic.size()));
  return as_text(end) == kFooterMagic;
}

Result<std::unique_ptr<ThinPack>> ThinPack::open(std::unique_ptr<ObjectReader> object,
                                                 std::string_view name) {
  auto damaged = [&](std::string_view why) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: {}", name, why));
  };
  std::unique_ptr<ThinPack> pack(new ThinPack);
  pack->object_ = std::move(object);
  pack->name_ = name;
  ObjectReader& whole = *pack->object_;
  if (whole.size() < kFooterBytes) return damaged("truncated");
  TRY_ASSIGN(Bytes footer, read_at(whole, whole.size() - kFooterBytes, kFooterBytes));
  const auto size = load_le<uint32_t>(footer.data());
  const auto kept = load_le<uint64_t>(footer.data() + 4);
  if (!equal(footer, make_footer(size, kept))) return damaged("its size is not what its snapshot says");
  if (size > kTableBytesMax || kept > kPackBytesMax || kept + 2ull * size + kFooterBytes != whole.size())
    return damaged("its table has an impossible size");
  Error first;
  for (uint64_t copy = 0; copy < 2; ++copy) {
    TRY_ASSIGN(Bytes bytes, read_at(whole, kept + copy * size, size));
    auto table = parse_thin_table(bytes);
    if (table && table->kept_bytes() == kept) {
      pack->table_ = std::move(*table);
      return pack;
    }
    if (copy == 0) first = table ? fail(ErrorKind::kDamaged, "its table is another pack's") : table.error();
  }
  return std::move(first).within(fmt::format("{} is damaged", name));
}

Result<void> ThinPack::read(uint64_t offset, MutableByteView out) {
  uint64_t stored = 0;
  for (const ThinTable::Extent& extent : table_.extents) {
    if (out.empty()) return {};
    if (offset >= extent.offset && offset - extent.offset < extent.bytes) {
      const uint64_t skip = offset - extent.offset;
      const auto part = static_cast<size_t>(std::min<uint64_t>(out.size(), extent.bytes - skip));
      TRY(object_->read(stored + skip, out.first(part)));
      offset += part;
      out = out.subspan(part);
    }
    stored += extent.bytes;
  }
  if (out.empty()) return {};
  return fail(ErrorKind::kDamaged,
              fmt::format("{} does not hold bytes {} to {}", name_, offset, offset + out.size()),
              "it is a thin pack: a collection kept only what was needed then");
}

void ThinPack::check_reads() {
  object_ = std::make_unique<CheckedReader>(std::move(object_), table_.kept_bytes(), table_.stripes, name_);
}

Result<void> ThinPack::verify() const {
  const uint64_t kept = table_.kept_bytes();
  Bytes stripe;
  for (size_t i = 0; i < table_.stripes.size(); ++i) {
    const uint64_t offset = i * kStripe;
    stripe.resize(static_cast<size_t>(std::min(kStripe, kept - offset)));
    TRY(object_->read(offset, stripe));
    if (sha256(stripe) != table_.stripes[i])
      return fail(ErrorKind::kDamaged, fmt::format("{} is damaged: bytes {} to {} are not what was written",
                                                   name_, offset, offset + stripe.size()));
  }
  // Both copies of the table: damage of one loses nothing yet, but is damage.
  const uint64_t size = (object_->size() - kept - kFooterBytes) / 2;
  TRY_ASSIGN(Bytes one, read_at(*object_, kept, size));
  TRY_ASSIGN(Bytes two, read_at(*object_, kept + size, size));
  if (!equal(one, two))
    return fail(ErrorKind::kDamaged,
                fmt::format("{} is damaged: one copy of its table is not what was written", name_));
  return {};
}

Result<bool> is_thin_with(Store& store, const std::string& object, const LivePack& pack) {
  auto opened = store.open(object);
  if (!opened && opened.error().kind == ErrorKind::kNotFound) return false;
  if (!opened) return std::move(opened).error();
  const auto thin = ThinPack::open(std::move(*opened), object);
  return thin && covers((*thin)->table().frames, normal_ranges(pack.frames));
}

Bytes thin_binding(const FamilyId& family, std::string_view origin, ByteView signed_part) {
  Bytes bytes = to_bytes(as_bytes("kuramori thin pack signature 1"));
  append(bytes, family.view());
  append_le<uint16_t>(bytes, static_cast<uint16_t>(origin.size()));
  append(bytes, as_bytes(origin));
  append(bytes, signed_part);
  return bytes;
}

Result<void> write_thin_pack(ObjectReader& from, const std::vector<ThinTable::Extent>& extents,
                             const FrameRanges& frames, const KeyBundle& keys, const std::string& origin,
                             Store& store, const std::string& to) {
  TRY_ASSIGN(auto object, store.create(to));
  std::vector<Digest> stripes;
  Bytes stripe;  // being filled
  auto flush = [&]() -> Result<void> {
    if (stripe.empty()) return {};
    stripes.push_back(sha256(stripe));
    TRY(object->append(stripe));
    stripe.clear();
    return {};
  };
  uint64_t kept = 0;
  for (const ThinTable::Extent& extent : extents) {
    for (uint64_t done = 0; done < extent.bytes;) {
      const uint64_t part = std::min<uint64_t>(extent.bytes - done, kStripe - stripe.size());
      const size_t at = stripe.size();
      stripe.resize(at + static_cast<size_t>(part));
      TRY(from.read(extent.offset + done, MutableByteView(stripe).subspan(at)));
      done += part;
      if (stripe.size() == kStripe) TRY(flush());
    }
    kept += extent.bytes;
  }
  TRY(flush());
  Bytes table = to_bytes(as_bytes(kTableMagic));
  table.push_back(kVersion);
  table.insert(table.end(), 3, 0);
  append_le<uint64_t>(table, from.size());
  append_le<uint32_t>(table, static_cast<uint32_t>(frames.size()));
  for (const FrameRange& range : frames) {
    append_le<uint32_t>(table, range.first);
    append_le<uint32_t>(table, range.count);
  }
  append_le<uint32_t>(table, static_cast<uint32_t>(extents.size()));
  for (const ThinTable::Extent& extent : extents) {
    append_le<uint64_t>(table, extent.offset);
    append_le<uint64_t>(table, extent.bytes);
  }
  append_le<uint32_t>(table, static_cast<uint32_t>(stripes.size()));
  for (const Digest& digest : stripes) append(table, digest.view());
  const Signature signature = keys.signing->sign(thin_binding(keys.family, origin, table));
  append(table, signer_id(keys.signing->verify_key()).view());
  append(table, signature.view());
  append(table, sha256(table).view());
  TRY(object->append(table));
  TRY(object->append(table));
  TRY(object->append(make_footer(static_cast<uint32_t>(table.size()), kept)));
  return object->commit();
}

}  // namespace kuramori
