// What collecting and compacting do with the bytes of packs, without a key to the content.
#pragma once
#include <string>

#include "store/store.h"
#include "vault/frame_ranges.h"
#include "vault/signers.h"

namespace kuramori {

class ThinPacks {
 public:
  virtual ~ThinPacks() = default;
  struct Shape {
    std::vector<uint32_t> frame_bytes;  // of each frame that the whole pack has
    uint64_t rest_bytes = 0;            // what a thin pack of it holds besides frames
  };
  // kDamaged: the object is not that pack, or a thin one without all of `pack.frames`.
  virtual Result<Shape> measure(const LivePack& pack, const std::string& object) = 0;
  // The frames that a thin pack holds, by the word of a keeper: anybody else's is kDamaged. `kEveryByte`:
  // each byte was read and is what that keeper wrote.
  enum class Look { kTable, kEveryByte };
  virtual Result<FrameRanges> kept(const LivePack& pack, const std::string& object, Look look) = 0;
  // kDamaged: some byte of the object, a whole pack, is not what the commit binds.
  virtual Result<void> verify_whole(const LivePack& pack, const std::string& object) = 0;
  // Puts a thin pack of these frames at `to`, and reads it back.
  virtual Result<void> make(const LivePack& pack, const std::string& from, const FrameRanges& frames,
                            const std::string& to) = 0;
  // Whether the store would not let go of the object now.
  virtual Result<bool> is_locked(const std::string& object) = 0;
};

// Of a vault's own store. Borrows everything.
class StoredThinPacks final : public ThinPacks {
 public:
  StoredThinPacks(Store& store, const KeyBundle& keys, const Signers& signers, Clock& clock)
      : store_(store), keys_(keys), signers_(signers), clock_(clock) {}
  Result<Shape> measure(const LivePack& pack, const std::string& object) override;
  Result<FrameRanges> kept(const LivePack& pack, const std::string& object, Look look) override;
  Result<void> verify_whole(const LivePack& pack, const std::string& object) override;
  Result<void> make(const LivePack& pack, const std::string& from, const FrameRanges& frames,
                    const std::string& to) override;
  Result<bool> is_locked(const std::string& object) override;

 private:
  Store& store_;
  const KeyBundle& keys_;
  const Signers& signers_;
  Clock& clock_;
};

}  // namespace kuramori
