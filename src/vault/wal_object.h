// WAL objects: one archived file — a segment, a timeline's history, a label — as one small pack that says in
// its signed trailer what it is, so that a writer who cannot read content still knows "same name, same
// content".
#pragma once
#include <functional>
#include <vector>

#include "vault/names.h"
#include "vault/pack.h"
#include "vault/vault.h"

namespace kuramori {

constexpr uint32_t kWalFrameBytes = 1u << 20;      // plain bytes a frame
constexpr uint64_t kWalFileBytesMax = 1ull << 30;  // PostgreSQL's largest segment

struct WalObject {
  names::WalName name;
  std::string object;  // its full name
  uint64_t stored_bytes = 0;
};

// All WAL objects of a resource, in the order of timeline and LSN. Names that are none are `unknown`.
struct WalListing {
  std::vector<WalObject> objects;
  std::vector<std::string> unknown;
};
Result<WalListing> list_wal(Store& store, const ResourceId& resource);
Result<WalListing> list_wal(Store& store, const ResourceId& resource, uint32_t timeline);

// Segments and parts are WAL; histories and labels only speak of it.
bool is_stretch(names::WalKind kind);
// How far the WAL of a span is there without a hole: its `to`, or where the first hole begins. `objects`: of
// the span's timeline, in order.
uint64_t reaches(const WalSpan& span, const std::vector<WalObject>& objects);
// kNotFound: some of it is not there.
Result<void> must_hold_wal(Store& store, const ResourceId& resource, const WalSpan& span);

enum class WalPut { kStored, kAlreadyThere };

// Stores `content` durably before it returns. The same content again is kAlreadyThere (P31); other content in
// the same range is kRefused: two histories claim one name (split brain), and neither is overwritten.
using WalChanges = std::function<std::optional<Bytes>()>;
using WalArrival = std::function<Result<void>(size_t bytes)>;
// Whether put_wal() asks the store what else claims the same range. A stream's parts end wherever they end,
// so two servers' hardly ever meet there: it asks with rivals_within(), once a segment.
enum class WalRivals { kAsked, kAskedLater };
constexpr size_t kWalHelpersMax =
    3;  // threads that compress besides the one that puts, if there are so many processors
struct WalPutOptions {
  // Says what header.changes shall be: asked once, while other threads compress. More than
  // kWalChangesBytesMax are left out.
  WalChanges changes;
  // arrive(n) returns once the first n bytes of `content` are there, for good: they are digested and
  // compressed while the others still come. Asked by one thread, with growing numbers, the last the size.
  WalArrival arrive;
  WalRivals rivals = WalRivals::kAsked;
  // Fewer, where other objects are put at the same time: one after the other costs less than side by side.
  size_t helpers_max = kWalHelpersMax;
  // The caller's own, who puts more than one object (nothing else is compressed with it); nothing: made for
  // this one.
  FrameWorkshop* workshop = nullptr;
};
Result<WalPut> put_wal(Vault& vault, const ResourceId& resource, names::WalKind kind, WalHeader header,
                       ByteView content, const WalPutOptions& options = {});

// Segments and parts that lie within [begin, begin + segment_bytes) and do not hold these bytes there, by
// their digests. `content` begins at `begin`, a segment's.
Result<std::vector<WalObject>> rivals_within(Vault& vault, const ResourceId& resource, uint32_t timeline,
                                             uint64_t begin, ByteView content);

// The whole file; checked frame by frame and against the keyed digest of its name.
Result<Bytes> get_wal(Vault& vault, const WalObject& object);

}  // namespace kuramori
