#include "vault/thin_packs.h"

#include <fmt/core.h>

#include "vault/incarnations.h"
#include "vault/pack.h"
#include "vault/thin_pack.h"

namespace kuramori {
namespace {

constexpr uint64_t kHeadFetchBytes = 4096;  // as vault/pack.cc reads a head

Result<std::vector<ThinTable::Extent>> extents_of(const PackShape& shape, const FrameRanges& frames,
                                                  std::string_view name) {
  std::vector<ThinTable::Extent> extents;
  auto add = [&](uint64_t offset, uint64_t bytes) {
    if (bytes == 0) return;
    if (!extents.empty() && extents.back().offset + extents.back().bytes >= offset) {
      ThinTable::Extent& last = extents.back();
      last.bytes = std::max(last.bytes, offset + bytes - last.offset);
    } else {
      extents.push_back({offset, bytes});
    }
  };
  // The head, and what readers fetch with it, not knowing yet how long it is.
  const uint64_t head = shape.frames.empty() ? shape.frames_end : shape.frames.front().offset;
  add(0, std::min(shape.frames_end, std::max<uint64_t>(head, kHeadFetchBytes)));
  for (const FrameRange& range : frames) {
    if (uint64_t{range.first} + range.count > shape.frames.size())
      return fail(ErrorKind::kDamaged,
                  fmt::format("{} does not have the frames that are needed of it", name));
    for (uint32_t i = range.first; i < range.first + range.count; ++i)
      add(shape.frames[i].offset, shape.frames[i].stored_bytes);
  }
  add(shape.frames_end, shape.bytes->size() - shape.frames_end);
  return extents;
}

}  // namespace

Result<ThinPacks::Shape> StoredThinPacks::measure(const LivePack& pack, const std::string& object) {
  TRY_ASSIGN(const PackShape shape, read_pack_shape(store_, keys_, object, pack));
  Shape measured;
  for (const FrameEntry& frame : shape.frames) measured.frame_bytes.push_back(frame.stored_bytes);
  TRY_ASSIGN(const auto rest, extents_of(shape, {}, object));
  for (const ThinTable::Extent& extent : rest) measured.rest_bytes += extent.bytes;
  return measured;
}

Result<FrameRanges> StoredThinPacks::kept(const LivePack& pack, const std::string& object, Look look) {
  TRY_ASSIGN(auto stored, store_.open(object));
  TRY_ASSIGN(const auto thin, ThinPack::open(std::move(stored), object));
  const ThinTable& table = thin->table();
  auto refused = [&](std::string_view why) {
    return fail(ErrorKind::kDamaged, fmt::format("{} is not authentic: {}", object, why));
  };
  auto signer = signers_.verified(table.signer, thin_binding(keys_.family, pack.name, table.signed_part),
                                  table.signature);
  if (!signer) {
    if (signer.error().kind != ErrorKind::kDamaged) return std::move(signer).error();
    return refused(signer.error().what);
  }
  // Whoever may not delete may not say either that a pack is no longer needed whole.
  if ((*signer)->role != Role::kOwner && (*signer)->role != Role::kKeeper)
    return refused(fmt::format("its signer is a {}", name_of((*signer)->role)));
  if ((*signer)->revoked) return refused("its signer was revoked");
  if (look == Look::kEveryByte) {
    // With what the commit binds of it: the trailer, and the head that fits.
    LivePack held = pack;
    held.frames = table.frames;
    TRY(verify_pack_bytes(*only_incarnation(store_, object), pack.name, &held));
    // And the stretches are those of the frames it claims.
    TRY_ASSIGN(const PackShape shape, read_pack_shape(store_, keys_, object, held));
    TRY_ASSIGN(const auto wanted, extents_of(shape, table.frames, object));
    const bool same = std::ranges::equal(wanted, table.extents, [](const auto& a, const auto& b) {
      return a.offset == b.offset && a.bytes == b.bytes;
    });
    if (!same) return refused("what it holds is not what it says");
  }
  return table.frames;
}

Result<void> StoredThinPacks::verify_whole(const LivePack& pack, const std::string& object) {
  return verify_pack_bytes(*only_incarnation(store_, object), pack.name, &pack);
}

Result<void> StoredThinPacks::make(const LivePack& pack, const std::string& from, const FrameRanges& frames,
                                   const std::string& to) {
  LivePack held = pack;
  held.frames = frames;
  TRY_ASSIGN(const PackShape shape, read_pack_shape(store_, keys_, from, held));
  // Damage would be carried along, and signed: so what is copied is checked as it is read, and nothing is
  // read a second time.
  TRY_ASSIGN(const auto extents, extents_of(shape, frames, from));
  Result<void> written = write_thin_pack(*shape.bytes, extents, frames, keys_, pack.name, store_, to);
  // An answer that was lost, or a put that landed before: what stands there says which.
  if (!written && written.error().kind != ErrorKind::kExists && written.error().kind != ErrorKind::kUnknown)
    return written;
  TRY_ASSIGN(const FrameRanges there, kept(held, to, Look::kEveryByte));
  if (there == frames) return {};
  return fail(ErrorKind::kDamaged, fmt::format("{} does not read back as it was written", to));
}

Result<bool> StoredThinPacks::is_locked(const std::string& object) {
  Retention* retention = store_.retention();
  if (retention == nullptr) return false;
  auto until = retention->retained_until(object);
  if (!until) {
    // A place that was made without locks; or a key that may not see them: then nothing is tried.
    if (until.error().kind == ErrorKind::kRefused || until.error().kind == ErrorKind::kNotFound) return false;
    if (until.error().kind == ErrorKind::kDenied) return true;
    return std::move(until).error();
  }
  if (*until && **until > clock_.now()) return true;
  auto held = retention->legal_hold(object);
  return held && *held;
}

}  // namespace kuramori
