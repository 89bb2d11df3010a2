// Thin packs: an incarnation of a pack that holds only the frames somebody still needs.
//
// A keeper cuts them out without a key to the content: the head, the frames that are needed and the trailer
// stand in it byte for byte, one after the other; a table behind them says where each stretch lies in the
// whole pack. Whoever knows the pack's true size from a commit sees at once that this is not all of it, and
// reads through the table as if it were: head, trailer and frames are checked against the same commit as
// ever, and a stretch that is not there cannot be read. So a forged table can hide frames and never change
// one.
//
// The table also names the frames, a checksum of each mebibyte of what is held, and is signed: a collector
// gives a whole pack up for a thin one only on a keeper's word, never on a writer's (vault/collector.h).
#pragma once
#include <memory>

#include "crypto/keys.h"
#include "store/store.h"
#include "vault/frame_ranges.h"
#include "vault/key_bundle.h"

namespace kuramori {

struct ThinTable {
  struct Extent {
    uint64_t offset = 0, bytes = 0;  // in the whole pack
  };
  uint64_t whole_bytes = 0;  // of the whole pack
  FrameRanges frames;
  std::vector<Extent> extents;  // ascending, apart from each other
  std::vector<Digest> stripes;  // of what is held
  SignerId signer;
  Signature signature;
  Bytes signed_part;
  uint64_t kept_bytes() const;
};
// The table's bytes; kDamaged when they are none.
Result<ThinTable> parse_thin_table(ByteView bytes);

// A thin pack, seen as the whole one. Reading a stretch that it does not hold: kDamaged.
class ThinPack final : public ObjectReader {
 public:
  // kDamaged: it is no thin pack, or its table is damaged.
  static Result<std::unique_ptr<ThinPack>> open(std::unique_ptr<ObjectReader> object, std::string_view name);
  // Whether it ends as a thin pack does: for who knows of no commit that tells its size.
  static Result<bool> ends_as_one(ObjectReader& object);
  uint64_t size() const override { return table_.whole_bytes; }
  Result<void> read(uint64_t offset, MutableByteView out) override;
  const ThinTable& table() const { return table_; }
  // From now on what is read is held against the table.
  void check_reads();
  // Reads every byte and holds it against the table.
  Result<void> verify() const;

 private:
  ThinPack() = default;
  std::unique_ptr<ObjectReader> object_;
  std::string name_;
  ThinTable table_;
};

// Whether the object is a thin pack of `pack` with every frame that is wanted of it. Also no: it is gone, or
// is none. An error: the store did not open it.
Result<bool> is_thin_with(Store& store, const std::string& object, const LivePack& pack);

// What a thin pack's signature is over.
Bytes thin_binding(const FamilyId& family, std::string_view origin, ByteView signed_part);

// Writes to `to` what `from` (whole, or thin itself) holds of these stretches; `origin`: the name the pack
// was made under. Nothing stands there before it is whole.
Result<void> write_thin_pack(ObjectReader& from, const std::vector<ThinTable::Extent>& extents,
                             const FrameRanges& frames, const KeyBundle& keys, const std::string& origin,
                             Store& store, const std::string& to);

}  // namespace kuramori
