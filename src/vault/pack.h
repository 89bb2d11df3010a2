// Packs: large immutable objects of sealed frames, and their directory.
//
// A pack is: an envelope head with the pack's key sealed to the reader; the frames, each compressed and
// sealed under the pack's own key with its ordinal as nonce; then the trailer, twice: the directory (sealed
// under the structure key) and a SHA-256 of every stripe of what precedes, so that a scrub needs no key; then
// a footer. Layout and reasons: docs/vault-format.md, "Packs".
//
// A pack key lives in one PackWriter and one pack. After a failed open-and-compare the pack is abandoned: a
// frame is never sealed a second time under the same ordinal (V19).
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "codec/page_filter.h"
#include "codec/zstd.h"
#include "crypto/aead.h"
#include "store/store.h"
#include "vault/envelope.h"
#include "vault/records.h"

namespace kuramori {

enum class FrameType : uint8_t {
  kPages = 1,
  kBytes = 2,
  kTree = 3,
  kWal = 4,
  kTreeRoot = 5,  // where the segments of a tree are (vault/tree.h)
  kTreeSegment = 6,
};
// Low half: compression; high half: what was done to the plain bytes before it (a PageFilter).
enum class FrameCodec : uint8_t { kStored = 0x00, kZstd = 0x01, kTuplesZstd = 0x11, kColumnsZstd = 0x21 };

constexpr uint64_t kPackBytesTarget = 64ull << 20;  // a pack is closed when it has grown past this
constexpr uint32_t kPackFramesMax = 1u << 20;
constexpr uint32_t kFramePlainBytesMax = 4u << 20;
constexpr uint32_t kStripeBytes = 1u << 20;

// Of the sizes after rounding there are few (Padmé: Nikitin et al., PETS 2019). At most an eighth more, for
// large ones 1/32; never beyond kFramePlainBytesMax.
size_t rounded_up(size_t bytes);
// Whether what a frame takes may tell what it holds.
enum class FrameSize : uint8_t {
  kExact,
  kRounded,  // what is stored is filled up: zeros behind the plain bytes alone are compressed away
};

// A pack's directory entry, with the offset of the sealed frame computed.
struct FrameEntry {
  uint64_t offset = 0;
  uint32_t stored_bytes = 0;  // sealed, tag included
  uint32_t plain_bytes = 0;
  FrameType type = FrameType::kBytes;
  FrameCodec codec = FrameCodec::kStored;
};

// What a WAL object says of itself besides its frames.
struct WalHeader {
  uint64_t system_id = 0;
  uint32_t timeline = 0;
  uint64_t from = 0, to = 0;
  uint32_t segment_bytes = 0;
  std::string file;  // "000000010000000000000003"
  uint64_t plain_bytes = 0;
  Digest digest;  // HMAC-SHA-256 of the plain bytes under wal_digest_key()
  int64_t stored_ns = 0;
  // What this WAL changes, as whoever archived it says; the vault does not look into it. Not part of what the
  // object is: two that differ in it alone are the same object.
  std::optional<Bytes> changes;
};
constexpr size_t kWalChangesBytesMax = 8u << 20;

// Faults that tests provoke at marked points of the pipeline (V9, V10), and weaknesses that they plant so
// that an attack finds something (V18); never set outside tests.
struct PipelineFaults {
  std::function<void(MutableByteView)> after_filter, after_compress, after_seal;
  std::function<size_t(ByteView)> cut;  // where content is cut, in the chunker's place
  bool tells_sizes = false;             // small chunks share no frame, and nothing is filled up
  bool rounds_plain_alone = false;      // what is stored is not filled up
};

// The working memory of one thread, reused over packs: contexts and buffers are costly to make.
struct FrameWorkshop {
  explicit FrameWorkshop(int level) : compressor(level) {}
  Compressor compressor;
  Decompressor decompressor;
  Bytes filtered, compressed, opened, sealed;
  PipelineFaults* faults = nullptr;
};

constexpr int kZstdLevel = 1;  // performance.md's choice: the best speed a byte, with the page filter

// A frame ready to be sealed: compressed, and checked that it comes back. It belongs to no pack yet, so that
// several threads can prepare the frames of one.
struct PreparedFrame {
  FrameType type = FrameType::kBytes;
  FrameCodec codec = FrameCodec::kStored;
  uint32_t plain_bytes = 0;
  Bytes stored;
};
// kDamaged: it did not come back; a bit flipped in memory or the processor erred.
Result<PreparedFrame> prepare_frame(FrameType type, ByteView plain, FrameWorkshop& workshop);

class PackWriter {
 public:
  // `scope`: whose structure key seals the directory. Nothing exists in the store until finish().
  static Result<std::unique_ptr<PackWriter>> create(Store& store, const KeyBundle& keys, Random& random,
                                                    Clock& clock, const std::string& name,
                                                    const ResourceId& scope);
  ~PackWriter();

  // Compresses, seals, opens again and compares, appends. Returns the ordinal. After an error the pack is
  // dead.
  Result<uint32_t> add(FrameType type, ByteView plain, FrameWorkshop& workshop,
                       FrameSize size = FrameSize::kExact);
  // The same for a frame that was prepared elsewhere.
  Result<uint32_t> add_prepared(const PreparedFrame& frame, FrameWorkshop& workshop);
  uint64_t bytes() const;
  uint32_t frames() const;
  // Writes the trailers and makes the pack exist. With `wal`, the trailer is signed: no commit binds it.
  Result<LivePack> finish(const WalHeader* wal = nullptr);

 private:
  struct State;
  explicit PackWriter(std::unique_ptr<State> state);
  Result<uint32_t> seal(FrameType type, FrameCodec codec, uint32_t plain_bytes, ByteView stored,
                        FrameWorkshop& workshop);
  std::unique_ptr<State> state_;
};

// Reads frames of one pack. read() may be called by several threads, each with a workshop of its own.
class PackReader {
 public:
  // `expected`: what a commit binds it to; nothing — the pack speaks for itself (WAL: its signature is
  // checked). `signers`: whose signatures count besides the owner's; nothing: no other's.
  static Result<std::shared_ptr<PackReader>> open(Store& store, const KeyBundle& keys,
                                                  const std::string& name, const LivePack* expected,
                                                  const Signers* signers = nullptr);
  ~PackReader();
  const std::vector<FrameEntry>& frames() const;
  const std::optional<WalHeader>& wal() const;

  // Whether pages come as they were captured, or still filtered: who wants one page of a frame undoes the
  // filter for that one alone.
  enum class Pages { kPlain, kFiltered };
  // Appends the plain bytes of frames first … first+count-1 to `out`; with kFiltered they take its place.
  Result<void> read(uint32_t first, uint32_t count, FrameWorkshop& workshop, Bytes& out,
                    Pages pages = Pages::kPlain);
  // Frames will be read in order from `first` on; the first `bytes` of them may be fetched meanwhile.
  void expect_stream(uint32_t first, uint64_t bytes);
  // What read() with kFiltered leaves to be undone for this frame.
  PageFilter filter_of(uint32_t frame) const;

 private:
  struct State;
  explicit PackReader(std::unique_ptr<State> state);
  static Result<std::shared_ptr<PackReader>> open_object(Store& store, std::unique_ptr<ObjectReader> object,
                                                         const KeyBundle& keys, const std::string& name,
                                                         const LivePack* expected, const Signers* signers);
  bool open_older(FrameCipher& cipher, uint32_t ordinal, ByteView additional, MutableByteView out) const;
  std::unique_ptr<State> state_;
};

// Checks every byte of a pack by the stripe checksums of its trailer, without any key. With `expected`, also
// that it is the pack that a commit binds. Both trailer copies must be whole.
Result<void> verify_pack_bytes(Store& store, const std::string& name, const LivePack* expected);
// Where the frames of a pack lie, as far as it says so without a key to the content.
struct PackShape {
  std::unique_ptr<ObjectReader> bytes;  // as the whole pack, be it whole or thin; checked as it is read
  std::vector<FrameEntry> frames;       // all that the whole pack has
  uint64_t frames_end = 0;
  uint64_t object_bytes = 0;  // of the object itself
  ResourceId scope;
};
Result<PackShape> read_pack_shape(Store& store, const KeyBundle& keys, const std::string& object,
                                  const LivePack& pack);
// Reads a WAL object's header without opening its content (structure key only).
Result<WalHeader> read_wal_header(Store& store, const KeyBundle& keys, const std::string& name,
                                  const Signers* signers = nullptr);
// The same, of it what the WAL changes: nothing where nobody said.
Result<std::optional<Bytes>> read_wal_changes(Store& store, const KeyBundle& keys, const std::string& name,
                                              const Signers* signers = nullptr);

}  // namespace kuramori
