// The store's contract: where bytes live. Objects are written once, whole or not at all, and never changed.
//
// Every implementation passes the contract suite (testing/store_contract.h). What a caller may rely on:
//   - put_if_absent and ObjectWriter::commit are atomic: of several at one name exactly one wins (kExists for
//     the others), and a reader sees all the bytes or kNotFound.
//   - what a call confirmed is durable, and seen by every later get, head and list.
//   - kUnknown means: it may have happened, or may yet. Retry with the same bytes, or look.
//   - list yields names in byte order; a page is complete: a name between two listed names was absent.
// Methods may be called from several threads; an ObjectWriter or ObjectReader belongs to one at a time
// (ObjectReader::read may be called from several).
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/world.h"

namespace kuramori {

struct ObjectInfo {
  std::string name;
  uint64_t size = 0;              // bytes
  std::optional<Time> stored_at;  // by the store's clock, where it has one
  std::string storage_class;      // "STANDARD_IA", "GLACIER"; "" where the store has none or does not say
};

struct ListPage {
  std::vector<ObjectInfo> objects;  // in byte order of their names
  bool more = false;                // ask again with `after` = the last name
};

// A large object on its way. It exists only once commit() has returned; destroyed before, it leaves nothing.
class ObjectWriter {
 public:
  virtual ~ObjectWriter() = default;
  virtual Result<void> append(ByteView bytes) = 0;
  virtual Result<void> commit() = 0;  // kExists if the name is taken
};

class ObjectReader {
 public:
  virtual ~ObjectReader() = default;
  virtual uint64_t size() const = 0;
  // Fills all of `out` from `offset`; a shorter object is kDamaged, never a short read.
  virtual Result<void> read(uint64_t offset, MutableByteView out) = 0;
  // Reads in order from `offset` on will come: where every read is a round trip, the first `bytes` of them
  // may be on their way meanwhile. Advice alone.
  virtual void expect_stream(uint64_t /*offset*/, uint64_t /*bytes*/) {}
};

constexpr size_t kListPageMax = 1000;  // names a page

// --- what only some stores can do: a Store answers nullptr where it cannot --------------------------------

// Objects that nobody can remove before a date (S3 Object Lock, compliance). kRefused from a method: this
// place was made without it.
class Retention {
 public:
  virtual ~Retention() = default;
  // nullopt: nothing keeps it. kNotFound: there is no such object.
  virtual Result<std::optional<Time>> retained_until(std::string_view name) = 0;
  // Extends only: what is retained longer already stays so, and that succeeds.
  virtual Result<void> retain_until(std::string_view name, Time until) = 0;
  // A hold has no end and goes when it is taken off.
  virtual Result<bool> legal_hold(std::string_view name) = 0;
  virtual Result<void> set_legal_hold(std::string_view name, bool on) = 0;
};

// A name in a versioned place may have been put again or marked as deleted, by whoever could: what was there
// before is still there, and a reader whose digest does not fit looks for it here.
struct ObjectVersion {
  std::string name;
  std::string id;
  uint64_t size = 0;  // bytes
  std::optional<Time> stored_at;
  bool latest = false;
  bool delete_marker = false;  // not an object: it hides those before it
};
class Versions {
 public:
  virtual ~Versions() = default;
  // Of exactly this name, newest first; empty when it never was.
  virtual Result<std::vector<ObjectVersion>> versions(std::string_view name) = 0;
  // Every name under `prefix` that is or was there, in byte order: one look instead of one a name.
  virtual Result<std::vector<std::string>> names_ever(std::string_view prefix) = 0;
  virtual Result<Bytes> get_version(std::string_view name, std::string_view id) = 0;  // whole
  virtual Result<std::unique_ptr<ObjectReader>> open_version(std::string_view name, std::string_view id) = 0;
  // kDenied: it is retained.
  virtual Result<void> remove_version(std::string_view name, std::string_view id) = 0;
};

// Storage classes whose objects must be thawed before they can be read. Reading one that is not: kRefused.
class Tiers {
 public:
  virtual ~Tiers() = default;
  enum class State { kReadable, kCold, kThawing };
  struct Tier {
    State state = State::kReadable;
    std::string storage_class;           // "STANDARD" where the store does not say
    std::optional<Time> readable_until;  // a thawed copy goes back then
  };
  virtual Result<Tier> tier(std::string_view name) = 0;
  enum class Speed { kBulk, kStandard, kExpedited };
  // Asks for a readable copy for this many days; asking again while it is on its way succeeds.
  virtual Result<void> thaw(std::string_view name, int days, Speed speed) = 0;
  // From now on nothing is put in a class that may be cold: what must be read back before it is believed.
  virtual void put_readable() = 0;
  // Moves what was put so to the class of its place, if that is another. Again: nothing. A locked place
  // leaves it: a move would make a second version, and the first stays until its lock ends.
  virtual Result<void> settle(std::string_view name) = 0;
};
// Classes that no store thaws: read at once, whatever they cost. "": the store has none.
bool is_read_at_once(std::string_view storage_class);

class Store {
 public:
  virtual ~Store() = default;
  virtual std::string location() const = 0;  // for messages: "/srv/vault", "s3://bucket/prefix"
  virtual Result<void> put_if_absent(std::string_view name, ByteView bytes) = 0;
  virtual Result<std::unique_ptr<ObjectWriter>> create(std::string_view name) = 0;
  virtual Result<std::unique_ptr<ObjectReader>> open(std::string_view name) = 0;
  virtual Result<Bytes> get(std::string_view name) = 0;  // whole; for small objects
  virtual Result<ObjectInfo> head(std::string_view name) = 0;
  // Names that start with `prefix` and sort after `after`, at most `limit` (≤ kListPageMax).
  virtual Result<ListPage> list(std::string_view prefix, std::string_view after, size_t limit) = 0;
  // Idempotent: removing what is not there succeeds. kDenied: it is retained. In a versioned place every
  // version goes: a removed object does not come back.
  virtual Result<void> remove(std::string_view name) = 0;

  virtual Retention* retention() { return nullptr; }
  virtual Versions* versions() { return nullptr; }
  virtual Tiers* tiers() { return nullptr; }
  // Throws away what writers began longer ago than `older_than` and neither finished nor gave up. Returns how
  // many.
  virtual Result<size_t> remove_unfinished(Duration older_than) {
    (void)older_than;
    return size_t{0};
  }
};

// Calls `visit(const ObjectInfo&) -> Result<void>` for every object under `prefix`, a page at a time.
template <class Visit>
Result<void> for_each_object(Store& store, std::string_view prefix, Visit&& visit) {
  std::string after;
  for (;;) {
    TRY_ASSIGN(ListPage page, store.list(prefix, after, kListPageMax));
    for (const ObjectInfo& object : page.objects) TRY(visit(object));
    if (!page.more) return {};
    if (page.objects.empty())
      return fail(ErrorKind::kFailed, "the store announced more names and listed none");
    after = page.objects.back().name;
  }
}

// Rules for names: 1–512 bytes of [A-Za-z0-9._=@-] and '/', no empty, "." or ".." part, no part that starts
// with '.', none longer than 255 bytes; kept by every store, so that a vault can move between them. Nobody
// uses a name that is also a folder of another ("a" beside "a/b"): a local store refuses the second.
Result<void> check_object_name(std::string_view name);
// What list() accepts: a prefix of some object's name ("", "packs/", "packs/3f"), a limit of 1 to
// kListPageMax.
Result<void> check_list_request(std::string_view prefix, size_t limit);

}  // namespace kuramori
