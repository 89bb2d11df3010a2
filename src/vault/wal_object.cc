#include "vault/wal_object.h"

#include <fmt/core.h>

#include "crypto/digest.h"

namespace kuramori {
namespace {

Result<WalListing> list_under(Store& store, const std::string& prefix) {
  WalListing listing;
  TRY(for_each_object(store, prefix, [&](const ObjectInfo& object) -> Result<void> {
    if (auto name = names::parse_wal(object.name)) {
      listing.objects.push_back({*name, object.name, object.size});
    } else {
      listing.unknown.push_back(object.name);
    }
    return {};
  }));
  return listing;
}

// What claims the same range and kind as `name`.
Result<std::vector<WalObject>> rivals_of(Store& store, const names::WalName& name) {
  std::string prefix = fmt::format("{}{:016x}-{:016x}.", names::wal_prefix(name.resource, name.timeline), name.from, name.to);
  TRY_ASSIGN(WalListing listing, list_under(store, prefix));
  std::erase_if(listing.objects, [&](const WalObject& other) { return other.name.kind != name.kind; });
  return listing.objects;
}

Error split_brain(const WalHeader& header, const std::string& theirs) {
  return fail(ErrorKind::kRefused,
              fmt::format("{} is already archived with other content", header.file),
              fmt::format("two servers write timeline {:X} of this resource; the archive holds {}", header.timeline, theirs),
              "stop the one that should not run; never reuse this archive for a restored copy (its timeline differs)");
}

}  // namespace

Result<WalListing> list_wal(Store& store, const ResourceId& resource) {
  return list_under(store, names::wal_prefix(resource));
}
Result<WalListing> list_wal(Store& store, const ResourceId& resource, uint32_t timeline) {
  return list_under(store, names::wal_prefix(resource, timeline));
}

Result<WalPut> put_wal(Vault& vault, const ResourceId& resource, names::WalKind kind, WalHeader header, ByteView content) {
  if (content.size() > kWalFileBytesMax) {
    return fail(ErrorKind::kUsage, fmt::format("{} has {} bytes: no WAL file is that large", header.file, content.size()));
  }
  Secret key = wal_digest_key(vault.keys(), resource);
  header.plain_bytes = content.size();
  header.digest = hmac_sha256(key.view(), content);
  header.stored_ns = to_unix_ns(vault.clock().now());
  names::WalName name{resource, header.timeline, header.from, header.to, kind, header.digest.hex().substr(0, 16)};
  std::string object = names::wal(name);

  // Before: is it there already? After: did somebody else put other bytes meanwhile? Each of two rivals sees the
  // other's object in its second look, so at least one of them refuses; both stay visible.
  TRY_ASSIGN(auto before, rivals_of(vault.store(), name));
  bool there = false;
  for (const WalObject& rival : before) {
    if (rival.object != object) return split_brain(header, rival.object);
    there = true;
  }
  if (there) {
    TRY_ASSIGN(WalHeader stored, read_wal_header(vault.store(), vault.keys(), object));
    if (stored.digest != header.digest) return split_brain(header, object);
    return WalPut::kAlreadyThere;
  }
  TRY_ASSIGN(auto pack, PackWriter::create(vault.store(), vault.keys(), vault.random(), vault.clock(), object, resource));
  FrameWorkshop workshop(kZstdLevel);
  for (size_t at = 0; at < content.size(); at += kWalFrameBytes) {
    TRY(pack->add(FrameType::kWal, content.subspan(at, std::min<size_t>(kWalFrameBytes, content.size() - at)), workshop));
  }
  auto done = pack->finish(&header);
  if (!done && done.error().kind != ErrorKind::kExists) return done.error();
  if (!done) {
    TRY_ASSIGN(WalHeader stored, read_wal_header(vault.store(), vault.keys(), object));
    if (stored.digest != header.digest) return split_brain(header, object);
    return WalPut::kAlreadyThere;
  }
  TRY_ASSIGN(auto after, rivals_of(vault.store(), name));
  for (const WalObject& rival : after) {
    if (rival.object != object) return split_brain(header, rival.object);
  }
  return WalPut::kStored;
}

Result<Bytes> get_wal(Vault& vault, const WalObject& object) {
  TRY_ASSIGN(auto pack, PackReader::open(vault.store(), vault.keys(), object.object, nullptr));
  const WalHeader& header = *pack->wal();
  bool fits = header.timeline == object.name.timeline && header.from == object.name.from && header.to == object.name.to &&
              header.digest.hex().starts_with(object.name.digest) && header.plain_bytes <= kWalFileBytesMax;
  if (!fits) return fail(ErrorKind::kDamaged, fmt::format("{} is not what its name says", object.object));
  Bytes content;
  content.reserve(header.plain_bytes);
  FrameWorkshop workshop(kZstdLevel);
  TRY(pack->read(0, static_cast<uint32_t>(pack->frames().size()), workshop, content));
  // The frames are authentic; the digest also says that none is missing and that they are in order.
  if (content.size() != header.plain_bytes ||
      hmac_sha256(wal_digest_key(vault.keys(), object.name.resource).view(), content) != header.digest) {
    return fail(ErrorKind::kDamaged, fmt::format("{} does not hold the bytes it was made of", object.object));
  }
  return content;
}

}  // namespace kuramori
