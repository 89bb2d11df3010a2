// Puts and reads of single objects, made certain.
//
// A put is repeated with *identical bytes* until the store gives a positive answer: a put whose outcome is
// unknown may land at any later time, and only identical bytes make that harmless. "Exists" is no answer yet:
// the object is read and compared, for it may be this put's own earlier try.
// A read never turns "could not be read" into "is not there": kNotFound is passed on only when the store said
// so, everything else is an error that stops whoever wanted to delete (V1, P68).
//
// Names here are those of docs/vault-format.md without an epoch. With two places this is where a name gets
// its place: what the ledger keeps goes there, under its epoch, everything else to the objects.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vault/protocol.h"

namespace kuramori {

constexpr int kPutAttemptsMax = 12;  // puts of one object before its outcome is reported as unknown
constexpr int kReadAttemptsMax = 6;  // gets, lists or removes before giving up
constexpr Duration kRetryPauseFirst = std::chrono::milliseconds(50);  // doubles each time …
constexpr Duration kRetryPauseMax = std::chrono::seconds(5);          // … up to this

// What stands at a name after a put.
struct PutResult {
  ObjectRef ref;                       // of what stands there
  std::optional<OpenedRecord> theirs;  // set when it is somebody else's
  bool ours() const { return !theirs; }
};

class RecordLog {
 public:
  explicit RecordLog(const Protocol& protocol) : protocol_(protocol) {}

  // Where an object stands, and under which name: the name that its record is bound to.
  struct Place {
    Store* store;
    std::string name;
    const AcceptedCommit* accepted = nullptr;  // an older ledger's commit: its mirror is all there is
  };
  Place place_of(std::string_view name) const;

  // Encodes `body` once, opens it again (a bit flipped in memory never reaches the vault) and puts it.
  // kUnknown: no positive answer in kPutAttemptsMax attempts; it may stand, or land later.
  Result<PutResult> put(RecordType type, std::string_view name, std::optional<ResourceId> scope,
                        ByteView body) const;
  // The same for bytes that are no record (a pack's). kRefused: other bytes stand at that name.
  Result<void> put_bytes(std::string_view name, ByteView bytes) const;
  // kNotFound only when the store answered so; kDamaged when it cannot be verified.
  Result<OpenedRecord> read(std::string_view name) const;
  // The same of an object that another record binds: one that opens and is not the one bound is passed by
  // where it stands behind, else kDamaged.
  Result<OpenedRecord> read_bound(const ObjectRef& ref, RecordType type) const;
  // read(), and it must be of `type`, else kDamaged.
  Result<OpenedRecord> read(std::string_view name, RecordType type) const;
  Result<Bytes> read_bytes(std::string_view name) const;
  // These will be read next, in this order; for speed alone.
  void expect(std::span<const std::string_view> names) const;
  // Every name under `prefix`, page after page; kDamaged when the store's order is broken.
  Result<std::vector<ObjectInfo>> list(std::string_view prefix) const;
  // The same, of the objects under their full names.
  Result<std::vector<ObjectInfo>> list_objects(const std::string& prefix) const;
  // kDenied (retained) is for the caller to judge.
  Result<void> remove(std::string_view name) const;
  // Two places: writes what the ledger holds at `name` into the objects, identical, until confirmed. One
  // place: nothing to do. kDamaged: the objects hold something else there.
  Result<void> mirror(std::string_view name) const;

  const Protocol& protocol() const { return protocol_; }

 private:
  enum class Put { kStored, kOthersBytes };
  Result<OpenedRecord> read_fitting(std::string_view name, const ObjectRef* bound) const;
  Result<Put> put_until_answered(const Place& place, ByteView bytes, Bytes& others) const;
  Result<Bytes> get_until_answered(const Place& place) const;
  Result<void> list_into(Store& store, const std::string& prefix, size_t strip,
                         std::vector<ObjectInfo>& all) const;
  void pause(int attempt) const;

  const Protocol& protocol_;
};

}  // namespace kuramori
